"""Missing bytes: when a hole becomes a gap, and what a gap does to each way of reading."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, SERVER
from kit import both_tasks, play, said
from readings import noted

import aiomos

pytestmark = both_tasks


def holed(before, missing, after, *, grace=0.3):
    """The client says `before`, then bytes nobody captured, then `after`; all acknowledged."""

    def script(t):
        t.handshake()
        if before:
            t.c(before)
        t.skip(CLIENT, missing)
        if after:
            t.c(after)
        t.s()
        t.rest(grace)
        t.s()
        t.close()

    return script


def read_with(handler, script, **options):
    """What `handler(flow.client, notes)` noted."""
    return noted(lambda flow, notes: handler(flow.client, notes), script, **{"burst": 64} | options)


GAP = (3, 4, "acked_unseen")
ABC_GAP_XYZ = holed(b"abc", 4, b"xyz")


async def outcomes(calls, notes):
    """What each call came to; a gap error as its fields, a partial result as ("part", bytes)."""
    for call in calls:
        try:
            notes.append(await call())
        except asyncio.IncompleteReadError as error:
            notes.append(("part", error.partial))
        except aiomos.FlowError as error:
            notes.append(said(error))


# ---- on_gap="raise" and the read calls under "yield" -------------------------------------------

CALLS = {
    "read_n": (lambda e: e.read(100), [b"abc", GAP, b"xyz", b""]),
    "read_all": (lambda e: e.read(), [b"abc", GAP, b"xyz", b""]),
    "readexactly": (lambda e: e.readexactly(3), [b"abc", GAP, b"xyz", ("part", b"")]),
    "readexactly_across": (
        lambda e: e.readexactly(5),
        [("part", b"abc"), GAP, ("part", b"xyz"), ("part", b"")],
    ),
    "readuntil": (
        lambda e: e.readuntil(b"y"),
        [("part", b"abc"), GAP, b"xy", ("part", b"z"), ("part", b"")],
    ),
    "readline": (lambda e: e.readline(), [b"abc", GAP, b"xyz", b""]),
}


@pytest.mark.parametrize("on_gap", ["raise", "yield"])
@pytest.mark.parametrize("burst", [1, 64])
@pytest.mark.parametrize("name", CALLS)
def test_call_that_meets_a_gap_gives_what_precedes_it_then_raises_once(tasks, name, burst, on_gap):
    call, expected = CALLS[name]

    async def handler(client, notes):
        await outcomes([lambda: call(client)] * len(expected), notes)

    assert read_with(handler, ABC_GAP_XYZ, tasks=tasks, burst=burst, on_gap=on_gap) == expected


def test_gap_right_at_the_cursor_every_read_call_raises_it(tasks):
    for call in (
        lambda e: e.read(1),
        lambda e: e.read(),
        lambda e: e.readexactly(1),
        lambda e: e.readuntil(b"z"),
        lambda e: e.readline(),
        anext,
    ):

        async def handler(client, notes, call=call):
            await outcomes([lambda: call(client), lambda: client.readexactly(3)], notes)

        notes = read_with(handler, holed(b"", 4, b"xyz"), tasks=tasks)
        assert notes == [(0, 4, "acked_unseen"), b"xyz"]


def test_gap_error_has_its_place_and_says_it(tasks):
    async def handler(client, notes):
        await client.readexactly(3)
        notes.append(client.offset)
        with pytest.raises(aiomos.GapError, match="4 bytes missing at offset 3") as caught:
            await client.read(1)
        assert isinstance(caught.value, aiomos.FlowError)
        notes.append((caught.value.offset, caught.value.length, caught.value.cause))
        notes.append(client.offset)
        await client.read()
        notes.append(client.offset)

    assert read_with(handler, ABC_GAP_XYZ, tasks=tasks) == [3, GAP, 7, 10]


def test_gap_raised_while_iterating_a_new_iteration_goes_on_behind_it(tasks):
    async def handler(client, notes):
        for _ in range(2):
            try:
                async for line in client.lines():
                    notes.append(line)
            except aiomos.GapError as error:
                notes.append(said(error))

    script = holed(b"one\ntw", 4, b"ee\nfour\n")
    notes = read_with(handler, script, tasks=tasks)
    assert notes == [b"one", b"tw", (6, 4, "acked_unseen"), b"ee", b"four"]


def test_peek_stops_before_a_gap_and_consumes_nothing(tasks):
    async def handler(client, notes):
        notes.append(await client.peek(10))
        notes.append(await client.read(10))
        notes.append(await client.peek(10))
        await outcomes([lambda: client.read(10), lambda: client.peek(2)], notes)

    assert read_with(handler, ABC_GAP_XYZ, tasks=tasks) == [b"abc", b"abc", b"", GAP, b"xy"]


def test_gap_before_the_end_is_raised_and_then_the_end_comes(tasks):
    async def handler(client, notes):
        await outcomes([lambda: client.read(10)] * 3, notes)
        notes.append((client.complete, client.at_eof()))

    notes = read_with(handler, holed(b"abc", 4, b""), tasks=tasks)
    assert notes == [b"abc", GAP, b"", (True, True)]


def test_several_gaps_each_is_raised_once_in_its_place(tasks):
    def script(t):
        t.handshake()
        for part in (b"ab", b"cd", b"ef"):
            t.c(part)
            t.skip(CLIENT, 2)
        t.s()
        t.rest(0.3)
        t.s()
        t.close()

    async def handler(client, notes):
        await outcomes([lambda: client.read(10)] * 7, notes)

    assert read_with(handler, script, tasks=tasks) == [
        b"ab",
        (2, 2, "acked_unseen"),
        b"cd",
        (6, 2, "acked_unseen"),
        b"ef",
        (10, 2, "acked_unseen"),
        b"",
    ]


# ---- on_gap="yield" ----------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 64])
def test_chunks_gives_gap_objects_between_bytes(tasks, burst):
    async def handler(client, notes):
        async for chunk in client.chunks():
            notes.append(chunk if isinstance(chunk, aiomos.Gap) else chunk.data)

    notes = read_with(handler, ABC_GAP_XYZ, tasks=tasks, on_gap="yield", burst=burst)
    assert notes == [b"abc", aiomos.Gap(*GAP), b"xyz"]


def test_async_for_gives_gap_objects_between_lines(tasks):
    async def handler(client, notes):
        async for line in client:
            notes.append(line)

    script = holed(b"one\ntw", 4, b"ee\nfour\n")
    notes = read_with(handler, script, tasks=tasks, on_gap="yield")
    assert notes == [b"one\n", b"tw", aiomos.Gap(6, 4, "acked_unseen"), b"ee\n", b"four\n"]


def test_chunks_raises_where_gaps_are_raised(tasks):
    async def handler(client, notes):
        try:
            async for chunk in client.chunks():
                notes.append(chunk if isinstance(chunk, aiomos.Gap) else chunk.data)
        except aiomos.GapError as error:
            notes.append(said(error))

    assert read_with(handler, ABC_GAP_XYZ, tasks=tasks) == [b"abc", GAP]


def test_gap_is_frozen_and_compares_by_value(tasks):
    gap = aiomos.Gap(1, 2, "lost")
    assert gap == aiomos.Gap(1, 2, "lost")
    with pytest.raises(AttributeError):
        gap.offset = 3


# ---- on_gap="skip" -----------------------------------------------------------------------------

SKIPPED = {
    "read_n": (lambda e: e.read(100), [b"abc", b"xyz", b""]),
    "readexactly": (lambda e: e.readexactly(3), [b"abc", b"xyz"]),
    "readexactly_across": (
        lambda e: e.readexactly(5),
        [("part", b"abc"), ("part", b"xyz"), ("part", b"")],
    ),
}


@pytest.mark.parametrize("burst", [1, 64])
@pytest.mark.parametrize("name", SKIPPED)
def test_skipped_gap_no_result_spans_it(tasks, name, burst):
    call, expected = SKIPPED[name]

    async def handler(client, notes):
        await outcomes([lambda: call(client)] * len(expected), notes)
        notes.append(client.offset)

    notes = read_with(handler, ABC_GAP_XYZ, tasks=tasks, burst=burst, on_gap="skip")
    assert notes == [*expected, 10]
    assert notes.summary.counters["gaps"] == 1
    assert notes.summary.counters["gap_bytes"] == 4


LINES = holed(b"one\ntwo, fir", 4, b"f of three\nfour\nfive")


@pytest.mark.parametrize("burst", [1, 64])
def test_skipped_gap_readline_drops_the_broken_line_on_both_sides(tasks, burst):
    async def handler(client, notes):
        while line := await client.readline():
            notes.append(line)

    notes = read_with(handler, LINES, tasks=tasks, burst=burst, on_gap="skip")
    assert notes == [b"one\n", b"four\n", b"five"]


def test_skipped_gap_lines_and_async_for_resynchronise(tasks):
    async def by_lines(client, notes):
        async for line in client.lines():
            notes.append(line)

    async def by_iteration(client, notes):
        async for line in client:
            notes.append(line)

    assert read_with(by_lines, LINES, tasks=tasks, on_gap="skip") == [b"one", b"four", b"five"]
    notes = read_with(by_iteration, LINES, tasks=tasks, on_gap="skip")
    assert notes == [b"one\n", b"four\n", b"five"]


def test_skipped_gap_readuntil_resynchronises_behind_its_separator(tasks):
    async def handler(client, notes):
        await outcomes([lambda: client.readuntil(b"--")] * 3, notes)

    script = holed(b"a--b", 4, b"-c--d--e")
    notes = read_with(handler, script, tasks=tasks, on_gap="skip")
    assert notes == [b"a--", b"d--", ("part", b"e")]


def test_skipped_gap_with_no_separator_behind_it_leaves_nothing(tasks):
    async def handler(client, notes):
        notes.append(await client.readline())
        notes.append(await client.readline())

    script = holed(b"one\ntwo", 4, b"three")
    assert read_with(handler, script, tasks=tasks, on_gap="skip") == [b"one\n", b""]


def test_two_skipped_gaps_in_one_line_are_one_broken_line(tasks):
    def script(t):
        t.handshake()
        t.c(b"one\ntw")
        t.skip(CLIENT, 2)
        t.c(b"o")
        t.skip(CLIENT, 2)
        t.c(b"!\nthree\n")
        t.s()
        t.rest(0.3)
        t.close()

    async def handler(client, notes):
        async for line in client:
            notes.append(line)

    assert read_with(handler, script, tasks=tasks, on_gap="skip") == [b"one\n", b"three\n"]


# ---- when a hole becomes a gap -----------------------------------------------------------------


async def reads(client, notes):
    while True:
        try:
            data = await client.read(100_000)
        except aiomos.GapError as error:
            notes.append(said(error))
            continue
        if not data:
            return
        notes.append(data)


@pytest.mark.parametrize("wait", [0.19, 0.21])
def test_acked_hole_filled_is_no_gap_before_the_grace_and_one_behind_it(tasks, wait):
    def script(t):
        t.handshake()
        late = t.segment(CLIENT, ACK, b"abc")
        t.c(b"def")
        t.s()  # acknowledges all six
        t.rest(wait - t.step / 1e9)
        t.give(late)
        t.s()
        t.close()

    notes = read_with(reads, script, tasks=tasks)
    if wait < 0.2:
        assert b"".join(notes) == b"abcdef"
    else:
        assert notes == [(0, 3, "acked_unseen"), b"def"]


def test_unacked_hole_waits_for_its_bytes_for_as_long_as_it_takes(tasks):
    def script(t):
        t.handshake()
        late = t.segment(CLIENT, ACK, b"abc")
        t.c(b"def")
        t.s(ack=0)
        t.rest(30)
        t.give(late)
        t.s()
        t.close()

    assert b"".join(read_with(reads, script, tasks=tasks)) == b"abcdef"


@pytest.mark.parametrize("ending", ["end", "reset", "fin"])
def test_unacked_hole_becomes_a_lost_gap_when_the_flow_ends(tasks, ending):
    def script(t):
        t.handshake()
        t.c(b"abc")
        t.s()
        t.skip(CLIENT, 4)
        t.c(b"xyz")
        if ending == "reset":
            t.s(flags=RST | ACK, ack=3)
        if ending == "fin":
            t.c(flags=FIN | ACK)
            t.s(flags=FIN | ACK, ack=3)

    async def handler(client, notes):
        try:
            await reads(client, notes)
        except aiomos.FlowReset:
            notes.append("reset")

    notes = read_with(handler, script, tasks=tasks)
    expected = [b"abc", (3, 4, "lost"), b"xyz"]
    assert notes == ([*expected, "reset"] if ending == "reset" else expected)


def test_hole_in_a_one_sided_capture_becomes_a_lost_gap_after_a_second(tasks):
    def script(t):
        t.c(flags=ACK, data=b"abc", ack=0)
        t.skip(CLIENT, 4)
        t.c(b"xyz", ack=0)
        t.rest(0.9)
        t.c(b"!", ack=0)
        t.rest(0.2)
        t.c(b"?", ack=0)
        t.rest(5)

    async def handler(client, notes):
        await reads(client, notes)

    notes = read_with(handler, script, tasks=tasks, burst=1)
    assert notes[:2] == [b"abc", (3, 4, "lost")]
    assert b"".join(notes[2:]) == b"xyz!?"


def test_too_many_ranges_behind_a_hole_make_it_a_gap(tasks):
    def script(t):
        t.handshake()
        t.skip(CLIENT, 1)
        for _ in range(4200):
            t.c(b"x", ack=0)
            t.skip(CLIENT, 1)

    notes = read_with(reads, script, tasks=tasks)
    assert notes[0] == (0, 1, "out_of_order_limit")
    assert b"".join(n for n in notes if isinstance(n, bytes)) == b"x" * 4200


# ---- slow readers ------------------------------------------------------------------------------


def talkative(n, each=1000):
    """The client says n numbered blocks, a tenth of a second apart."""

    def script(t):
        t.handshake()
        for number in range(n):
            t.c(b"%04d" % number * (each // 4))
            t.s()
            t.rest(0.1)
        t.close()

    return script


@pytest.mark.replay_loop
def test_side_left_unread_beyond_its_limit_has_one_slow_reader_gap(tasks):
    async def handler(client, notes):
        notes.append(await client.readexactly(4))
        await asyncio.sleep(3)
        await reads(client, notes)

    notes = read_with(handler, talkative(40), tasks=tasks, limit=5000, burst=1)
    sizes = [n if isinstance(n, tuple) else len(n) for n in notes]
    gaps = [n for n in sizes if isinstance(n, tuple)]
    (gap,) = gaps
    assert gap[2] == "slow_reader"
    assert sizes[0] == 4
    assert gap[0] == 4 + 5000  # what was read, and a full buffer
    assert sum(n for n in sizes if isinstance(n, int)) + gap[1] == 40_000
    assert notes.summary.counters["slow_reader_bytes"] == gap[1]
    assert "limit=" in str(notes.summary)


@pytest.mark.replay_loop
def test_side_left_unread_within_its_limit_loses_nothing(tasks):
    async def handler(client, notes):
        notes.append(await client.readexactly(4))
        await asyncio.sleep(3)
        await reads(client, notes)

    notes = read_with(handler, talkative(40), tasks=tasks, limit=40_000, burst=1)
    assert sum(map(len, notes)) == 40_000
    assert notes.summary.counters["slow_reader_bytes"] == 0


def test_reader_that_keeps_up_loses_nothing_however_small_its_limit(tasks):
    notes = read_with(reads, talkative(200), tasks=tasks, limit=10)
    assert sum(map(len, notes)) == 200_000
    assert notes.summary.counters["slow_reader_bytes"] == 0


@pytest.mark.replay_loop
def test_side_never_read_is_stopped_without_a_gap_and_counted(tasks):
    async def handler(client, notes):
        await asyncio.sleep(100)
        notes.append("done")

    notes = read_with(handler, talkative(100), tasks=tasks, limit=5000, linger=200)
    assert notes == ["done"]
    assert notes.summary.counters["unread_side"] == 1
    assert notes.summary.counters["slow_reader_bytes"] == 0
    assert notes.summary.counters["gaps"] == 0


@pytest.mark.replay_loop
def test_side_read_late_after_all_gives_its_buffer_one_gap_and_the_rest(tasks):
    async def handler(client, notes):
        await asyncio.sleep(5)
        await reads(client, notes)

    notes = read_with(handler, talkative(100), tasks=tasks, limit=5000, burst=1)
    sizes = [n if isinstance(n, tuple) else len(n) for n in notes]
    gaps = [n for n in sizes if isinstance(n, tuple)]
    (gap,) = gaps
    assert gap[2] == "slow_reader"
    assert sum(sizes[: sizes.index(gap)]) == gap[0] >= 5000
    assert sum(n for n in sizes if isinstance(n, int)) + gap[1] == 100_000
    assert notes.summary.counters["unread_side"] == 1


@pytest.mark.replay_loop
@pytest.mark.parametrize("on_full", ["stop", "detach"])
def test_full_side_of_a_handler_that_says_so_is_read_no_more(tasks, on_full):
    app = aiomos.App()
    notes = []

    @app.tcp(limit=5000, on_full=on_full)
    async def handler(flow):
        notes.append(await flow.client.readexactly(4))
        await asyncio.sleep(5)
        notes.append(await flow.client.read(10))

    summary = play(app, talkative(100), tasks=tasks)
    assert notes == [b"0000", b""]
    assert summary.counters["slow_reader_bytes"] == 0


def test_other_side_unread_does_not_disturb_the_one_that_is_read(tasks):
    def script(t):
        t.handshake()
        for _ in range(100):
            t.s(b"s" * 1000)
            t.c(b"c" * 10)
        t.close(first=SERVER)

    async def handler(client, notes):
        notes.append(len(await client.read()))

    notes = read_with(handler, script, tasks=tasks, limit=5000)
    assert notes == [1000]
    assert notes.summary.counters["unread_side"] == 1
