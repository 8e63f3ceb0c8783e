"""Frames for tests: the builders of aiomos.testing.frames, and link layers that users need not make.

Below them stands `Talk`, a TCP conversation: it counts sequence numbers for both
ends, and positions in it are stream offsets (0 is the first byte after the SYN), so that a
test reads like what the two ends say.
"""

# ruff: noqa: F401  (names for those that import this module)

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiomos.testing.frames import (
    ACK,
    ARP,
    FIN,
    ICMP,
    IP4,
    IP6,
    MAC,
    PSH,
    QINQ,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    VLAN,
    address,
    checksum,
    ethernet,
    extension,
    fragment6,
    ipv4,
    ipv6,
    mss,
    padded,
    sack_permitted,
    tags,
    tcp,
    timestamp,
    udp,
    window_scale,
)

CLIENT, SERVER = 0, 1
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START = 1_700_000_000 * SECOND


# ---- what aiomos.testing has not ---------------------------------------------


def snap(payload: bytes, kind: int = IP4, oui: bytes = b"\0\0\0") -> bytes:
    """IEEE 802.3 with an 802.2 SNAP header (RFC 1042)."""
    body = b"\xaa\xaa\x03" + oui + struct.pack(">H", kind) + payload
    return MAC[1] + MAC[0] + struct.pack(">H", len(body)) + body


def cooked(payload: bytes, kind: int = IP4) -> bytes:
    """LINUX_SLL (113)."""
    return struct.pack(">HHH8sH", 0, 1, 6, MAC[0] + b"\0\0", kind) + payload


def cooked2(payload: bytes, kind: int = IP4) -> bytes:
    """LINUX_SLL2 (276)."""
    return struct.pack(">HHIHBB8s", kind, 0, 3, 1, 0, 6, MAC[0] + b"\0\0") + payload


def authentication(words: int = 4) -> tuple[int, bytes]:
    """AH (RFC 4302): its length counts 4-byte words, less two."""
    return 51, bytes([words - 2]) + b"\0" * (4 * words - 2)


def frame(segment: bytes, ends: tuple[str, str], protocol: int, **link: Any) -> bytes:
    """An Ethernet frame around a transport segment; IPv6 if the addresses are."""
    if ":" in ends[0]:
        return ethernet(ipv6(segment, *ends, protocol), IP6, **link)
    return ethernet(ipv4(segment, *ends, protocol), IP4, **link)


def datagram(
    payload: bytes,
    src: tuple[str, int] = ("10.0.0.1", 5000),
    dst: tuple[str, int] = ("10.0.0.2", 53),
    **link: Any,
) -> bytes:
    ends = src[0], dst[0]
    return frame(udp(src[1], dst[1], payload, ends=ends), ends, UDP, **link)


# ---- a conversation ---------------------------------------------------------


class End:
    """What one end of a conversation has said so far."""

    def __init__(self, host: str, port: int, isn: int) -> None:
        self.host = host
        self.port = port
        self.isn = isn
        self.window = 65535
        self.sent = 0  # stream offset behind the last byte sent, FIN counted

    def number(self, offset: int) -> int:
        """Sequence number of a stream offset; the SYN stands at -1."""
        return (self.isn + 1 + offset) & 0xFFFFFFFF


class Talk:
    """Two ends of a TCP connection, whose frames go to ``sink(frame, time_ns)``.

    Every frame is one millisecond later than the one before it.
    """

    def __init__(
        self,
        sink: Callable[[bytes, int], object],
        *,
        client: tuple[str, int] = ("10.0.0.1", 40000),
        server: tuple[str, int] = ("10.0.0.2", 80),
        isn: tuple[int, int] = (1000, 500_000),
        at: int = START,
    ) -> None:
        self.sink = sink
        self.ends = End(*client, isn[0]), End(*server, isn[1])
        self.now = at
        self.step = MILLISECOND

    # -- frames --

    def segment(
        self,
        side: int,
        flags: int,
        data: bytes = b"",
        *,
        at: int | None = None,
        ack: int | None = None,
        window: int | None = None,
        options: bytes = b"",
    ) -> bytes:
        """A frame of `side`; `at` and `ack` are stream offsets of the sender and its peer."""
        snd, rcv = self.ends[side], self.ends[1 - side]
        offset = snd.sent if at is None else at
        if flags & SYN and at is None:
            offset = -1
        length = len(data) + bool(flags & FIN)
        if not flags & RST:
            snd.sent = max(snd.sent, offset + bool(flags & SYN) + length)
        hosts = snd.host, rcv.host
        body = tcp(
            snd.port,
            rcv.port,
            snd.number(offset),
            rcv.number(rcv.sent if ack is None else ack) if flags & ACK else 0,
            flags,
            data,
            window=snd.window if window is None else window,
            options=options,
            ends=hosts,
        )
        return frame(body, hosts, TCP)

    def say(self, side: int, flags: int, data: bytes = b"", **fields: Any) -> None:
        self.give(self.segment(side, flags, data, **fields))

    def give(self, raw: bytes) -> None:
        """Hands over a frame that was made before."""
        self.sink(raw, self.now)
        self.now += self.step

    # -- the usual words --

    def c(self, data: bytes = b"", flags: int = ACK, **fields: Any) -> None:
        """The client sends: data, or an acknowledgement."""
        self.say(CLIENT, flags, data, **fields)

    def s(self, data: bytes = b"", flags: int = ACK, **fields: Any) -> None:
        """The server sends."""
        self.say(SERVER, flags, data, **fields)

    def skip(self, side: int, n: int) -> None:
        """The side sends n bytes that nobody captures."""
        self.ends[side].sent += n

    def handshake(self, options: tuple[bytes, bytes] = (b"", b"")) -> None:
        self.c(flags=SYN, options=options[0])
        self.s(flags=SYN | ACK, options=options[1])
        self.c()

    def close(self, first: int = CLIENT) -> None:
        """Both ends say FIN and acknowledge the other's."""
        self.say(first, FIN | ACK)
        self.say(1 - first, FIN | ACK)
        self.say(first, ACK)

    def count_anew(self, side: int, isn: int) -> None:
        """What this end sends from now on counts from another initial sequence number."""
        self.ends[side].isn = isn
        self.ends[side].sent = 0

    def rest(self, seconds: float) -> None:
        """Lets time go by before the next frame."""
        self.now += round(seconds * SECOND)


def exchange(driver: Any, talk: Talk, number: int = 0) -> None:
    """Data both ways arrives, and nothing else."""
    log = driver.flows[number]
    talk.c(b"request")
    talk.s(b"response")
    talk.c()
    assert log.items == ([b"request"], [b"response"])
    assert log.states == ("ESTABLISHED", "ESTABLISHED")


def whole(items: Sequence[Any], start: int = 0) -> bool:
    """Whether bytes and gaps of a side follow each other without a seam."""
    for item in items:
        if isinstance(item, tuple) and item[0] != start:
            return False
        start += item[1] if isinstance(item, tuple) else len(item)
    return True


def merged(items: Sequence[Any]) -> list[Any]:
    """Neighbouring gaps of one cause as one: a reader that was there meets each by itself."""
    out: list[Any] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, tuple) and isinstance(last, tuple) and item[2] == last[2]:
            out[-1] = (last[0], last[1] + item[1], last[2])
        else:
            out.append(item)
    return out


def assert_idle(driver: Any) -> None:
    """Ends everything and lets it linger out: then nothing may be held any more."""
    driver.close_all()
    driver.forget()
    driver.tick(round(driver.core.now * SECOND) + 2 * 3600 * SECOND)
    held = driver.usage()
    names = ("flows", "flow_entries", "timers", "blocks", "buffer_bytes")
    assert {name: held[name] for name in names} == dict.fromkeys(names, 0)
    for log in driver.flows:
        for side in (CLIENT, SERVER):
            items = log.items[side]
            if items and log.start:
                first = items[0][0] if isinstance(items[0], tuple) else log.start[side]
                assert whole(items, min(first, log.start[side]))
