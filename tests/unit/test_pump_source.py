"""The receive thread: a source emptied into a ring, whatever its consumer does."""

from __future__ import annotations

import select
import struct
import threading
import time
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.rings import Ring, RingWriter, join_sources, pump_source, ring_source
from aiomos._engine.source import MemorySource, RawFrame, Source, open_files, read_all

FRAMES = 60_000


def frames(count: int) -> list[RawFrame]:
    return [RawFrame(b"%d" % i * (i % 90), 10**18 + i, 9 * 90, 101, i % 3, 1) for i in range(count)]


def receiving_threads() -> list[Path]:
    return [
        task
        for task in Path("/proc/self/task").iterdir()
        if (task / "comm").read_text().strip() == "aiomos-receive"
    ]


def drain(source: Source, *, pause_after: int = 0) -> list[int]:
    """The numbers in all frames, in order, waiting for the descriptor where there is
    nothing; a pause of 200 ms after the first so many."""
    numbers: list[int] = []
    while source.result == 0:
        burst = source.take()
        for frame in burst:
            numbers.append(int.from_bytes(frame.data[:4], "big"))
            frame.release()
        if pause_after and len(numbers) >= pause_after:
            time.sleep(0.2)
            pause_after = 0
        if len(burst) < 64 and source.result == 0:
            assert select.select([source.fileno()], [], [], 60)[0], "nobody rang"
    return numbers


class Producer(threading.Thread):
    """Pushes numbered frames as fast as the ring before the pump takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring.create(1 << 20)
        self.source = ring_source(self.ring, end=True)
        self.start()

    def run(self) -> None:
        with RingWriter(self.ring) as writer:
            for number in range(FRAMES):
                while number % 32 == 0 and self.ring.stats().used > 1 << 19:
                    writer.publish()
                    time.sleep(0.0002)
                writer.push(number.to_bytes(4, "big") + bytes(96))
                if number % 32 == 31:
                    writer.publish()
            writer.end()


# ---- what comes out is what went in ------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"segment_seed": 5}, {"ring": True}], ids=str)
def test_everything_comes_out_and_then_the_end(options: dict[str, int]) -> None:
    given = frames(3000)
    memory = MemorySource(given, **options)  # type: ignore[arg-type]
    with pump_source(memory) as source:
        assert memory.closed
        assert (source.ring, source.live) == (True, False)
        assert read_all(source) == given
        assert source.result == -1
        stats = source.stats()
        assert (stats.frames, stats.dropped_ring, stats.queued) == (3000, 0, 0)
        assert stats.bytes == sum(len(frame.data) for frame in given)


def test_error_of_the_inner_source_comes_behind_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "broken.pcap"
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(header + struct.pack("<IIII", 1, 2, 1, 1) + b"x" + b"cut")
    with open_files(path) as plain, pytest.raises(SourceError) as expected:
        read_all(plain)
    with pump_source(open_files(path)) as source:
        assert read_all(source, check=False) == [RawFrame(b"x", 10**9 + 2, 1, 1)]
        assert source.result == -2
        assert source.message == str(expected.value)
        assert source.take() == []
        assert source.result == -2
        assert source.time_precision == 1
        assert source.stats().input_pos == plain.stats().input_pos


def test_frames_kept_outlive_the_next_bursts() -> None:
    given = frames(1000)
    with pump_source(MemorySource(given), ring_bytes=1 << 20, retain_budget=1 << 20) as source:
        kept = []
        while source.result == 0:
            for frame in source.take():
                kept.append(frame.retain())
                frame.release()
        assert [frame.raw for frame in kept] == given
        assert source.stats().outstanding == 1000


# ---- pauses of the consumer --------------------------------------------------------------


def test_pause_of_the_consumer_loses_nothing_in_a_large_ring() -> None:
    producer = Producer()
    with pump_source(producer.source) as source:
        assert source.live
        assert drain(source, pause_after=1000) == list(range(FRAMES))
        stats = source.stats()
        assert (stats.frames, stats.dropped_ring, stats.queued) == (FRAMES, 0, 0)
    producer.join()
    assert producer.ring.stats().released == FRAMES


def test_what_a_small_ring_loses_is_counted() -> None:
    producer = Producer()
    with pump_source(producer.source, ring_bytes=1 << 14) as source:
        producer.join()  # nobody takes anything: the ring is full long before
        numbers = drain(source)
        stats = source.stats()
        assert numbers[:50] == list(range(50))
        assert numbers == sorted(set(numbers))
        assert stats.queued == 0
        assert stats.dropped_ring > 0
        assert len(numbers) == stats.frames == FRAMES - stats.dropped_ring


def test_drops_of_the_kernel_and_of_the_ring_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "in.pcapng"
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
    drops = struct.pack("<HHQHH", 7, 8, 123, 0, 0)  # isb_osdrop
    statistics = struct.pack("<IIIII", 5, 40, 0, 0, 0) + drops + struct.pack("<I", 40)
    packet = struct.pack("<IIIIIII", 6, 96, 0, 0, 0, 64, 64) + bytes(64) + struct.pack("<I", 96)
    path.write_bytes(section + interface + packet * 200 + statistics)
    with pump_source(open_files(path), ring_bytes=4096) as source:
        while not source.stats().dropped_kernel:
            time.sleep(0.001)
        stats = source.stats()
        assert stats.dropped_kernel == 123
        assert (stats.queued, stats.dropped_ring) == (32, 168)
        assert len(read_all(source)) == 32


# ---- the thread --------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", ["descriptor", "nap"])
def test_close_ends_a_thread_that_waits(waiting: str) -> None:
    with Ring.create(4096) as ring:
        source = pump_source(ring_source(ring) if waiting == "descriptor" else MemorySource())
        assert len(receiving_threads()) == 1
        source.close()
        assert receiving_threads() == []


def test_dropped_source_ends_its_thread() -> None:
    source = pump_source(MemorySource())
    assert len(receiving_threads()) == 1
    del source
    assert receiving_threads() == []


def test_thread_takes_no_signals() -> None:
    with pump_source(MemorySource()):
        (task,) = receiving_threads()
        (line,) = [
            line for line in (task / "status").read_text().splitlines() if line[:7] == "SigBlk:"
        ]
        blocked = int(line.split()[1], 16)
        for signal in (1, 2, 10, 14, 15, 17):
            assert blocked >> (signal - 1) & 1


def test_consumer_sleeps_until_the_thread_rings() -> None:
    with Ring.create(1 << 16) as ring, RingWriter(ring) as writer:
        with pump_source(ring_source(ring)) as source:
            for number in range(200):
                assert source.take() == []
                writer.push(b"%d" % number)
                writer.publish()
                burst: list[bytes] = []
                while not burst:
                    assert select.select([source.fileno()], [], [], 60)[0], "nobody rang"
                    for frame in source.take(1):
                        burst.append(frame.data)
                        frame.release()
                assert burst == [b"%d" % number]


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_closing_gives_everything_back() -> None:
    before = descriptors()
    for _ in range(20):
        with Ring.create(4096) as ring, Ring.attach(ring.fileno(), ring.bell) as other:
            with RingWriter(other), join_sources([ring_source(ring)]) as joined:
                pump_source(joined, ring_bytes=4096).close()
                assert len(descriptors()) > len(before)
    assert descriptors() == before


# ---- sending -----------------------------------------------------------------------------


def test_source_that_can_be_sent_through_meanwhile_is() -> None:
    with pump_source(MemorySource(frames(10))) as source:
        held: list[object] = []
        while len(held) < 10:
            held += source.take()
        assert source.transmit(3, held) == 10  # type: ignore[arg-type]
        assert source.stats().transmitted == 10


def test_source_that_cannot_refuses() -> None:
    with pump_source(join_sources([MemorySource(frames(1))])) as source:
        while not (held := source.take()):
            pass
        with pytest.raises(SourceError, match="cannot send while a receive thread reads it"):
            source.transmit(0, held)


# ---- opening -----------------------------------------------------------------------------


def test_ring_too_large_is_refused_and_the_source_is_left() -> None:
    with MemorySource(frames(5)) as memory:
        with pytest.raises(SourceError, match="a ring of"):
            pump_source(memory, ring_bytes=1 << 40)
        assert [frame.raw for frame in memory.take()] == frames(5)
