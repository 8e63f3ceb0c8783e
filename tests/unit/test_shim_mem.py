"""The memory source: what is pushed comes out, however it is cut; what is sent is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos._engine.errors import SourceError
from aiomos._engine.source import MemorySource, RawFrame, open_files, read_all
from aiomos._engine.writer import Writer

END = -1


class Packet:
    def __bytes__(self) -> bytes:
        return b"as bytes"


def test_unfinished_source_has_none_now_finished_ends() -> None:
    with MemorySource() as source:
        assert source.take() == []
        assert source.result == 0
        source.push(b"one")
        assert [f.data for f in read_all(source)] == [b"one"]
        source.push(b"two")
        source.finish()
        assert [f.data for f in read_all(source)] == [b"two"]
        assert source.result == END
        source.push(b"three")
        assert [f.data for f in read_all(source)] == [b"three"]


@pytest.mark.parametrize(
    "data", [b"as bytes", bytearray(b"as bytes"), memoryview(b"as bytes"), Packet()]
)
def test_push_takes_what_is_like_bytes(data: bytes) -> None:
    with MemorySource([data]) as source:
        assert read_all(source)[0].data == b"as bytes"


@pytest.mark.parametrize("data", [5, "text", None, object()])
def test_push_refuses_what_is_not(data: bytes) -> None:
    with MemorySource() as source, pytest.raises(TypeError):
        source.push(data)


def test_push_keeps_metadata() -> None:
    frame = RawFrame(b"abc", 77, 1500, 113, 9, 2)
    with MemorySource([frame]) as source:
        assert read_all(source) == [frame]
        source.push(b"d", 78, link_type=276, port=65535, direction=1, csum_ip=1, csum_l4=3)
        assert read_all(source) == [RawFrame(b"d", 78, 1, 276, 65535, 1)]


def test_push_of_three_tags_is_refused() -> None:
    with MemorySource() as source, pytest.raises(ValueError, match="two"):
        source.push(b"x", vlan=(1, 2, 3))


def test_frames_alone_are_a_millisecond_apart() -> None:
    with MemorySource([b"a", b"b"], link_type=101) as source:
        assert [(f.time_ns, f.link_type) for f in read_all(source)] == [(0, 101), (10**6, 101)]


@given(
    st.lists(st.binary(max_size=3000), max_size=20),
    st.integers(1, 2**32 - 1),
    st.booleans(),
    st.integers(1, 64),
)
def test_segments_change_nothing_but_where_bytes_lie(
    frames: list[bytes], seed: int, ring: bool, burst: int
) -> None:
    with MemorySource(frames, segment_seed=seed, ring=ring) as source:
        assert [f.data for f in read_all(source, burst=burst)] == frames
        assert source.stats().outstanding == 0


def test_segments_begin_with_a_whole_head_and_some_are_empty() -> None:
    pieces = []
    with MemorySource([bytes(n * 20) for n in range(200)], segment_seed=3) as source:
        while frames := source.take():
            for frame in frames:
                assert frame.pieces[0] >= min(len(frame.data), 256)
                assert sum(frame.pieces) == len(frame.data)
                pieces.append(frame.pieces)
                frame.release()
    assert any(0 in p[1:] for p in pieces)
    assert any(len(p) > 5 for p in pieces)
    assert any(p[0] > 256 for p in pieces)


def test_rewind_gives_the_same_frames_cut_the_same_way() -> None:
    with MemorySource([bytes(1000)] * 5, segment_seed=8) as source:
        rounds = []
        for _ in range(3):
            frames = source.take()
            rounds.append([f.pieces for f in frames])
            with pytest.raises(SourceError, match="5 frames are not released"):
                source.rewind()
            for frame in frames:
                frame.release()
            source.rewind()
    assert rounds[0] == rounds[1] == rounds[2]


def test_transmit_keeps_a_copy_in_order() -> None:
    with MemorySource([b"first", bytes(900) + b"!"], segment_seed=5) as source:
        frames = source.take()
        assert source.transmit(3, frames) == 2
        assert source.transmit(4, frames[:1]) == 1
        for frame in frames:
            frame.release()
        assert source.sent() == [(3, b"first"), (3, bytes(900) + b"!"), (4, b"first")]
        assert source.stats().transmitted == 3


def test_transmit_into_a_file_is_refused(tmp_path) -> None:
    path = tmp_path / "x.pcap"
    with Writer(path) as writer:
        writer.write((b"data", 1))
    with open_files(path) as source:
        frames = source.take()
        with pytest.raises(SourceError, match="takes no frames"):
            source.transmit(0, frames)
