"""The out-of-order store: early bytes, sorted, never overlapping, first copy kept."""

from __future__ import annotations

import itertools
import random

import pytest

from aiomos._engine._teststreams import ASM_DIFFERS, ASM_DUPLICATE, ASM_LIMIT, ASM_NEW, StreamHook

MEBIBYTE = 1 << 20
RANGES = 4096
ISNS = [0, 1000, (1 << 31) - 3, (1 << 31) + 3, (1 << 32) - 4, (1 << 32) - 1]


@pytest.fixture
def store():
    store = StreamHook()
    store.attach()
    yield store
    store.drop()
    counts = store.counts()
    assert (counts["used"], counts["blocks"]) == (0, 0)


def joined(store):
    """Pieces that touch as one: how they are cut is the store's own business."""
    out: list[tuple[int, bytes]] = []
    for seq, data in store.pieces():
        if out and (out[-1][0] + len(out[-1][1])) % 2**32 == seq:
            seq, data = out[-1][0], out.pop()[1] + data
        out.append((seq, data))
    return out


@pytest.fixture(params=ISNS)
def at(request):
    """Sequence numbers that begin anywhere."""
    return lambda offset: (request.param + offset) % 2**32


def test_empty_add_keeps_the_piece(store, at):
    assert store.add(at(10), b"abc") == ASM_NEW
    assert store.pieces() == [(at(10), b"abc")]
    assert store.early == (3, 1)


def test_empty_add_of_nothing_is_nothing(store):
    assert store.add(5, b"") == 0
    assert store.early == (0, 0)


def test_one_piece_the_same_again_is_a_duplicate(store, at):
    store.add(at(10), b"abcdef")
    assert store.add(at(10), b"abcdef") == ASM_DUPLICATE
    assert store.add(at(12), b"cd") == ASM_DUPLICATE
    assert store.pieces() == [(at(10), b"abcdef")]


def test_one_piece_other_bytes_differ_and_the_first_stay(store, at):
    store.add(at(10), b"abcdef")
    assert store.add(at(12), b"XY") == ASM_DUPLICATE | ASM_DIFFERS
    assert store.pieces() == [(at(10), b"abcdef")]


@pytest.mark.parametrize(
    ("offset", "data", "result", "whole"),
    [
        (5, b"5678910", ASM_NEW | ASM_DUPLICATE | ASM_DIFFERS, b"56789abcdef"),
        (5, b"56789ab", ASM_NEW | ASM_DUPLICATE, b"56789abcdef"),
        (14, b"efgh", ASM_NEW | ASM_DUPLICATE, b"abcdefgh"),
        (8, b"89abcdefgh", ASM_NEW | ASM_DUPLICATE, b"89abcdefgh"),
        (16, b"gh", ASM_NEW, b"abcdefgh"),
        (8, b"89", ASM_NEW, b"89abcdef"),
    ],
)
def test_one_piece_overlapping_add_fills_round_it(store, at, offset, data, result, whole):
    store.add(at(10), b"abcdef")
    assert store.add(at(offset), data) == result
    assert joined(store) == [(at(min(offset, 10)), whole)]


def test_several_pieces_one_add_fills_all_holes(store, at):
    for offset in (10, 20, 30):
        store.add(at(offset), b"--")
    assert store.add(at(5), bytes(40)) == ASM_NEW | ASM_DUPLICATE | ASM_DIFFERS
    expected = bytearray(40)
    for offset in (10, 20, 30):
        expected[offset - 5 : offset - 3] = b"--"
    assert joined(store) == [(at(5), bytes(expected))]


def test_bytes_in_segments_are_kept_and_compared_across_them(store, at):
    data = bytes(random.Random(1).randbytes(3000))
    assert store.add(at(0), data, cuts=(1, 256, 1000, 2999)) == ASM_NEW
    assert store.add(at(0), data, cuts=(7, 300)) == ASM_DUPLICATE
    changed = data[:2900] + b"?" + data[2901:]
    assert store.add(at(0), changed, cuts=(7, 300)) == ASM_DUPLICATE | ASM_DIFFERS
    assert joined(store) == [(at(0), data)]


# ---- drain ----


def test_waiting_drain_before_the_piece_gives_nothing(store, at):
    store.add(at(10), b"abc")
    assert store.drain(at(9)) == (at(9), False)
    assert store.early == (3, 1)


def test_waiting_drain_at_the_piece_delivers_up_to_the_next_hole(store, at):
    store.add(at(10), b"abc")
    store.add(at(13), b"def")
    store.add(at(20), b"later")
    assert store.drain(at(10)) == (at(16), False)
    assert store.read(1) == [b"abcdef"]
    assert store.pieces() == [(at(20), b"later")]


def test_waiting_drain_inside_the_piece_delivers_the_rest(store, at):
    store.add(at(10), b"abcdef")
    assert store.drain(at(13)) == (at(16), False)
    assert store.read(1) == [b"def"]


def test_waiting_drain_behind_the_piece_drops_it(store, at):
    store.add(at(10), b"abc")
    assert store.drain(at(50)) == (at(50), False)
    assert store.early == (0, 0)
    assert store.read(1) == []


def test_drain_without_memory_fails_and_keeps_the_piece():
    store = StreamHook(budget=256 + 256 + 64)
    store.attach()
    assert store.add(10, b"x" * 200) == ASM_NEW
    assert store.drain(10) == (10, True)
    assert store.early == (200, 1)


# ---- truncate ----


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        (0, []),
        (10, []),
        (12, [(10, b"ab")]),
        (13, [(10, b"abc")]),
        (20, [(10, b"abc")]),
        (21, [(10, b"abc"), (20, b"d")]),
        (99, [(10, b"abc"), (20, b"def")]),
    ],
)
def test_waiting_truncate_forgets_what_lies_behind(store, at, cut, left):
    store.add(at(10), b"abc")
    store.add(at(20), b"def")
    store.truncate(at(cut))
    assert store.pieces() == [(at(offset), data) for offset, data in left]
    assert store.early[0] == sum(len(data) for _, data in left)


# ---- bounds ----


def test_more_than_a_mebibyte_says_limit(store):
    for i in range(64):
        assert store.add(10 + i * 16384, bytes(16384)) == ASM_NEW
    assert store.add(10 + MEBIBYTE, b"x") == ASM_NEW | ASM_LIMIT


def test_more_ranges_than_the_store_holds_says_limit(store):
    for i in range(RANGES):
        assert store.add(10 + 2 * i, b"x") == ASM_NEW
    assert store.add(10 + 2 * RANGES, b"x") == ASM_NEW | ASM_LIMIT


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled", "inside_out"])
def test_hundred_thousand_single_bytes_above_a_hole_are_bounded(store, order):
    """All touch in the end, so none may be lost, and few blocks are needed."""
    n = 100_000 if order in ("forward", "reversed") else 4000
    seqs = list(range(10, 10 + n))
    if order == "reversed":
        seqs.reverse()
    elif order == "shuffled":
        random.Random(3).shuffle(seqs)
    elif order == "inside_out":
        seqs = [
            seq
            for pair in zip(seqs[n // 2 :], reversed(seqs[: n // 2]), strict=True)
            for seq in pair
        ]
    for seq in seqs:
        assert store.add(seq, bytes([seq % 251])) == ASM_NEW
    assert store.early[0] == n
    assert store.early[1] <= RANGES
    assert joined(store) == [(10, bytes(seq % 251 for seq in range(10, 10 + n)))]
    assert store.counts()["peak"] < 64 * RANGES + 32 * 2 * RANGES + 4 * n + 4096


def test_alternate_bytes_then_the_others_join_to_one(store):
    n = 4000
    for seq in range(10, 10 + 2 * n, 2):
        store.add(seq, b"a")
    for seq in range(11, 10 + 2 * n, 2):
        store.add(seq, b"b")
    assert joined(store) == [(10, b"ab" * n)]
    assert store.drain(10)[0] == 10 + 2 * n


def test_memory_refused_add_says_limit_and_keeps_what_there_was():
    store = StreamHook(budget=256 + 64 + 64)
    assert store.add(10, b"abc") == ASM_NEW
    assert store.add(20, b"def") & ASM_LIMIT
    assert store.pieces() == [(10, b"abc")]
    store.drop()
    assert store.counts()["blocks"] == 0


def test_memory_refused_while_packing_forgets_a_tail_but_stays_whole():
    store = StreamHook(budget=256 + 64 * (RANGES + 1) + 32 * 2 * (RANGES + 1) * 2)
    for seq in range(10 + RANGES, 9, -1):
        store.add(seq, b"x")
    pieces = store.pieces()
    assert sum(len(data) for _, data in pieces) == store.early[0]
    ends = [(seq, seq + len(data)) for seq, data in pieces]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))
    store.drop()
    assert store.counts()["blocks"] == 0


# ---- FINs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isn", ISNS)
def test_fin_waits_in_its_place_and_ends_the_drain(store, isn):
    store.add((isn + 10) % 2**32, b"abc")
    assert store.add_fin((isn + 13) % 2**32) == ASM_NEW
    store.add((isn + 14) % 2**32, b"behind")
    assert store.pieces()[1] == ((isn + 13) % 2**32, None)
    assert store.drain((isn + 10) % 2**32) == ((isn + 13) % 2**32, False)
    assert store.early == (7, 2)


def test_fin_on_a_byte_leaves_it_and_a_byte_takes_its_place(store):
    store.add(10, b"abc")
    assert store.add_fin(11) == ASM_DUPLICATE
    assert store.add_fin(20) == ASM_NEW
    assert store.add(18, b"wxyz") == ASM_NEW | ASM_DUPLICATE | ASM_DIFFERS
    assert joined(store) == [(10, b"abc"), (18, b"wxyz")]


def test_4096_fins_are_the_most(store):
    for i in range(RANGES):
        assert store.add_fin(10 + 2 * i) == ASM_NEW
    assert store.add_fin(9) & ASM_LIMIT
    store.truncate(0)
    assert store.early == (0, 0)
