"""Rings of frames within one process: against a model, full, damaged, and by their bell."""

from __future__ import annotations

import os
import random
import select
import struct
import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiomos._engine.errors import SourceError
from aiomos._engine.rings import Ring, RingWriter, ring_source
from aiomos._engine.source import HeldFrame, MemorySource, RawFrame, Source

SIZE = 4096
RECORD = 48  # bytes of metadata before each frame's own
PAGE = 4096  # the header


def content(number: int, length: int) -> bytes:
    return random.Random(number).randbytes(length)


def readable(fd: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


# ---- a model -----------------------------------------------------------------------------


@dataclass
class Record:
    length: int
    number: int | None  # None: what fills the end of the area
    given: bool = False


class Model:
    """A list of what lies in the ring, oldest first; what is taken is its beginning."""

    def __init__(self) -> None:
        self.end = 0  # bytes ever written
        self.records: list[Record] = []
        self.published = self.taken = 0  # of the records
        self.n_abandoned = self.n_released = self.n_taken = self.n_dropped = 0

    def push(self, number: int, length: int) -> bool:
        need = -(-(RECORD + length) // 64) * 64
        rest = SIZE - self.end % SIZE
        skip = rest if rest < need else 0
        used = sum(record.length for record in self.records)
        if need > SIZE // 2 or used + skip + need > SIZE:
            self.n_dropped += 1
            return False
        if skip:
            self.records.append(Record(skip, None))
        self.records.append(Record(need, number))
        self.end += skip + need
        return True

    def take(self, most: int) -> list[int]:
        numbers: list[int] = []
        while self.taken < self.published and len(numbers) < most:
            number = self.records[self.taken].number
            self.taken += 1
            if number is not None:
                numbers.append(number)
        self.n_taken += len(numbers)
        return numbers

    def release(self, number: int) -> None:
        (record,) = [record for record in self.records if record.number == number]
        record.given = True
        self.n_released += 1
        self.tidy()

    def tidy(self) -> None:
        """What is done whenever anything is given back, copies in the pool included."""
        while self.taken and (self.records[0].given or self.records[0].number is None):
            self.drop_first()

    def drop_first(self) -> None:
        del self.records[0]
        self.taken -= 1
        self.published -= 1

    def abandon(self) -> None:
        while self.taken:
            record = self.records[0]
            self.n_abandoned += record.number is not None and not record.given
            self.drop_first()


class RingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring.create(SIZE)
        self.writer = RingWriter(self.ring)
        self.source = ring_source(self.ring)
        self.model = Model()
        self.lengths: list[int] = []
        self.held: dict[int, HeldFrame] = {}
        self.kept: list[tuple[int, HeldFrame]] = []  # in the pool

    def teardown(self) -> None:
        self.source.close()
        self.writer.close()
        self.ring.close()

    def check(self, number: int, frame: HeldFrame) -> None:
        length = self.lengths[number]
        expected = RawFrame(content(number, length), number, length + number, 101, number % 7, 2)
        assert frame.raw == expected
        assert frame.device == (number * 3, (number, 5)[: number % 3], 1, number % 4)

    @rule(lengths=st.lists(st.integers(0, 400) | st.integers(0, 2100), min_size=1, max_size=12))
    def push(self, lengths: list[int]) -> None:
        for length in lengths:
            number = len(self.lengths)
            self.lengths.append(length)
            pushed = self.writer.push(
                content(number, length),
                number,
                link_type=101,
                wire_len=length + number,
                port=number % 7,
                direction=2,
                hash=number * 3,
                vlan=(number, 5)[: number % 3],
                csum_ip=1,
                csum_l4=number % 4,
            )
            assert pushed == self.model.push(number, length)

    @rule()
    def publish(self) -> None:
        self.writer.publish()
        self.model.published = len(self.model.records)

    @rule(most=st.integers(1, 20))
    def burst(self, most: int) -> None:
        frames = self.source.take(most)
        numbers = self.model.take(most)
        assert [frame.raw.time_ns for frame in frames] == numbers
        for number, frame in zip(numbers, frames, strict=True):
            self.check(number, frame)
            self.held[number] = frame

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        order = data.draw(st.permutations(sorted(self.held)))
        for number in order[: data.draw(st.integers(1, len(order)))]:
            frame = self.held.pop(number)
            self.check(number, frame)
            frame.release()
            self.model.release(number)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        self.kept.append((number, self.held[number].retain()))

    @precondition(lambda self: self.kept)
    @rule()
    def let_go(self) -> None:
        for number, frame in self.kept:
            self.check(number, frame)
            frame.release()
        self.kept.clear()
        self.model.tidy()

    @rule()
    def replace_reader(self) -> None:
        self.source.close()
        self.held.clear()
        self.kept.clear()
        self.model.abandon()
        self.source = ring_source(self.ring)

    @rule()
    def replace_writer(self) -> None:
        self.writer.close()
        self.model.published = len(self.model.records)
        self.writer = RingWriter(self.ring)

    @invariant()
    def counters_agree(self) -> None:
        stats = self.ring.stats()
        model = self.model
        assert stats.dropped == model.n_dropped
        assert stats.pushed + model.n_dropped <= len(self.lengths)
        assert (stats.taken, stats.abandoned) == (model.n_taken, model.n_abandoned)
        with_reader = len(self.held)
        assert stats.taken == model.n_released + stats.abandoned + with_reader
        waiting = sum(
            record.number is not None for record in model.records[model.taken : model.published]
        )
        assert stats.pushed == stats.taken + waiting
        assert self.source.stats().queued == waiting
        assert self.source.stats().outstanding == with_reader + len(self.kept)
        assert stats.used == sum(record.length for record in model.records[: model.published])


RingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
test_ring_is_as_its_model = RingMachine.TestCase


# ---- room --------------------------------------------------------------------------------


def test_full_ring_drops_and_counts_and_overwrites_nothing() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        pushed = [writer.push(bytes([i]) * 100) for i in range(50)]
        assert pushed == [True] * 21 + [False] * 29  # 192 bytes a record
        writer.publish()
        frames = source.take()
        assert [frame.data for frame in frames] == [bytes([i]) * 100 for i in range(21)]
        stats = ring.stats()
        assert (stats.dropped, stats.dropped_bytes) == (29, 2900)
        assert source.stats().dropped_ring == 29
        assert not writer.push(b"x" * 100)
        frames[1].release()
        assert not writer.push(b"x" * 100)  # room comes back in order
        frames[0].release()
        assert [writer.push(b"x" * 100) for _ in range(3)] == [True, True, False]
        assert frames[2].data == bytes([2]) * 100


def test_frame_of_more_than_half_the_ring_is_dropped() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer:
        assert not writer.push(bytes(SIZE // 2 - RECORD + 1))
        assert writer.push(bytes(SIZE // 2 - RECORD))


def test_size_is_rounded_up_to_a_power_of_two() -> None:
    assert [Ring.create(n).stats().size for n in (1, 4096, 4097, 1 << 20)] == [
        4096,
        4096,
        8192,
        1 << 20,
    ]


@pytest.mark.parametrize("size", [0, (4 << 30) + 1])
def test_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(SourceError, match="a ring of"):
        Ring.create(size)


def test_frame_in_pieces_is_copied_whole() -> None:
    contents = [content(i, i * 90) for i in range(40)]
    with (
        MemorySource(contents, segment_seed=7) as memory,
        Ring.create(1 << 20) as ring,
        RingWriter(ring) as writer,
        ring_source(ring, end=True) as source,
    ):
        held = memory.take()
        assert any(len(frame.pieces) > 1 for frame in held)
        assert all(writer.push_held(frame) for frame in held)
        writer.end()
        frames = source.take()
        assert [frame.data for frame in frames] == contents
        assert all(len(frame.pieces) == 1 for frame in frames)


# ---- ends --------------------------------------------------------------------------------


def test_unpublished_frames_are_not_seen() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        writer.push(b"1")
        assert source.take() == []
        writer.publish()
        assert [frame.data for frame in source.take()] == [b"1"]


def test_source_ends_when_the_writer_has_and_all_was_taken() -> None:
    with Ring.create(SIZE) as ring, ring_source(ring, end=True) as source:
        writer = RingWriter(ring)
        for i in range(10):
            writer.push(bytes([i]))
        writer.end()
        assert [len(source.take(4)) for _ in range(3)] == [4, 4, 2]
        assert readable(source.fileno())  # the end is something to come for
        assert source.result == 0
        assert source.take() == []
        assert source.result == -1


def test_source_that_does_not_end_waits_for_the_next_writer() -> None:
    with Ring.create(SIZE) as ring, ring_source(ring) as source:
        with RingWriter(ring) as writer:
            writer.push(b"1")
            writer.end()
        assert len(source.take()) == 1
        assert source.take() == []
        assert ring.stats().ended
        with RingWriter(ring) as writer:
            assert not ring.stats().ended
            writer.push(b"2")
        assert [frame.data for frame in source.take()] == [b"2"]
        assert source.result == 0


def test_second_writer_or_reader_is_refused() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring), ring_source(ring):
        with pytest.raises(SourceError, match="writer already"):
            RingWriter(ring)
        with pytest.raises(SourceError, match="reader already"):
            ring_source(ring)


def test_source_and_writer_outlive_the_ring_object() -> None:
    ring = Ring.create(SIZE)
    writer, source = RingWriter(ring), ring_source(ring)
    ring.close()
    with pytest.raises(SourceError, match="closed"):
        ring.stats()
    writer.push(b"1")
    writer.close()
    with pytest.raises(SourceError, match="closed"):
        writer.push(b"2")
    assert [frame.data for frame in source.take()] == [b"1"]
    source.close()


def test_ring_takes_no_frames_by_transmit() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        writer.push(b"1")
        writer.publish()
        with pytest.raises(SourceError, match="read here, not written"):
            source.transmit(0, source.take())


# ---- the bell ----------------------------------------------------------------------------


def test_bell_rings_once_for_a_sleep_and_is_drained() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        assert source.take() == []
        assert not readable(source.fileno())
        for _ in range(3):
            writer.push(b"1")
            writer.publish()
        assert int.from_bytes(os.read(ring.bell, 8), "little") == 1
        assert len(source.take()) == 3
        assert not readable(source.fileno())


def test_full_burst_leaves_the_writer_without_a_bell_to_ring() -> None:
    with Ring.create(1 << 16) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        source.take()
        for _ in range(128):
            writer.push(b"1")
        writer.publish()
        assert len(source.take(64)) == 64
        assert readable(source.fileno())  # there is more
        assert len(source.take(64)) == 64
        writer.push(b"2")
        writer.publish()
        assert len(source.take(64)) == 1
        assert not readable(source.fileno())
        writer.push(b"3")
        writer.publish()
        assert readable(source.fileno())


def test_bell_of_a_new_writer_does_not_wake_for_ever() -> None:
    with Ring.create(SIZE) as ring, ring_source(ring) as source:
        source.take()
        with RingWriter(ring):
            wakings = 0
            while readable(source.fileno()):
                assert source.take() == []
                wakings += 1
                assert wakings < 100


def push_with_pauses(ring: Ring, frames: int, seed: int) -> None:
    rng = random.Random(seed)
    with RingWriter(ring) as writer:
        number = 0
        while number < frames:
            if ring.stats().used > ring.stats().size // 2:
                time.sleep(0.001)
                continue
            for _ in range(rng.choice([1, 1, 2, 30])):
                assert writer.push(number.to_bytes(4, "big"))
                number += 1
            writer.publish()
            if rng.random() < 0.2:
                time.sleep(rng.choice([0, 0, 0.0001, 0.001]))
        writer.end()


@pytest.mark.parametrize("shared", [True, False], ids=["memfd", "anonymous"])
def test_reader_that_waits_for_the_bell_misses_nothing(shared: bool) -> None:
    with Ring.create(1 << 16, shared=shared) as ring, ring_source(ring, end=True) as source:
        thread = threading.Thread(target=push_with_pauses, args=(ring, 20_000, 11))
        thread.start()
        numbers: list[int] = []
        while source.result == 0:
            frames = source.take()
            for frame in frames:
                numbers.append(int.from_bytes(frame.data, "big"))
                frame.release()
            if len(frames) < 64 and source.result == 0:
                assert readable(source.fileno(), 60_000), f"no bell after {len(numbers)}"
        thread.join()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == ring.stats().pushed >= 20_000
        assert ring.stats().dropped == 0


# ---- damage ------------------------------------------------------------------------------


def attach(ring: Ring) -> Ring:
    return Ring.attach(ring.fileno(), ring.bell)


def poke(ring: Ring, offset: int, data: bytes) -> None:
    os.pwrite(ring.fileno(), data, offset)


def test_attached_ring_is_the_same_ring() -> None:
    with Ring.create(SIZE) as ring, attach(ring) as other:
        with RingWriter(ring) as writer:
            writer.push(b"across")
        with ring_source(other) as source:
            assert [frame.data for frame in source.take()] == [b"across"]
            assert ring.stats() == other.stats()
        assert not os.get_inheritable(ring.fileno())


def test_descriptor_that_is_no_ring_is_refused() -> None:
    with Ring.create(SIZE) as ring:
        memory = os.memfd_create("other")
        try:
            with pytest.raises(SourceError, match="no ring of frames: it has 0 bytes"):
                Ring.attach(memory, ring.bell)
            os.ftruncate(memory, PAGE + SIZE)
            with pytest.raises(SourceError, match="magic"):
                Ring.attach(memory, ring.bell)
        finally:
            os.close(memory)
        with pytest.raises(SourceError, match="Bad file descriptor"):
            Ring.attach(memory, ring.bell)


def test_ring_cannot_be_cut_short() -> None:
    with Ring.create(SIZE) as ring, pytest.raises(PermissionError):
        os.ftruncate(ring.fileno(), 0)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"nonsense", "magic"),
        (8, b"\x63\0\0\0", "version 99, this is version 2: start all processes"),
        (16, b"\0\0\x10\0", "header is damaged"),
    ],
)
def test_header_of_another_kind_is_refused(offset: int, data: bytes, message: str) -> None:
    with Ring.create(SIZE) as ring:
        poke(ring, offset, data)
        with pytest.raises(SourceError, match=message):
            attach(ring)


@pytest.mark.parametrize("cursor", [64, 192, 256], ids=["head", "taken", "tail"])
def test_position_out_of_range_is_refused(cursor: int) -> None:
    with Ring.create(SIZE) as ring:
        poke(ring, cursor, (1 << 40).to_bytes(8, "little"))
        with pytest.raises(SourceError, match="header is damaged"):
            ring_source(ring)
        poke(ring, cursor, bytes(8))
        ring_source(ring).close()


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, 0), (4, 0), (4, 63), (4, 1 << 20), (4, 0xFFFFFFC0), (20, 5000), (20, 0xFFFFFFFF)],
)
def test_damaged_record_ends_the_source(field: int, value: int) -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        for _ in range(3):
            writer.push(bytes(16))
        writer.publish()
        poke(ring, PAGE + 64 + field, value.to_bytes(4, "little"))
        (frame,) = source.take()
        assert frame.data == bytes(16)
        assert readable(source.fileno())
        assert source.take() == []
        assert source.result == -8
        assert "damaged at 64" in source.message
        frame.release()


@pytest.mark.parametrize("cursor", [64, 192, 256], ids=["head", "taken", "tail"])
@pytest.mark.parametrize("moves", [1, 2])
def test_move_that_a_death_cut_short_did_not_happen(cursor: int, moves: int) -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer, ring_source(ring) as source:
        for _ in range(moves):
            writer.push(b"1")
            writer.push(b"2")
            writer.publish()
            source.take()[0].release()
        before = ring.stats()
        position, *marks = struct.unpack("<7Q", os.pread(ring.fileno(), 56, cursor))
        (unused,) = (i for i in (0, 1) if marks[3 * i] != position)
        for written in range(1, 4):  # of a mark's three numbers
            half = [position + 64, 1000, 10**6][:written]
            poke(ring, cursor + 8 + 24 * unused, struct.pack(f"<{written}Q", *half))
            assert ring.stats() == before
        source.close()
        with ring_source(ring) as successor:
            writer.push(b"3")
            writer.publish()
            assert [frame.data for frame in successor.take()] == [b"3"]
        stats = ring.stats()
        assert (stats.pushed, stats.taken) == (2 * moves + 1, 2 * moves + 1)
        assert stats.released == stats.abandoned == moves


def held_numbers(source: Source) -> list[int]:
    return [frame.data[0] for frame in source.take()]


def test_reader_after_a_damaged_record_goes_on_behind_what_was_taken() -> None:
    with Ring.create(SIZE) as ring, RingWriter(ring) as writer:
        for i in range(6):
            writer.push(bytes([i]))
        writer.publish()
        with ring_source(ring) as source:
            assert len(source.take(4)) == 4
        poke(ring, PAGE + 64 + 4, bytes(4))
        with ring_source(ring) as source:
            assert ring.stats().abandoned == 4
            assert held_numbers(source) == [4, 5]
