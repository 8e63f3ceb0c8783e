"""Holds on frames: retain and release in any order, what they keep alive, what they cost."""

from __future__ import annotations

import gzip
import random
import struct
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.source import HeldFrame, MemorySource, Source, open_files

N = 600


def content(i: int) -> bytes:
    return random.Random(i).randbytes(i * 7 % 900)


def capture() -> bytes:
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for i in range(N):
        data = content(i)
        records.append(struct.pack("<IIII", 1000, i, len(data), len(data)) + data)
    return b"".join(records)


def number(frame: HeldFrame) -> int:
    return (frame.raw.time_ns - 1000 * 10**9) // 1000


@pytest.fixture(params=["file", "gzip", "merge", "memory", "segments", "ring"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    path = tmp_path / "in.pcap"
    path.write_bytes(gzip.compress(capture()) if request.param == "gzip" else capture())
    if request.param in ("file", "gzip"):
        return open_files(path, window_size=2000)
    if request.param == "merge":
        empty = tmp_path / "empty.pcap"
        empty.write_bytes(capture()[:24])
        return open_files([path, empty], window_size=2000)
    return MemorySource(
        [(content(i), 1000 * 10**9 + i * 1000) for i in range(N)],
        segment_seed=99 if request.param == "segments" else 0,
        ring=request.param == "ring",
    )


def test_frames_held_in_random_order_stay_whole(source: Source) -> None:
    rng = random.Random(5)
    held: list[HeldFrame] = []
    seen = 0
    with source:
        while burst := source.take(rng.randrange(1, 64)):
            seen += len(burst)
            for frame in burst:
                held += [frame.retain() for _ in range(rng.choice([0, 0, 0, 1, 2]))]
            rng.shuffle(burst)
            if source.ring:
                for frame in burst:
                    frame.release()
            else:
                held += burst
            for frame in rng.sample(held, len(held) // 2):
                if rng.random() < 0.3:
                    held.append(frame.retain())
            rng.shuffle(held)
            for frame in held[len(held) // 2 :]:
                assert frame.data == content(number(frame))
                frame.release()
            del held[len(held) // 2 :]
            assert source.stats().outstanding == len(held)
        assert seen == N
        for frame in held:
            assert frame.data == content(number(frame))
            frame.release()
        assert source.stats().outstanding == 0


def test_close_frees_frames_still_held(source: Source) -> None:
    frames = source.take()
    extra = [frame.retain() for frame in frames[:10]]
    source.close()
    assert source.stats().outstanding == len(frames) + len(extra)
    with pytest.raises(SourceError, match="closed"):
        frames[0].release()


def test_hold_on_a_hold_of_a_ring_costs_nothing(tmp_path: Path) -> None:
    with MemorySource([b"x" * 200], ring=True, retain_budget=256) as source:
        (frame,) = source.take()
        first = frame.retain()
        with pytest.raises(SourceError, match="budget"):
            frame.retain()
        again = [first.retain() for _ in range(50)]
        assert source.stats().dropped_pool == 1
        for hold in [frame, first, *again]:
            assert hold.data == b"x" * 200
            hold.release()
        assert source.stats().outstanding == 0


def test_retain_budget_used_up_refuses_and_recovers() -> None:
    frames = [b"y" * 256] * 64
    with MemorySource(frames, ring=True, retain_budget=10 * 256) as source:
        burst = source.take()
        held = []
        for frame in burst:
            try:
                held.append(frame.retain())
            except SourceError:
                assert frame.data == b"y" * 256
        assert len(held) == 10
        assert source.stats().dropped_pool == 54
        held.pop().release()
        held.append(burst[0].retain())
        for frame in burst + held:
            frame.release()
        assert source.stats().outstanding == 0


def test_retain_budget_is_shared_by_all_sizes() -> None:
    with MemorySource([b"a" * 256] * 4 + [b"b" * 1024], ring=True, retain_budget=1024) as source:
        burst = source.take()
        small = [frame.retain() for frame in burst[:4]]
        with pytest.raises(SourceError, match="budget"):
            burst[4].retain()
        for hold in small:
            hold.release()
        assert burst[4].retain().data == b"b" * 1024


def test_ring_refuses_a_burst_while_frames_are_out() -> None:
    with MemorySource([b"1", b"2"], ring=True) as source:
        (frame,) = source.take(1)
        hold = frame.retain()
        assert source.take() == []
        assert source.result == -7
        assert "not released" in source.message
        frame.release()
        assert [f.data for f in source.take()] == [b"2"]
        assert hold.data == b"1"


def test_file_retain_copies_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(capture())
    with open_files(path, retain_budget=1) as source:
        assert not source.ring
        holds = [frame.retain() for frame in source.take()]
        assert len(holds) == 64
        assert source.stats().dropped_pool == 0


def test_released_frame_cannot_be_used() -> None:
    with MemorySource([b"1"]) as source:
        (frame,) = source.take()
        frame.release()
        with pytest.raises(SourceError, match="released"):
            frame.data
        with pytest.raises(SourceError, match="released"):
            frame.release()
