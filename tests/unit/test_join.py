"""Several sources as one, frames as they come."""

from __future__ import annotations

import select
import struct
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.rings import Ring, RingWriter, join_sources, ring_source
from aiomos._engine.source import MemorySource, open_files, read_all


def numbered(part: int, count: int) -> list[bytes]:
    return [b"%d:%d" % (part, i) for i in range(count)]


def memory(part: int, count: int, **options: int) -> MemorySource:
    return MemorySource(numbered(part, count), **options)  # type: ignore[arg-type]


def cut_capture(path: Path, frames: list[bytes]) -> Path:
    """A capture that ends inside a record behind these frames."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    records += [struct.pack("<IIII", 1, 0, len(data), len(data)) + data for data in frames]
    path.write_bytes(b"".join(records) + b"cut")
    return path


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


# ---- taking and giving back --------------------------------------------------------------


def test_every_frame_comes_in_its_parts_order() -> None:
    counts = [300, 0, 7, 150]
    with join_sources([memory(i, n) for i, n in enumerate(counts)]) as joined:
        frames = read_all(joined)
        assert joined.result == -1
        for part, count in enumerate(counts):
            mine = [frame.data for frame in frames if frame.port == part]
            assert mine == numbered(part, count)
        assert len(frames) == sum(counts) == joined.stats().frames
        assert joined.stats().outstanding == 0


def test_parts_take_turns() -> None:
    with join_sources([memory(0, 640), memory(1, 640), memory(2, 5)]) as joined:
        turns = []
        while frames := joined.take():
            turns.append([frame.raw.port for frame in frames])
            for frame in frames:
                frame.release()
        assert turns[:3] == [[0] * 64, [1] * 64, [2] * 5 + [0] * 59]
        assert turns[3:5] == [[1] * 64, [0] * 64]


def test_ports_are_counted_on_and_one_too_high_is_shown_as_the_last() -> None:
    parts = []
    for _ in range(3):
        part = MemorySource()
        for port in (0, 1, 5):
            part.push(b"x", port=port)
        part.finish()
        parts.append(part)
    with join_sources(parts, ports=[2, 1, 6]) as joined:
        assert [frame.port for frame in read_all(joined)] == [0, 1, 1, 2, 2, 2, 3, 4, 8]


def test_frames_go_back_to_their_parts_in_any_order() -> None:
    parts = [memory(i, 40, segment_seed=i + 1) for i in range(3)]
    with join_sources(parts) as joined:
        held = [frame for _ in range(2) for frame in joined.take()]
        copies = [frame.retain() for frame in held[::3]]
        assert joined.stats().outstanding == 120 + 40 - (120 - len(held))
        for frame in (held + copies)[::-1]:
            part, _ = frame.data.split(b":")
            assert frame.raw.port == int(part)
            frame.release()
        assert joined.stats().outstanding == 0


def test_rings_among_the_parts_make_a_ring() -> None:
    with join_sources([memory(0, 3, ring=True), memory(1, 3)]) as joined:
        assert joined.ring
        held = [frame.retain() for frame in joined.take()]
        assert [frame.data for frame in held] == numbered(0, 3) + numbered(1, 3)
    with join_sources([memory(0, 3), memory(1, 3)]) as joined:
        assert not joined.ring


def test_joins_of_joins_find_their_frames() -> None:
    inner = [join_sources([memory(2 * i, 5), memory(2 * i + 1, 5)]) for i in range(2)]
    with join_sources(inner, ports=[2, 2]) as joined:
        frames = joined.take()
        for frame in frames[::-1]:
            part, _ = frame.data.split(b":")
            assert frame.raw.port == int(part)
            frame.retain().release()
            frame.release()
        assert len(frames) == 20
        assert joined.stats().outstanding == 0


def test_transmit_goes_to_the_part_that_has_the_port(tmp_path: Path) -> None:
    capture = open_files(cut_capture(tmp_path / "in", [b"x"]))
    with join_sources([capture, memory(1, 4)]) as joined:
        frames = joined.take()
        assert joined.transmit(1, frames) == len(frames) == 5
        assert joined.stats().transmitted == 5
        with pytest.raises(SourceError, match="takes no frames"):
            joined.transmit(0, frames)
        with pytest.raises(SourceError, match="no port 2: they are 0 to 1"):
            joined.transmit(2, frames)


# ---- ends and errors ---------------------------------------------------------------------


def test_error_of_one_part_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    capture = open_files(cut_capture(tmp_path / "broken.pcap", [b"whole"]))
    other = MemorySource(numbered(1, 3))
    third = MemorySource()
    with join_sources([capture, other, third]) as joined:
        assert [frame.data for frame in joined.take()] == [b"whole", *numbered(1, 3)]
        assert joined.take() == []
        assert joined.result == 0
        assert "broken.pcap" in joined.message


def test_result_is_the_worst_of_the_parts(tmp_path: Path) -> None:
    capture = open_files(cut_capture(tmp_path / "broken.pcap", []))
    with join_sources([memory(0, 1), capture, memory(2, 1)]) as joined:
        with pytest.raises(SourceError, match="broken"):
            read_all(joined)
        assert joined.result == -2


def test_parts_are_given_away() -> None:
    part = memory(0, 3)
    part.take(1)
    with join_sources([part, memory(1, 3)], name="both") as joined:
        assert part.closed
        assert part.stats().frames == 1
        assert joined.name == "both"
        with pytest.raises(SourceError, match="closed"):
            part.take()


def test_live_source_and_capture_are_not_joined() -> None:
    with Ring.create(4096) as ring, ring_source(ring) as live, memory(0, 1) as capture:
        with pytest.raises(SourceError, match="cannot be joined"):
            join_sources([live, capture])
        assert not live.closed
        assert len(capture.take()) == 1


def test_joins_of_nothing_and_of_the_same_are_refused() -> None:
    with pytest.raises(SourceError, match="no source"):
        join_sources([])
    with memory(0, 1) as part:
        with pytest.raises(SourceError, match="once"):
            join_sources([part, part])
        for ports in ([0], [65535 + 1]):
            with pytest.raises((SourceError, OverflowError)):
                join_sources([part], ports=ports)
        with pytest.raises(ValueError, match="ports of 2"):
            join_sources([part], ports=[1, 1])
        assert not part.closed


# ---- waiting -----------------------------------------------------------------------------


def test_descriptor_wakes_for_every_part() -> None:
    rings = [Ring.create(4096) for _ in range(3)]
    writers = [RingWriter(ring) for ring in rings]
    with join_sources([ring_source(ring) for ring in rings]) as joined:
        assert joined.live
        for _ in range(20):  # bells of the writers' opening
            assert joined.take() == []
        assert not readable(joined.fileno())
        for i in (2, 0, 1, 1):
            writers[i].push(b"%d" % i)
            writers[i].publish()
            assert readable(joined.fileno())
            (frame,) = joined.take()
            assert (frame.data, frame.raw.port) == (b"%d" % i, i)
            frame.release()
            assert not readable(joined.fileno())


def test_part_without_a_descriptor_leaves_none_until_it_ends() -> None:
    endless, other = MemorySource(), MemorySource(numbered(1, 1))
    with join_sources([endless, other]) as joined:
        assert joined.fileno() == -1
        joined.take()
        joined.take()
        assert joined.fileno() == -1
    with Ring.create(4096) as ring, join_sources([ring_source(ring)]) as joined:
        assert joined.fileno() >= 0


def test_ended_part_wakes_nobody() -> None:
    rings = [Ring.create(4096) for _ in range(2)]
    writers = [RingWriter(ring) for ring in rings]
    with join_sources([ring_source(ring, end=True) for ring in rings]) as joined:
        assert joined.fileno() >= 0
        writers[0].end()
        for _ in range(20):
            joined.take()
        assert not readable(joined.fileno())
        writers[1].end()
        assert readable(joined.fileno())
        assert joined.take() == []
        assert joined.result == -1


# ---- counters ----------------------------------------------------------------------------


def test_counters_are_the_sums_of_the_parts() -> None:
    rings = [Ring.create(4096) for _ in range(2)]
    writers = [RingWriter(ring) for ring in rings]
    with join_sources([ring_source(ring) for ring in rings]) as joined:
        pushed = sum(writer.push(bytes(200)) for writer in writers for _ in range(20))
        for writer in writers:
            writer.publish()
        frames = joined.take(pushed - 5)
        frames[0].release()
        stats = joined.stats()
        assert (stats.frames, stats.bytes) == (pushed - 5, 200 * (pushed - 5))
        assert (stats.outstanding, stats.queued) == (pushed - 6, 5)
        assert stats.dropped_ring == 40 - pushed
