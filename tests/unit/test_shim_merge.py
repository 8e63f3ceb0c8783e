"""Several captures as one: order, ports, ends, holds."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos._engine.source import NO_TIME, RawFrame, open_files, read_all
from aiomos._engine.writer import Writer

END, CUT, ENOTCAPTURE, CORRUPT = -1, -2, -4, -8


def write(path: Path, frames: list[RawFrame], damage: bytes = b"") -> Path:
    with Writer(path, "pcapng") as writer:
        for frame in frames:
            writer.write(frame)
    with path.open("ab") as file:
        file.write(damage)
    return path


def frame(data: bytes, time: int, port: int = 0, link: int = 1) -> RawFrame:
    return RawFrame(data, time, len(data), link, port)


CUT_OFF = struct.pack("<II", 6, 60)
DAMAGED = struct.pack("<III", 6, 7, 0)


def test_frames_come_by_time_equal_times_in_the_order_given(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [frame(b"a1", 10), frame(b"a2", 20), frame(b"a3", 20)])
    b = write(tmp_path / "b", [frame(b"b1", 5), frame(b"b2", 20), frame(b"b3", 30)])
    with open_files([a, b]) as source:
        assert [f.data for f in read_all(source)] == [b"b1", b"a1", b"a2", b"a3", b"b2", b"b3"]
    with open_files([b, a]) as source:
        assert [f.data for f in read_all(source)] == [b"b1", b"a1", b"b2", b"a2", b"a3", b"b3"]


@given(
    st.lists(st.lists(st.integers(1, 50), max_size=80), min_size=1, max_size=9),
    st.integers(1, 64),
)
def test_merge_is_a_stable_merge(tmp_path_factory, parts: list[list[int]], burst: int) -> None:
    folder = tmp_path_factory.mktemp("merge")
    paths, expected = [], []
    for k, times in enumerate(parts):
        frames = [frame(f"{k}.{i}".encode(), t) for i, t in enumerate(sorted(times))]
        paths.append(write(folder / str(k), frames))
        expected += [(f.time_ns, k, i, f.data) for i, f in enumerate(frames)]
    with open_files(paths) as source:
        got = read_all(source, burst=burst)
        assert [f.data for f in got] == [data for *_, data in sorted(expected)]
        assert source.stats().outstanding == 0


def test_step_back_within_a_file_keeps_that_files_order(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [frame(b"a1", 30), frame(b"a2", 10), frame(b"a3", 40)])
    b = write(tmp_path / "b", [frame(b"b1", 20), frame(b"b2", 35)])
    with open_files([a, b]) as source:
        assert [f.data for f in read_all(source)] == [b"b1", b"a1", b"a2", b"b2", b"a3"]


def test_same_ports_of_two_files_are_told_apart(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [frame(b"a0", 1, 0), frame(b"a1", 3, 1), frame(b"a0", 5, 0)])
    b = write(tmp_path / "b", [frame(b"b0", 2, 0), frame(b"b1", 4, 1), frame(b"b0", 6, 0)])
    with open_files([a, b]) as source:
        assert [(f.data, f.port) for f in read_all(source)] == [
            (b"a0", 0),
            (b"b0", 1),
            (b"a1", 2),
            (b"b1", 3),
            (b"a0", 0),
            (b"b0", 1),
        ]


def test_many_ports_of_a_part_are_kept_apart(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [frame(b"a", i, i) for i in range(100)])
    b = write(tmp_path / "b", [frame(b"b", i, i) for i in range(100)])
    with open_files([a, b]) as source:
        ports = [f.port for f in read_all(source)]
    assert ports == list(range(200))


@pytest.mark.parametrize("burst", [1, 5, 64])
def test_holds_go_back_to_the_part_they_came_from(tmp_path: Path, burst: int) -> None:
    paths = [
        write(tmp_path / str(k), [frame(f"{k}.{i}".encode(), i) for i in range(300)])
        for k in range(3)
    ]
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(paths[0].read_bytes()))
    held = []
    with open_files([*paths, packed]) as source:
        assert source.ring
        total = 0
        while frames := source.take(burst):
            total += len(frames)
            held += [frame.retain() for frame in frames]
            for taken in frames:
                taken.release()
            assert source.stats().outstanding == len(held)
        assert total == 1200
        texts = sorted(h.data for h in held)
        assert texts == sorted(f"{k}.{i}".encode() for k in (0, 0, 1, 2) for i in range(300))
        for hold in held:
            hold.release()
        assert source.stats().outstanding == 0
        assert source.stats().frames == 1200


def test_frames_waiting_in_the_merge_are_not_outstanding(tmp_path: Path) -> None:
    paths = [write(tmp_path / str(k), [frame(b"x", i) for i in range(50)]) for k in range(2)]
    with open_files(paths) as source:
        assert source.stats().outstanding == 0
        frames = source.take(10)
        assert source.stats().outstanding == 10
        assert source.stats().frames == 10
        assert source.stats().input_size == sum(p.stat().st_size for p in paths)
    assert len(frames) == 10


ENDS = {b"": (END, ""), CUT_OFF: (CUT, "cut off"), DAMAGED: (CORRUPT, "damaged")}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ENDS, ENDS)))
def test_the_worst_end_is_told_when_all_ended(tmp_path: Path, first: bytes, second: bytes) -> None:
    a = write(tmp_path / "aaa", [frame(b"a", 1)], first)
    b = write(tmp_path / "bbb", [frame(b"b", i) for i in range(200)], second)
    with open_files([a, b]) as source:
        assert len(read_all(source, check=False)) == 201
        result, words = min(ENDS[first], ENDS[second])
        assert source.result == result
        assert words in source.message
        if result != END:
            name = "aaa" if ENDS[first][0] == result else "bbb"
            assert f"{name}: " in source.message
        assert source.take() == []
        assert source.result == result


def test_frames_without_time_come_at_once(tmp_path: Path) -> None:
    simple = struct.pack("<III4sI", 3, 20, 4, b"none", 20)
    a = write(tmp_path / "a", [frame(b"a1", 10)], simple)
    b = write(tmp_path / "b", [frame(b"b1", 20)])
    with open_files([a, b]) as source:
        got = [(f.data, f.time_ns) for f in read_all(source)]
    assert got == [(b"a1", 10), (b"none", NO_TIME), (b"b1", 20)]


def test_precision_is_the_finest_of_all(tmp_path: Path) -> None:
    with Writer(tmp_path / "us", "pcap") as writer:
        writer.write((b"x", 1))
    with Writer(tmp_path / "ns", "pcap-ns") as writer:
        writer.write((b"x", 1))
    for names, precision in ((["us"], 1000), (["ns"], 1), (["us", "ns"], 1), (["us", "us"], 1000)):
        with open_files([tmp_path / name for name in names]) as source:
            assert source.time_precision == precision


def test_two_hundred_files_are_one_and_leave_no_descriptor(tmp_path: Path) -> None:
    paths = []
    for k in range(200):
        with Writer(tmp_path / str(k), "pcap") as writer:
            for i in range(20):
                writer.write((b"x" * 60, (i * 200 + k) * 1000))
        paths.append(tmp_path / str(k))
    before = len(os.listdir("/proc/self/fd"))
    with open_files(paths) as source:
        times = [f.time_ns for f in read_all(source)]
        assert len(os.listdir("/proc/self/fd")) == before
    assert times == [i * 1000 for i in range(4000)]
