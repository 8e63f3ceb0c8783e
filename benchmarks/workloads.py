"""The traffic of the benchmarks' captures: who says what, in which order, at what time.

Time steps are a few dozen microseconds, so that a capture spans less than a minute and no tool's
idle expiry takes part.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from benchmarks.capture_file import Writer
from benchmarks.frames import ACK, FIN, MSS_STAMPED, PSH, SYN, Payload, Side, connect

_EPOCH_US = 1_700_000_000_000_000
_SERVERS = 256
_CLIENT_PORTS = 40_000
_LAG = 100


@dataclass
class Truth:
    """What a capture holds, as its generator counted it."""

    workload: str
    connections: int = 0
    packets: int = 0
    handshake_packets: int = 0
    client_bytes: int = 0
    server_bytes: int = 0
    peak_live: int = 0
    seconds: float = 0.0

    @property
    def payload_bytes(self) -> int:
        return self.client_bytes + self.server_bytes

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "payload_bytes": self.payload_bytes}


class Tape:
    """A capture being recorded: the file, the clock and the random numbers."""

    def __init__(self, writer: Writer, truth: Truth, seed: int, mean_step_us: int) -> None:
        self.random = random.Random(seed)
        self.truth = truth
        self._writer = writer
        self._now = _EPOCH_US
        self._steps = [self.random.randint(1, 2 * mean_step_us - 1) for _ in range(4099)]

    @property
    def milliseconds(self) -> int:
        """The senders' clock, as TCP time stamps carry it."""
        return (self._now - _EPOCH_US) // 1000 + 1_000_000

    def record(self, frame: bytes) -> None:
        """Write one frame a little later than the one before."""
        self._now += self._steps[self._writer.packets % 4099]
        self._writer.write(frame, self._now)

    def finish(self) -> Truth:
        self.truth.packets = self._writer.packets
        self.truth.seconds = (self._now - _EPOCH_US) / 1e6
        return self.truth


def open_connection(tape: Tape, number: int) -> tuple[Side, Side]:
    """Sides of connection ``number``; no two numbers below 2**24 share a client address."""
    address = 0x0A000000 + (number * 40_503) % 0x1000000
    client = address, 1024 + number % _CLIENT_PORTS
    server = 0xC0A80000 + number % _SERVERS, (80, 8080)[number % 2]
    tape.truth.connections += 1
    bits = tape.random.getrandbits
    return connect(client, server, (bits(32), bits(32)))


def handshake(tape: Tape, client: Side, server: Side) -> Iterator[bytes]:
    """SYN, SYN-ACK, ACK, each made when it is asked for."""
    yield client.send_syn(SYN, tape.milliseconds)
    yield server.send_syn(SYN | ACK, tape.milliseconds)
    yield client.send_stamped(ACK, tape.milliseconds)


def transfer(tape: Tape, sender: Side, parts: list[Payload]) -> Iterator[bytes]:
    """Segments from ``sender``, every second one and the last acknowledged."""
    for index, part in enumerate(parts, 1):
        last = index == len(parts)
        yield sender.send_stamped(PSH | ACK if last else ACK, tape.milliseconds, part)
        if last or index % 2 == 0:
            yield sender.peer.send_stamped(ACK, tape.milliseconds)


def teardown(tape: Tape, first: Side) -> Iterator[bytes]:
    """FIN, FIN and the last ACK, ``first`` closing first."""
    yield first.send_stamped(FIN | ACK, tape.milliseconds)
    yield first.peer.send_stamped(FIN | ACK, tape.milliseconds)
    yield first.send_stamped(ACK, tape.milliseconds)


def _texts(rng: random.Random, count: int, low: int, high: int) -> list[Payload]:
    start = b"GET /index HTTP/1.1\r\nHost: www.example.org\r\nCookie: "
    sizes = [rng.randint(low, high) for _ in range(count)]
    return [Payload.of((start + rng.randbytes(high).hex().encode())[:size]) for size in sizes]


class ShortConnections:
    """Request of about 200 bytes, response of one to four segments, orderly close."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._requests = _texts(tape.random, 64, 120, 280)
        self._ends = _texts(tape.random, 256, 40, MSS_STAMPED)
        self._full = _texts(tape.random, 64, MSS_STAMPED, MSS_STAMPED)

    def one(self, number: int) -> Iterator[bytes]:
        """The frames of one connection, each made when it is asked for."""
        tape, choose = self._tape, self._tape.random.choice
        client, server = open_connection(tape, number)
        request = choose(self._requests)
        response = [choose(self._full) for _ in range(tape.random.randrange(4))]
        response.append(choose(self._ends))
        tape.truth.client_bytes += len(request.data)
        tape.truth.server_bytes += sum(len(part.data) for part in response)
        yield from handshake(tape, client, server)
        yield from transfer(tape, client, [request])
        yield from transfer(tape, server, response)
        yield from teardown(tape, server)


def interleave(tape: Tape, fresh: Iterator[Iterator[bytes]], width: int) -> None:
    """Record packets of ``width`` conversations in random order, a fresh one for each that ends."""
    live: list[Iterator[bytes]] = []
    pick = tape.random.random
    while True:
        while len(live) < width and (one := next(fresh, None)) is not None:
            live.append(one)
        if not live:
            return
        index = int(pick() * len(live))
        frame = next(live[index], None)
        if frame is None:
            live[index] = live[-1]
            live.pop()
        else:
            tape.record(frame)


def short(writer: Writer, seed: int, packets: int, width: int = 1000) -> Truth:
    """At least ``packets`` packets of short connections, ``width`` of them open at any time."""
    step_us = max(2, min(35, 50_000_000 // packets))
    tape = Tape(writer, Truth("short", peak_live=width), seed, step_us)
    made = ShortConnections(tape)

    def fresh() -> Iterator[Iterator[bytes]]:
        number = 0
        while writer.packets < packets:
            yield made.one(number)
            number += 1

    interleave(tape, fresh(), width)
    return tape.finish()


def live(writer: Writer, seed: int, flows: int, data_packets: int) -> Truth:
    """``flows`` connections are opened; then frames of 64 bytes pick them at random.

    On each connection the sides take turns, and either may begin.
    """
    step_us = max(2, min(35, 50_000_000 // (3 * flows + data_packets)))
    tape = Tape(writer, Truth(f"live-{flows}", peak_live=flows), seed, step_us)
    payload, pick = Payload.of(b"0123456789"), tape.random.random
    clients = _open_all(tape, flows)
    tape.truth.handshake_packets = writer.packets
    sides = [client if pick() < 0.5 else client.peer for client in clients]
    for _ in range(data_packets):
        flow = int(pick() * flows)
        sender = sides[flow]
        sides[flow] = sender.peer
        tape.record(sender.send(PSH | ACK, payload))
        if sender.is_client:
            tape.truth.client_bytes += len(payload.data)
    tape.truth.server_bytes = len(payload.data) * data_packets - tape.truth.client_bytes
    return tape.finish()


def _open_all(tape: Tape, flows: int) -> list[Side]:
    """Record ``flows`` handshakes, up to 200 under way at a time; return the clients."""
    clients: list[Side] = []
    waiting: deque[Iterator[bytes]] = deque()
    for number in range(flows):
        client, server = open_connection(tape, number)
        clients.append(client)
        tape.record(client.send_syn(SYN, None))
        waiting.append(_finish_handshake(client, server))
        if number >= _LAG:
            tape.record(next(waiting[-1 - _LAG]))
        if number >= 2 * _LAG:
            tape.record(next(waiting.popleft()))
    for frames in waiting:
        for frame in frames:
            tape.record(frame)
    return clients


def _finish_handshake(client: Side, server: Side) -> Iterator[bytes]:
    yield server.send_syn(SYN | ACK, None)
    yield client.send(ACK)


def bulk(writer: Writer, seed: int, packets: int, width: int = 8) -> Truth:
    """``width`` large downloads side by side, about ``packets`` packets in all."""
    tape = Tape(writer, Truth("bulk", peak_live=width), seed, 20)
    full = _texts(tape.random, 64, MSS_STAMPED, MSS_STAMPED)
    segments = max(1, packets * 2 // (3 * width))
    interleave(tape, (_download(tape, number, full, segments) for number in range(width)), width)
    return tape.finish()


def _download(tape: Tape, number: int, full: list[Payload], segments: int) -> Iterator[bytes]:
    client, server = open_connection(tape, number)
    parts = tape.random.choices(full, k=segments)
    tape.truth.server_bytes += sum(len(part.data) for part in parts)
    yield from handshake(tape, client, server)
    yield from transfer(tape, server, parts)
    yield from teardown(tape, server)


def hole(writer: Writer, seed: int, segments: int, apart: int) -> Truth:
    """A client of which the first byte is missing and ``segments`` segments of ten bytes follow,
    with ``apart`` more bytes missing between each two; its server is not seen."""
    tape = Tape(writer, Truth(f"hole-{segments}", peak_live=1), seed, 2)
    client, _ = open_connection(tape, 0)
    payload = Payload.of(b"0123456789")
    tape.record(client.send(PSH | ACK, payload))
    client.seq += 1
    for _ in range(segments):
        tape.record(client.send(PSH | ACK, payload))
        client.seq = (client.seq + apart) & 0xFFFFFFFF
    tape.truth.client_bytes = len(payload.data) * (segments + 1)
    return tape.finish()


def empty(writer: Writer, seed: int) -> Truth:
    """No packet at all: what is left is a program's start."""
    return Tape(writer, Truth("empty"), seed, 2).finish()
