"""Packet sockets that share an interface by flow, and that outlive who reads them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from cable import (
    Cable,
    burst,
    cable,
    ethernet,
    everything,
    frames_until,
    obstacle,
    ready,
    send_stream,
    stream_of,
    sum16,
)

from aiomos._engine.errors import ConfigError
from aiomos._engine.interface import (
    InterfaceGroup,
    InterfaceSource,
    attach_interface,
    open_interface,
)

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=str(obstacle()))

TCP, UDP, ICMP, GRE = 6, 17, 1, 47


@pytest.fixture(scope="module")
def lab() -> Iterator[Cable]:
    with cable() as made:
        yield made


def group(lab: Cable, workers: int, **options: int) -> InterfaceGroup:
    with lab.near.entered():
        return InterfaceGroup("t0", workers, **options)


def attach(sockets: InterfaceGroup, index: int) -> InterfaceSource:
    """A reader in this process: of duplicates, for the source takes them over."""
    fd, state_fd = sockets.filenos(index)
    return attach_interface(os.dup(fd), os.dup(state_fd))


@contextlib.contextmanager
def readers(lab: Cable, workers: int) -> Iterator[list[InterfaceSource]]:
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(group(lab, workers))
        yield [stack.enter_context(attach(sockets, i)) for i in range(workers)]


# ---- the hash, plainly ---------------------------------------------------------------------------


def toeplitz(data: bytes) -> int:
    """As the definition has it: the key's window of 32 bits at each bit that is set."""
    key = int.from_bytes(b"\x6d\x5a" * 20, "big")
    result = 0
    for i in range(len(data) * 8):
        if data[i // 8] & (0x80 >> i % 8):
            result ^= (key >> (320 - 32 - i)) & 0xFFFFFFFF
    return result


def owner(hashed: bytes | None, workers: int) -> int:
    """Whose frame it is, by what of it is hashed; None: it is not IP."""
    return 0 if hashed is None else (toeplitz(hashed) & 127) % workers


def ipv4(dice: random.Random, protocol: int, *, fragment: int = 0, options: int = 0) -> bytes:
    header = bytearray(20 + 4 * options)
    header[0] = 0x45 + options
    header[6:8] = fragment.to_bytes(2, "big")
    header[8:10] = bytes([64, protocol])
    header[12:20] = dice.randbytes(8)
    header[20:] = b"\x01" * (4 * options)
    return bytes(header) + dice.randbytes(40)


def ipv6(dice: random.Random, protocol: int) -> bytes:
    return b"\x60\0\0\0\0\x28" + bytes([protocol, 64]) + dice.randbytes(32 + 40)


Case = tuple[bytes, bytes | None]


def cases(dice: random.Random) -> Iterator[Case]:
    """Frames, and what of each is hashed."""
    for protocol in (TCP, UDP):
        for options in (0, 1, 10):
            packet = ipv4(dice, protocol, options=options)
            ports = packet[20 + 4 * options :][:4]
            yield ethernet(packet, 0x0800), packet[12:20] + ports
            yield ethernet(b"\x00\x05\x08\x00" + packet, 0x8100), packet[12:20] + ports
        for fragment in (0x2000, 0x2010, 0x0010):
            packet = ipv4(dice, protocol, fragment=fragment)
            yield ethernet(packet, 0x0800), packet[12:20]
        packet = ipv4(dice, protocol, fragment=0x4000)  # "do not fragment" is no fragment
        yield ethernet(packet, 0x0800), packet[12:24]
        packet = ipv6(dice, protocol)
        yield ethernet(packet, 0x86DD), packet[8:44]
        yield ethernet(b"\x00\x05\x86\xdd" + packet, 0x88A8), packet[8:44]
    for protocol in (ICMP, GRE):
        packet = ipv4(dice, protocol)
        yield ethernet(packet, 0x0800), packet[12:20]
    for protocol in (0, 43, 44, 58, 60):  # extension headers, fragments among them, and ICMPv6
        packet = ipv6(dice, protocol)
        yield ethernet(packet, 0x86DD), packet[8:40]
    yield ethernet(dice.randbytes(60), 0x0806), None
    yield ethernet(dice.randbytes(60), 0x88CC), None


def test_toeplitz_known_answer() -> None:
    """Both halves are the same, and so are both directions."""
    there = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + (4321).to_bytes(2, "big") + b"\0\x50"
    back = there[4:8] + there[:4] + there[10:] + there[8:10]
    assert toeplitz(there) == toeplitz(back)
    assert toeplitz(there) >> 16 == toeplitz(there) & 0xFFFF
    assert toeplitz(b"\x80") == 0x6D5A6D5A


@pytest.mark.parametrize("side", ["far", "near"])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_each_frame_meets_its_owner_alone(lab: Cable, workers: int, side: str) -> None:
    dice = random.Random(workers)
    expected: Counter[tuple[int, bytes]] = Counter()
    with readers(lab, workers) as sources, lab.raw(side) as sender:
        for _ in range(20):
            for frame, hashed in cases(dice):
                sender.send(frame)
                tagged = frame[12:14] in (b"\x81\x00", b"\x88\xa8")
                kept = frame[:12] + frame[16:] if tagged and side == "far" else frame
                expected[owner(hashed, workers), kept] += 1
        seen = Counter((i, f.data) for i, s in enumerate(sources) for f in everything(s))
    assert seen == expected
    assert len({who for who, _ in seen}) == workers


@pytest.mark.parametrize("side", ["far", "near"])
def test_doubly_tagged_flow_meets_the_same_owner_in_both_directions(lab: Cable, side: str) -> None:
    dice = random.Random(9)
    expected: Counter[tuple[int, bytes]] = Counter()
    with readers(lab, 4) as sources, lab.raw(side) as sender:
        for _ in range(40):
            packet = ipv4(dice, TCP)
            sender.send(ethernet(b"\x00\x05\x81\x00\x00\x06\x08\x00" + packet, 0x88A8))
            expected[owner(packet[12:24], 4), packet] += 1
        seen = Counter((i, f.data[-60:]) for i, s in enumerate(sources) for f in everything(s))
    assert seen == expected


def test_flows_of_sockets_are_whole_on_one_worker(lab: Cable) -> None:
    lab.offloads(on=True)
    data = random.Random(4).randbytes(1 << 20)
    with readers(lab, 3) as sources:
        for port in range(7100, 7110):
            transfer = send_stream(lab, data, port)
            transfer.join()
            parts = [everything(source) for source in sources]
            (frames,) = [part for part in parts if part]
            assert stream_of(frames, port) == data


def test_two_groups_on_one_interface_each_sees_every_frame_once(lab: Cable) -> None:
    with readers(lab, 2) as some, readers(lab, 3) as others, lab.raw() as peer:
        sent = sorted(frame for frame, _ in cases(random.Random(13)) if frame[12] == 8)
        for frame in sent:
            peer.send(frame)
        for sources in (some, others):
            assert sorted(f.data for s in sources for f in everything(s)) == sent


def test_group_on_all_interfaces_each_frame_meets_its_owner(lab: Cable) -> None:
    dice = random.Random(12)
    expected: Counter[tuple[int, bytes]] = Counter()
    with lab.near.entered():
        sockets = InterfaceGroup("any", 2)
    with sockets, attach(sockets, 0) as first, attach(sockets, 1) as second, lab.raw() as peer:
        for _ in range(40):
            packet = ipv4(dice, UDP)
            peer.send(ethernet(packet, 0x0800))
            expected[owner(packet[12:24], 2), packet] += 1
        seen = Counter(
            (i, f.data[20:]) for i, s in enumerate((first, second)) for f in everything(s)
        )
    assert seen == expected


def test_link_lost_and_back_the_owners_are_the_same(lab: Cable) -> None:
    dice = random.Random(5)
    frames = [(f, h) for _ in range(5) for f, h in cases(dice) if f[12:14] == b"\x08\x00"]
    with readers(lab, 3) as sources, lab.raw() as peer:
        for _ in range(2):
            for frame, _ in frames:
                peer.send(frame)
            for i, source in enumerate(sources):
                wanted = [frame for frame, hashed in frames if owner(hashed, 3) == i]
                assert [frame.data for frame in everything(source)] == wanted
            lab.blink()


# ---- one after the other -------------------------------------------------------------------------

WORKER = """
import os, sys, time
from aiomos._engine.interface import attach_interface
source = attach_interface(int(sys.argv[1]), int(sys.argv[2]))
want, keep = int(sys.argv[3]), int(sys.argv[4])
seen = 0
deadline = time.monotonic() + 60
while seen < want and time.monotonic() < deadline:
    held = source.take(min(64, want - seen))
    seen += len(held)
    for frame in held[: len(held) if seen < want else len(held) - keep]:
        frame.release()
print(seen, flush=True)
time.sleep(1000)
"""


@contextlib.contextmanager
def worker(sockets: InterfaceGroup, index: int, want: int, keep: int) -> Iterator[int]:
    """A process that reads so many frames and gives back all but some; killed at the end."""
    fds = sockets.filenos(index)
    arguments = [str(n) for n in (*fds, want, keep)]
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=fds,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{want}\n"
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_killed_reader_successor_goes_on_where_it_stood(lab: Cable) -> None:
    sent = [ethernet(i.to_bytes(4, "big") * 20) for i in range(400)]
    with group(lab, 1) as sockets, lab.raw() as peer:
        for frame in sent[:150]:
            peer.send(frame)
        with worker(sockets, 0, 100, keep=7) as pid:
            assert sockets.stats()[0].reader == pid
        for frame in sent[150:]:
            peer.send(frame)
        assert sockets.stats()[0].reader == 0
        with attach(sockets, 0) as source:
            assert [frame.data for frame in everything(source)] == sent[100:]
            (stats,) = sockets.stats()
    assert (stats.recovered, stats.readers, stats.frames) == (7, 2, 400)
    assert stats.dropped_kernel == 0


@pytest.mark.parametrize("keep", [0, 1, 20])
def test_ring_full_while_nobody_reads_all_is_accounted_for(lab: Cable, keep: int) -> None:
    """The slots that the dead one had stop the kernel: until they are back, it drops."""
    with group(lab, 1, ring_bytes=1 << 16) as sockets, lab.raw() as peer:
        for _ in range(3):
            for i in range(20):
                peer.send(ethernet(bytes([i]) * 80))
            with worker(sockets, 0, 20, keep):
                pass
            for i in range(300):
                peer.send(ethernet(bytes([i % 256]) * 80))
            with attach(sockets, 0) as source:
                waiting = everything(source)
                assert [frame.data[14] for frame in waiting] == [
                    i % 256 for i in range(len(waiting))
                ]
                for i in range(10):
                    peer.send(ethernet(bytes([i]) * 80))
                assert len(everything(source)) == 10
        (stats,) = sockets.stats()
    assert stats.recovered == 3 * keep
    assert stats.frames + stats.dropped_kernel == 3 * 330
    assert stats.dropped_kernel > 0


def test_what_is_dropped_between_two_readers_is_the_next_ones(lab: Cable) -> None:
    def overfill(peer: socket.socket) -> None:
        for i in range(300):
            peer.send(ethernet(bytes([i % 256]) * 80))

    with group(lab, 1, ring_bytes=1 << 16) as sockets, lab.raw() as peer:
        told = []
        for settled in (False, True):
            fd, state_fd = map(os.dup, sockets.filenos(0))
            with attach_interface(fd, state_fd, settled=settled) as source:
                overfill(peer)
                told.append(source.stats().dropped_kernel)
                everything(source)
            if not settled:
                assert sockets.settle(0).dropped_kernel == told[0] > 0
                assert sockets.settle(0).dropped_kernel == 0
                overfill(peer)
                between = sockets.stats()[0].dropped_kernel - told[0]
        assert told[1] == sockets.settle(0).dropped_kernel > between > 0
        (stats,) = sockets.stats()
    assert stats.dropped_kernel == sum(told)
    assert stats.frames + stats.dropped_kernel == 900


@pytest.mark.parametrize("want", [5, 20])
def test_killed_amid_large_frames_their_copies_go_on_with_them(lab: Cable, want: int) -> None:
    lab.offloads(on=True)
    data = random.Random(6).randbytes(2 << 20)
    with group(lab, 1) as sockets:
        send_stream(lab, data, 7201).join()
        with worker(sockets, 0, want, keep=2):
            pass
        with attach(sockets, 0) as source:
            seen = everything(source)
            assert all(len(frame.data) == frame.wire_len for frame in seen)
            assert max(len(frame.data) for frame in seen) > 30_000
            assert sockets.stats()[0].cut == 0
            send_stream(lab, data, 7202).join()
            assert stream_of(everything(source), 7202) == data


def test_copy_lost_with_its_reader_only_its_own_frame_is_cut(lab: Cable) -> None:
    """As if a reader died between taking a copy and noting that it had."""
    lab.offloads(on=True)
    data = random.Random(8).randbytes(1 << 20)
    with group(lab, 1) as sockets:
        send_stream(lab, data, 7203).join()
        lost = os.read(sockets.filenos(0)[0], 1 << 20)
        with attach(sockets, 0) as source:
            seen = everything(source)
            cut = [frame for frame in seen if len(frame.data) < frame.wire_len]
            assert sockets.stats()[0].cut == 1
    assert [(frame.wire_len, lost[: len(frame.data)]) for frame in cut] == [
        (len(lost), cut[0].data)
    ]


def test_other_workers_flows_do_not_move_while_one_is_dead(lab: Cable) -> None:
    dice = random.Random(10)
    frames = [(f, h) for _ in range(10) for f, h in cases(dice) if f[12:14] == b"\x08\x00"]
    shares = [[f for f, h in frames if owner(h, 2) == i] for i in range(2)]
    with group(lab, 2) as sockets, attach(sockets, 1) as other, lab.raw() as peer:
        for frame in shares[0][:1]:
            peer.send(frame)
        with worker(sockets, 0, 1, keep=0):
            pass
        for frame, _ in frames:
            peer.send(frame)
        assert [frame.data for frame in everything(other)] == shares[1]
        with attach(sockets, 0) as successor:
            assert [frame.data for frame in everything(successor)] == shares[0]


def test_second_reader_is_refused(lab: Cable) -> None:
    with group(lab, 1) as sockets:
        with worker(sockets, 0, 0, keep=0) as pid, pytest.raises(ConfigError, match=str(pid)):
            attach(sockets, 0)
        with attach(sockets, 0), pytest.raises(ConfigError, match=str(os.getpid())):
            attach(sockets, 0)
        attach(sockets, 0).close()


def test_reader_closed_in_order_leaves_nothing_to_recover(lab: Cable) -> None:
    with group(lab, 1) as sockets, lab.raw() as peer:
        for _ in range(2):
            for _ in range(20):
                peer.send(ethernet(bytes(60)))
            with attach(sockets, 0) as source:
                assert len(source.take()) == 20
        (stats,) = sockets.stats()
    assert (stats.recovered, stats.frames, stats.reader) == (0, 40, 0)


@pytest.mark.parametrize("workers", [0, 257])
def test_impossible_number_of_workers_is_refused(lab: Cable, workers: int) -> None:
    with pytest.raises(ConfigError, match="1 to 256"):
        group(lab, workers)


def test_not_a_socket_is_refused(lab: Cable) -> None:
    with group(lab, 1) as sockets, open(os.devnull, "rb") as null:
        fd = sockets.filenos(0)[0]
        with pytest.raises(ConfigError, match="state"):
            attach_interface(fd, null.fileno())


# ---- sending -------------------------------------------------------------------------------------


def test_sent_frames_arrive_and_are_not_seen_by_who_sent_them(lab: Cable) -> None:
    with lab.near.entered():
        sockets = InterfaceGroup("t0", 1, transmit=True)
    with sockets, attach(sockets, 0) as source, lab.raw() as peer, lab.far.entered():
        with open_interface("p0", direction="in") as there:
            for i in range(10):
                peer.send(ethernet(bytes([i]) * 60))
            held = source.take()
            assert source.transmit(0, held) == 10
            assert [frame.data for frame in everything(there)] == [frame.data for frame in held]
            assert source.stats().transmitted == 10
            for frame in held:
                frame.release()
            assert everything(source) == []


def test_large_frames_are_sent_as_segments_with_right_checksums(lab: Cable) -> None:
    """What one tap saw leave in 64 KiB frames goes over another cable in what fits it."""
    lab.offloads(on=True)
    data = random.Random(11).randbytes(1 << 20)
    with contextlib.ExitStack() as stack:
        second = stack.enter_context(contextlib.ExitStack())
        lab.link("add", "t1", "type", "veth", "peer", "name", "p1")
        second.callback(lab.link, "delete", "t1")
        for name in ("t1", "p1"):
            lab.link("set", name, "up")
            lab.near.do(
                "ethtool", "-K", name, "tso", "off", "gso", "off", "tx", "off", "gro", "off"
            )
        source = stack.enter_context(lab.tap(direction="out", transmit=True))
        out = stack.enter_context(lab.tap("t1", transmit=True))
        there = stack.enter_context(lab.tap("p1"))
        transfer = send_stream(lab, data, 7301)
        seen = []
        while transfer.is_alive() or ready(source):
            for frame in source.take():
                kept = frame.retain()
                frame.release()
                while not out.transmit(0, [kept]):
                    time.sleep(0.001)
                kept.release()
            seen += burst(there)
        seen += everything(there)
    assert max(len(frame.data) for frame in seen) <= 1514
    assert stream_of(seen, 7301) == data
    assert all(sum16(frame.data) == 0xFFFF for frame in seen)


def test_reading_only_source_does_not_send(lab: Cable) -> None:
    with lab.tap() as source, lab.raw() as peer:
        peer.send(ethernet(bytes(60)))
        held = source.take()
        with pytest.raises(OSError, match="reading only"):
            source.transmit(0, held)
        assert frames_until(source, lambda _: True) == []
        for frame in held:
            frame.release()
