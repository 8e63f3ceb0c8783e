"""Captures written: byte for byte where small, read back by us and by dpkt otherwise."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos._engine.errors import SourceError
from aiomos._engine.source import MemorySource, RawFrame, open_files, read_all
from aiomos._engine.writer import Writer

dpkt = pytest.importorskip("dpkt")

T0 = 1_700_000_000 * 10**9


def read(path: Path) -> list[RawFrame]:
    with open_files(path) as source:
        return read_all(source)


def test_pcap_bytes(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", "pcap") as writer:
        writer.write(RawFrame(b"data", T0 + 7999, 60, 101))
    assert (tmp_path / "out").read_bytes() == (
        struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
        + struct.pack("=IIII", 1_700_000_000, 7, 4, 60)
        + b"data"
    )


def test_pcap_ns_bytes(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", "pcap-ns", 3) as writer:
        writer.write(RawFrame(b"data", T0 + 7999, 60, 1))
    assert (tmp_path / "out").read_bytes() == (
        struct.pack("=IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 3, 1)
        + struct.pack("=IIII", 1_700_000_000, 7999, 3, 60)
        + b"dat"
    )


def test_pcapng_bytes(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", "pcapng") as writer:
        writer.write(RawFrame(b"hello", T0 + 7, 60, 113, 0, 2))
    now = T0 + 7
    assert (tmp_path / "out").read_bytes() == (
        struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
        + struct.pack("=IIHHIHHIII", 1, 32, 113, 0, 262144, 9, 1, 9, 0, 32)
        + struct.pack("=IIIIIII", 6, 52, 0, now >> 32, now & 0xFFFFFFFF, 5, 60)
        + b"hello\0\0\0"
        + struct.pack("=HHIII", 2, 4, 2, 0, 52)
    )


@pytest.mark.parametrize("format", ["pcap", "pcap-ns", "pcapng"])
def test_file_without_frames_has_its_link_type(tmp_path: Path, format: str) -> None:
    Writer(tmp_path / "out", format, link_type=113).close()
    assert read(tmp_path / "out") == []
    with (tmp_path / "out").open("rb") as file:
        reader = (dpkt.pcapng if format == "pcapng" else dpkt.pcap).Reader(file)
        assert reader.datalink() == 113
        assert list(reader) == []


FRAME = st.builds(
    RawFrame,
    st.binary(max_size=400),
    st.integers(0, 2**32 * 10**9 - 1),
    st.just(0),
    st.sampled_from([1, 101, 276]),
    st.integers(0, 3),
    st.integers(0, 2),
)


@given(st.lists(FRAME, max_size=30))
def test_pcapng_round_trip_keeps_everything_but_port_numbers(tmp_path_factory, frames) -> None:
    frames = [f._replace(wire_len=len(f.data) + f.port) for f in frames]
    path = tmp_path_factory.mktemp("ng") / "out"
    with Writer(path, "pcapng") as writer:
        for frame in frames:
            writer.write(frame)
    interfaces = list(dict.fromkeys((f.link_type, f.port) for f in frames))
    assert read(path) == [f._replace(port=interfaces.index((f.link_type, f.port))) for f in frames]


@given(st.lists(FRAME, max_size=30))
def test_pcap_ns_round_trip_and_dpkt_agree(tmp_path_factory, frames) -> None:
    frames = [f._replace(link_type=1, port=0, direction=0, wire_len=len(f.data)) for f in frames]
    path = tmp_path_factory.mktemp("ns") / "out"
    with Writer(path, "pcap-ns") as writer:
        for frame in frames:
            writer.write(frame)
    assert read(path) == frames
    with path.open("rb") as file:
        seen = [(int(time * 10**9), data) for time, data in dpkt.pcap.Reader(file)]
    assert seen == [(f.time_ns, f.data) for f in frames]


@pytest.mark.parametrize("snap_len", [1, 256, 300, 5000])
@pytest.mark.parametrize("format", ["pcap", "pcapng"])
def test_segments_are_joined_and_cut(tmp_path: Path, format: str, snap_len: int) -> None:
    data = [os.urandom(n) for n in (0, 255, 256, 257, 1000, 70_000)]
    path = tmp_path / "out"
    with MemorySource(data, segment_seed=4) as source, Writer(path, format, snap_len) as writer:
        for frame in source.take():
            writer.write(frame)
    assert [f.data for f in read(path)] == [d[:snap_len] for d in data]
    assert [f.wire_len for f in read(path)] == [len(d) for d in data]


def test_stripped_tags_are_put_back(tmp_path: Path) -> None:
    addresses, rest = bytes(range(12)), b"\x08\x00payload"
    with MemorySource(segment_seed=1) as source, Writer(tmp_path / "out") as writer:
        source.push(addresses + rest, vlan=[5])
        source.push(addresses + rest, vlan=[0x2007, 5])
        source.push(addresses[:6], vlan=[5])
        source.push(addresses + rest, vlan=[5], link_type=101)
        for frame in source.take():
            writer.write(frame)
    one, two = b"\x81\0\0\x05", b"\x88\xa8\x20\x07"
    frames = read(tmp_path / "out")
    assert [f.data for f in frames] == [
        addresses + one + rest,
        addresses + two + one + rest,
        addresses[:6],
        addresses + rest,
    ]
    assert frames[1].wire_len == len(frames[1].data)


@pytest.mark.parametrize("snap_len", range(1, 24))
def test_stripped_tags_and_any_cut(tmp_path: Path, snap_len: int) -> None:
    whole = bytes(12) + b"\x88\xa8\0\x01\x81\0\0\x02" + b"\x08\0rest"
    with MemorySource() as source, Writer(tmp_path / "out", "pcap", snap_len) as writer:
        source.push(bytes(12) + b"\x08\0rest", vlan=[1, 2])
        writer.write(source.take()[0])
    (frame,) = read(tmp_path / "out")
    assert frame.data == whole[:snap_len]
    assert frame.wire_len == len(whole)


def test_pcap_refuses_a_second_link_type_and_goes_on(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", "pcap") as writer:
        writer.write(RawFrame(b"one", 1, 3, 1))
        with pytest.raises(SourceError, match="this file's is 1, the frame's 113; write pcapng"):
            writer.write(RawFrame(b"two", 1, 3, 113))
        writer.write(RawFrame(b"three", 1, 5, 1))
    assert [f.data for f in read(tmp_path / "out")] == [b"one", b"three"]


def test_times_a_file_cannot_hold_stop_at_its_limits(tmp_path: Path) -> None:
    with Writer(tmp_path / "out", "pcap-ns") as writer:
        for time in (-5, -(2**63), 2**63 - 1):
            writer.write((b"x", time))
    assert [f.time_ns // 10**9 for f in read(tmp_path / "out")] == [0, 0, 2**32 - 1]


def test_frame_larger_than_the_buffer(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with Writer(tmp_path / "out", "pcapng", 1 << 20) as writer:
        writer.write((data, 1))
        writer.write((b"after", 2))
    assert [f.data for f in read(tmp_path / "out")] == [data, b"after"]


def test_flush_makes_frames_readable(tmp_path: Path) -> None:
    with Writer(tmp_path / "out") as writer:
        writer.write((b"one", 1))
        assert (tmp_path / "out").read_bytes() == b""
        writer.flush()
        assert [f.data for f in read(tmp_path / "out")] == [b"one"]


def test_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file") as raised:
        Writer(tmp_path / "missing" / "out")
    assert raised.value.filename == str(tmp_path / "missing" / "out")
    with pytest.raises(SourceError, match="no such capture format"):
        Writer(tmp_path / "out", "erf")


def test_full_disk_is_told_and_sticks() -> None:
    writer = Writer("/dev/full", "pcap")
    with pytest.raises(SourceError, match="No space left"):
        writer.write((bytes(100_000), 1))
    with pytest.raises(SourceError, match="No space left"):
        writer.write((b"x", 1))
    with pytest.raises(SourceError, match="No space left"):
        writer.close()
    writer.close()


def test_full_disk_at_close_is_told() -> None:
    writer = Writer("/dev/full")
    writer.write((b"x", 1))
    with pytest.raises(SourceError, match="No space left"):
        writer.close()


def test_closed_writer_refuses(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out")
    writer.close()
    with pytest.raises(SourceError, match="closed"):
        writer.write((b"x", 1))


def test_standard_output() -> None:
    code = """
from aiomos._engine.writer import Writer
with Writer("-", "pcap") as writer:
    writer.write((b"to standard output", 1))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    assert len(done.stdout) == 24 + 16 + 18
    assert done.stdout.endswith(b"to standard output")
