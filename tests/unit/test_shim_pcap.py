"""The pcap reader against bytes written here with struct, and against the same bytes cut
and damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.source import RawFrame, open_files, read_all

US, NS, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
END, CUT, CORRUPT = -1, -2, -8

FRAMES = [
    (1_700_000_000, 999_999, b"first frame", 11),
    (1_700_000_001, 0, b"", 0),
    (1_700_000_001, 5, bytes(range(256)) * 3, 1500),
    (0xFFFF_FFFF, 1, b"x", 1),
]


def header(order: str, magic: int = US, network: int = 1) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, network)


def record(order: str, sec: int, frac: int, data: bytes, wire: int, extra: bytes = b"") -> bytes:
    return struct.pack(order + "IIII", sec, frac, len(data), wire) + extra + data


def capture(order: str = "<", magic: int = US) -> bytes:
    return header(order, magic) + b"".join(record(order, *f) for f in FRAMES)


def read(path: Path, content: bytes, **options: int) -> tuple[list[RawFrame], int, str]:
    path.write_bytes(content)
    with open_files(path, **options) as source:
        frames = read_all(source, check=False)
        assert source.stats().outstanding == 0
        assert source.stats().frames == len(frames)
        return frames, source.result, source.message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.pcap"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(US, 1000), (NS, 1)])
def test_pcap_each_variant_gives_its_frames(path: Path, order: str, magic: int, unit: int) -> None:
    frames, result, message = read(path, capture(order, magic))
    assert (result, message) == (END, "")
    assert frames == [
        RawFrame(data, sec * 10**9 + frac * unit, wire, 1) for sec, frac, data, wire in FRAMES
    ]
    with open_files(path) as source:
        assert source.time_precision == unit


@pytest.mark.parametrize("order", ["<", ">"])
def test_modified_pcap_packet_type_gives_direction(path: Path, order: str) -> None:
    content = header(order, MODIFIED)
    for packet_type in range(5):
        extra = struct.pack(order + "IHBB", 3, 0x800, packet_type, 0)
        content += record(order, 10, packet_type, b"data", 4, extra)
    frames, result, _ = read(path, content)
    assert result == END
    assert [(f.data, f.direction) for f in frames] == [(b"data", d) for d in (1, 1, 1, 0, 2)]


@pytest.mark.parametrize(
    ("network", "link_type"),
    [(0x0400_0001 | 4 << 28, 1), (113, 113), (276, 276), (12, 101), (0x0001_0001, 1)],
)
def test_pcap_link_type_field_is_masked(path: Path, network: int, link_type: int) -> None:
    frames, _, _ = read(path, header("<", US, network) + record("<", 1, 2, b"abc", 3))
    assert frames[0].link_type == link_type


def test_pcap_unknown_version_is_read(path: Path) -> None:
    content = bytearray(capture())
    content[4:8] = struct.pack("<HH", 9, 77)
    assert len(read(path, bytes(content))[0]) == len(FRAMES)


def test_pcap_wire_length_below_captured_is_raised(path: Path) -> None:
    frames, _, _ = read(path, header("<") + record("<", 1, 2, b"abcdef", 3))
    assert frames[0].wire_len == 6


def test_pcap_without_frames_ends(path: Path) -> None:
    assert read(path, header("<")) == ([], END, "")


def test_pcap_cut_at_every_offset_gives_complete_frames(path: Path) -> None:
    content = capture()
    ends = [24]
    for f in FRAMES:
        ends.append(ends[-1] + 16 + len(f[2]))
    for size in range(len(content)):
        if size < 24:
            with pytest.raises(SourceError, match=r"empty file|only \d byte|cut off in the file"):
                read(path, content[:size])
            continue
        frames, result, message = read(path, content[:size])
        complete = sum(end <= size for end in ends) - 1
        assert [f.data for f in frames] == [f[2] for f in FRAMES[:complete]]
        assert result == (END if size in ends else CUT)
        assert (result == END) == (message == "")
        if result == CUT:
            assert f"record at byte {ends[complete]}" in message


@pytest.mark.parametrize("cap_len", [0xFFFF_FFFF, 0x8000_0000, (16 << 20) + 1])
def test_pcap_impossible_length_is_corrupt_at_its_offset(path: Path, cap_len: int) -> None:
    bad = struct.pack("<IIII", 1, 2, cap_len, cap_len)
    frames, result, message = read(path, capture() + bad + b"rest")
    assert len(frames) == len(FRAMES)
    assert result == CORRUPT
    assert f"byte {len(capture())} " in message
    assert str(cap_len) in message


@pytest.mark.parametrize("size", [262_144, 1 << 20, 16 << 20])
def test_pcap_long_records_are_read(path: Path, size: int) -> None:
    data = random.Random(1).randbytes(size)
    content = header("<") + record("<", 1, 2, data, size) + record("<", 1, 3, b"after", 5)
    frames, result, _ = read(path, content)
    assert ([f.data for f in frames], result) == ([data, b"after"], END)


@pytest.mark.parametrize("window", [64, 65, 100, 1000, 4096])
def test_pcap_windows_smaller_than_frames_change_nothing(path: Path, window: int) -> None:
    rng = random.Random(window)
    content = header("<")
    expected = []
    for i in range(300):
        data = rng.randbytes(rng.choice([0, 1, 40, 60, 1500]))
        expected.append(RawFrame(data, 5 * 10**9 + i * 1000, len(data), 1))
        content += record("<", 5, i, data, len(data))
    assert read(path, content, window_size=window) == (expected, END, "")


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_pcap_burst_is_filled_across_windows(path: Path, burst: int) -> None:
    path.write_bytes(header("<") + b"".join(record("<", 1, i, b"y" * 90, 90) for i in range(500)))
    sizes = []
    with open_files(path, window_size=1000) as source:
        while frames := source.take(burst):
            sizes.append(len(frames))
            for frame in frames:
                frame.release()
    assert sizes[:-1] == [burst] * (len(sizes) - 1)
    assert sum(sizes) == 500


def test_pcap_end_is_said_again_on_every_call(path: Path) -> None:
    path.write_bytes(capture()[:-1])
    with open_files(path) as source:
        read_all(source, check=False)
        for _ in range(3):
            assert source.take() == []
            assert source.result == CUT


def test_pcap_cut_raises_when_checked(path: Path) -> None:
    path.write_bytes(capture()[:-1])
    with open_files(path) as source, pytest.raises(SourceError, match=r"in\.pcap: cut off"):
        read_all(source)


def test_pcap_that_shrinks_while_read_ends_like_a_cut_one(path: Path) -> None:
    one = record("<", 1, 2, b"z" * 84, 84)
    path.write_bytes(header("<") + one * 1000)
    with open_files(path, window_size=1000) as source:
        assert len(source.take(20)) == 20
        with path.open("r+b") as file:
            file.truncate(24 + 50 * 100 + 30)
        frames = read_all(source, check=False)
        assert len(frames) == 30
        assert source.result == CUT


def test_pcap_stats_tell_input_position_and_size(path: Path) -> None:
    content = capture()
    path.write_bytes(content)
    with open_files(path) as source:
        assert source.stats().input_size == len(content)
        read_all(source)
        assert source.stats().input_pos == len(content)
        assert source.stats().bytes == sum(len(f[2]) for f in FRAMES)
    assert source.stats().frames == len(FRAMES)
