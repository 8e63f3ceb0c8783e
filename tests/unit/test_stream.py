"""Delivered bytes, gaps between them, and readers that go through both at their own pace."""

from __future__ import annotations

import pytest

from aiomos._engine._teststreams import STREAM_SIZE, StreamHook

ENDED = 32


@pytest.fixture
def stream():
    stream = StreamHook()
    yield stream
    stream.drop()
    counts = stream.counts()
    assert (counts["used"], counts["blocks"]) == (0, 0)


def test_a_stream_fits_the_block_it_is_counted_as():
    assert STREAM_SIZE <= 256


# ---- one reader ----


def test_attached_appended_bytes_are_read_once(stream):
    reader = stream.attach()
    stream.append(b"hello ")
    stream.append(b"world")
    assert stream.read(reader) == [b"hello world"]
    assert stream.read(reader) == []
    assert stream.offset(reader) == 11


def test_attached_bytes_in_segments_are_copied_together(stream):
    reader = stream.attach()
    stream.append(bytes(range(200)), cuts=(3, 3, 77, 199))
    assert stream.read(reader) == [bytes(range(200))]


def test_attached_partial_reads_leave_the_rest(stream):
    reader = stream.attach()
    stream.append(b"abcdef")
    assert [stream.read(reader, n) for n in (1, 2, 9)] == [[b"a"], [b"bc"], [b"def"]]


def test_attached_everything_read_leaves_no_buffer(stream):
    reader = stream.attach()
    stream.append(b"x" * 5000)
    stream.read(reader)
    assert stream.counts()["blocks"] == 1  # the stream itself


def test_attached_long_transfer_keeps_its_buffer_small(stream):
    reader = stream.attach()
    for i in range(500):
        stream.append(bytes([i % 256]) * 1460)
        if i >= 2:
            assert stream.read(reader, 1460) == [bytes([(i - 2) % 256]) * 1460]
    assert stream.counts()["peak"] < 20_000


def test_offset_given_positions_begin_there():
    stream = StreamHook(offset=1 << 40)
    reader = stream.attach()
    stream.append(b"x")
    stream.gap(5)
    assert stream.read(reader) == [b"x", ((1 << 40) + 1, 5, "lost")]
    assert stream.offset(reader) == (1 << 40) + 6


# ---- gaps ----


def test_attached_gap_stands_between_its_bytes(stream):
    reader = stream.attach()
    stream.append(b"ab")
    stream.gap(100, "acked_unseen")
    stream.append(b"cd")
    assert stream.available(reader) == 2
    assert stream.read(reader) == [b"ab", (2, 100, "acked_unseen"), b"cd"]
    assert stream.offset(reader) == 104


def test_attached_adjacent_gaps_of_slow_readers_are_one_and_others_are_not(stream):
    reader = stream.attach()
    stream.gap(1)
    stream.gap(2)
    stream.gap(3, "slow_reader")
    stream.gap(4, "slow_reader")
    assert stream.read(reader) == [(0, 1, "lost"), (1, 2, "lost"), (3, 7, "slow_reader")]


def test_passed_gap_that_grows_is_met_again_by_the_one_who_passed(stream):
    fast, slow = stream.attach(), stream.attach()
    stream.gap(3)
    assert stream.read(fast) == [(0, 3, "lost")]
    stream.gap(4)
    assert stream.read(fast) == [(3, 4, "lost")]
    assert stream.read(slow) == [(0, 3, "lost"), (3, 4, "lost")]


def test_gap_of_nothing_is_none(stream):
    reader = stream.attach()
    stream.gap(0)
    assert stream.read(reader) == []


def test_attached_behind_a_gap_does_not_meet_it(stream):
    stream.append(b"ab")
    stream.gap(10)
    reader = stream.attach()
    stream.gap(2, "memory")
    stream.append(b"cd")
    assert stream.read(reader) == [(12, 2, "memory"), b"cd"]


def test_attached_where_a_record_stood_meets_gaps_that_came_after(stream):
    stream.append(b"ab")
    place = stream.end, stream.missing
    stream.gap(10)
    stream.append(b"cd")
    reader = stream.attach(*place)
    assert stream.read(reader) == [(2, 10, "lost"), b"cd"]


def test_attached_where_a_record_stood_in_a_gap_that_grew_meets_it_whole(stream):
    other = stream.attach()
    stream.append(b"ab")
    stream.gap(10, "slow_reader")
    place = stream.end, stream.missing
    stream.gap(5, "slow_reader")
    stream.append(b"cd")
    reader = stream.attach(*place)
    assert stream.read(reader) == [(2, 15, "slow_reader"), b"cd"]
    assert stream.offset(reader) == 19
    assert stream.read(other) == [b"ab", (2, 15, "slow_reader"), b"cd"]


def test_attached_many_gaps_are_all_told(stream):
    reader = stream.attach()
    for _ in range(3000):
        stream.append(b"x")
        stream.gap(1)
    found = stream.read(reader)
    assert found == [b"x" if i % 2 == 0 else (i, 1, "lost") for i in range(6000)]


def test_more_gaps_than_a_list_holds_refuse_bytes_instead_of_forgetting(stream):
    reader = stream.attach()
    for _ in range(65535):
        assert stream.append(b"x")
        stream.gap(1)
    assert not stream.append(b"y")
    stream.gap(1, "memory")
    found = stream.read(reader)
    assert found[-1] == (131_069, 2, "lost")
    assert stream.append(b"z")
    assert stream.read(reader) == [b"z"]


def test_full_list_of_which_some_gaps_were_passed_has_room_for_others(stream):
    reader = stream.attach()
    for _ in range(65535):
        stream.append(b"x")
        stream.gap(1)
    assert stream.read(reader, 10_000)[-1] == b"x"
    assert stream.append(b"y")
    stream.gap(1)
    found = stream.read(reader)
    assert found[-2:] == [b"y", (131_071, 1, "lost")]
    assert len(found) == 2 * (65_535 - 10_000) + 3


# ---- memory refused ----


def test_budget_used_up_append_is_refused_and_takes_nothing():
    stream = StreamHook(budget=256 + 2048)
    reader = stream.attach()
    assert stream.append(b"x" * 1500)
    assert not stream.append(b"y" * 600)
    assert stream.end == 1500
    assert stream.read(reader) == [b"x" * 1500]
    assert stream.append(b"y" * 600)


def test_budget_used_up_first_gap_needs_no_memory():
    stream = StreamHook(budget=256 + 2048)
    reader = stream.attach()
    stream.append(b"x" * 1500)
    stream.gap(100, "memory")
    assert stream.read(reader) == [b"x" * 1500, (1500, 100, "memory")]


def test_budget_used_up_second_gap_is_never_silent():
    stream = StreamHook(budget=256 + 2048)
    reader = stream.attach()
    stream.append(b"x")
    stream.gap(10, "memory")
    assert not stream.append(b"y")  # a gap behind it could not be told
    stream.gap(1, "memory")
    stream.gap(5)
    assert stream.read(reader) == [b"x", (1, 16, "memory")]
    assert stream.offset(reader) == 17
    assert stream.append(b"z")
    assert stream.read(reader) == [b"z"]


# ---- several readers ----


def test_two_readers_each_get_everything_once(stream):
    a, b = stream.attach(), stream.attach()
    stream.append(b"abc")
    assert stream.read(a) == [b"abc"]
    stream.append(b"def")
    assert stream.read(b, 4) == [b"abcd"]
    assert stream.read(a) == [b"def"]
    assert stream.held == (2, 0)
    assert stream.read(b) == [b"ef"]


def test_two_readers_the_slower_one_leaves_and_its_bytes_with_it(stream):
    a, b = stream.attach(), stream.attach()
    stream.append(b"abc")
    stream.read(a)
    assert stream.held[0] == 3
    stream.detach(b)
    assert stream.held[0] == 0


def test_last_reader_gone_bytes_are_counted_not_kept(stream):
    reader = stream.attach()
    stream.append(b"abc")
    stream.detach(reader)
    stream.append(b"x" * 100_000)
    stream.gap(7)
    assert stream.held == (0, 0)
    assert (stream.end, stream.missing) == (100_003, 7)


def test_last_reader_gone_a_new_one_begins_at_the_true_offset(stream):
    place = stream.end, stream.missing
    stream.detach(stream.attach())
    stream.append(b"abc")
    stream.gap(7)
    reader = stream.attach(*place)
    assert stream.offset(reader) == 10
    stream.append(b"def")
    assert stream.read(reader) == [b"def"]
    assert stream.offset(reader) == 13


# ---- cut ----


def test_cut_bytes_become_one_slow_reader_gap(stream):
    reader = stream.attach()
    stream.append(b"abcdefgh")
    assert stream.cut(3) == 5
    stream.append(b"ij")
    assert stream.read(reader) == [b"abc", (3, 5, "slow_reader"), b"ij"]


def test_cut_gaps_behind_the_place_go_into_the_new_one(stream):
    reader = stream.attach()
    stream.append(b"ab")
    stream.gap(10)
    stream.append(b"cd")
    stream.gap(20)
    stream.append(b"ef")
    assert stream.cut(3) == 3
    assert stream.read(reader) == [b"ab", (2, 10, "lost"), b"c", (13, 23, "slow_reader")]
    assert stream.offset(reader) == 36
    assert stream.missing == 33


def test_cut_again_grows_the_same_gap(stream):
    reader = stream.attach()
    stream.append(b"abcd")
    stream.cut(2)
    stream.append(b"efgh")
    stream.cut(2)
    assert stream.read(reader) == [b"ab", (2, 6, "slow_reader")]


def test_cut_behind_the_end_does_nothing(stream):
    reader = stream.attach()
    stream.append(b"ab")
    assert stream.cut(2) == 0
    assert stream.cut(100) == 0
    assert stream.read(reader) == [b"ab"]


# ---- memory short ----


def behind_a_slow_reader(stream, read, unread):
    """Bytes that one reader has taken, kept as history, and bytes that it has not."""
    reader = stream.attach()
    stream.keep(8192)
    stream.append(b"r" * read)
    stream.append(b"u" * unread)
    assert stream.read(reader, read) == [b"r" * read]
    return reader


def test_forget_gives_back_the_history_in_front_of_unread_bytes(stream):
    reader = behind_a_slow_reader(stream, 7000, 1000)
    before = stream.counts()["used"]
    assert stream.behind == 0
    freed = stream.forget()
    assert freed == before - stream.counts()["used"] == 16384 - 2048
    assert stream.behind == 7000
    assert stream.read(reader) == [b"u" * 1000]


def test_forget_goes_on_where_it_was_when_more_comes(stream):
    reader = behind_a_slow_reader(stream, 7000, 1000)
    stream.forget()
    stream.append(b"m" * 5000)
    assert stream.read(reader) == [b"u" * 1000 + b"m" * 5000]
    assert stream.offset(reader) == 13_000


def test_forget_moves_no_more_than_it_gives_back(stream):
    """Else many calls could cost more than what came."""
    reader = behind_a_slow_reader(stream, 1000, 9000)
    assert stream.forget() == 0
    assert stream.behind == 1808  # as before: the last 8 kB, read or not
    assert stream.read(reader) == [b"u" * 9000]


def test_forget_leaves_a_small_buffer(stream):
    behind_a_slow_reader(stream, 1000, 10)
    assert [stream.forget(), stream.behind] == [0, 0]


def test_forget_without_memory_for_the_smaller_block_changes_nothing():
    stream = StreamHook(budget=16384 + 256)
    reader = behind_a_slow_reader(stream, 7000, 1000)
    assert stream.forget() == 0
    assert [stream.behind, stream.read(reader)] == [0, [b"u" * 1000]]
    stream.drop()
