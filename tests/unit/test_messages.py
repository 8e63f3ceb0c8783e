"""flow.messages(): both sides as turns, in the order in which they came."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, PSH, SERVER, START
from kit import both_tasks, quiet
from readings import holed, noted, slow

import aiomos

pytestmark = both_tasks


def turns(*said):
    """(side, bytes, seconds before) in this order."""

    def script(t):
        t.handshake()
        for side, data, pause in said:
            t.rest(pause)
            t.say(side, ACK | PSH, data)
        t.close()

    return script


async def all_messages(flow, notes, **options):
    async for message in flow.messages(**options):
        if isinstance(message, aiomos.Gap):
            notes.append(("gap", message.offset, message.length))
        else:
            notes.append((message.side, bytes(message), message.offset, message.more))


@pytest.mark.parametrize("burst", [1, 3, 64])
def test_messages_are_turns_in_the_order_of_arrival(tasks, burst):
    script = turns(
        (CLIENT, b"GET ", 0), (CLIENT, b"/a", 0), (SERVER, b"200", 0), (SERVER, b" a", 0.1),
        (CLIENT, b"GET /b", 0), (SERVER, b"404", 0),
    )  # fmt: skip
    notes = noted(all_messages, script, tasks=tasks, burst=burst)
    assert notes == [
        ("client", b"GET /a", 0, False),
        ("server", b"200 a", 0, False),
        ("client", b"GET /b", 6, False),
        ("server", b"404", 5, False),
    ]


def test_messages_have_the_times_of_their_first_and_last_byte(tasks):
    async def handler(flow, notes):
        async for m in flow.messages():
            notes.append((m.side, *(round(t - START / 1e9, 3) for t in (m.time, m.last_time))))

    script = turns((SERVER, b"220 ", 1), (SERVER, b"hello", 1), (CLIENT, b"HELO", 1))
    assert noted(handler, script, tasks=tasks) == [
        ("server", 1.003, 2.004),
        ("client", 3.005, 3.005),
    ]


def test_messages_of_equal_stamps_keep_the_order_of_their_packets(tasks):
    def script(t):
        t.handshake()
        t.step = 0
        for side, word in ((CLIENT, b"q1"), (SERVER, b"a1"), (CLIENT, b"q2"), (SERVER, b"a2")):
            t.say(side, ACK | PSH, word)
        t.step = 1_000_000
        t.close()

    notes = noted(all_messages, script, tasks=tasks)
    assert [data for _, data, *_ in notes] == [b"q1", b"a1", b"q2", b"a2"]


def test_messages_longer_than_the_limit_come_in_pieces(tasks):
    async def handler(flow, notes):
        await all_messages(flow, notes, limit=4)

    script = turns((CLIENT, b"abc", 0), (CLIENT, b"def", 0), (CLIENT, b"g", 0), (SERVER, b"x", 0))
    assert noted(handler, script, tasks=tasks) == [
        ("client", b"abcdef", 0, True),
        ("client", b"g", 6, False),
        ("server", b"x", 0, False),
    ]


def test_messages_after_a_silence_are_given_as_they_stand(tasks):
    async def handler(flow, notes):
        try:
            await all_messages(flow, notes, timeout=2)
        except TimeoutError:
            notes.append("silence")
        await all_messages(flow, notes)

    script = turns((CLIENT, b"half", 0), (CLIENT, b"rest", 9), (SERVER, b"x", 0))
    assert noted(handler, script, tasks=tasks) == [
        ("client", b"half", 0, True),
        "silence",
        ("client", b"rest", 4, False),
        ("server", b"x", 0, False),
    ]


@pytest.mark.parametrize("on_gap", ["raise", "yield", "skip"])
def test_messages_never_span_a_gap(tasks, on_gap):
    async def handler(flow, notes):
        try:
            await all_messages(flow, notes)
        except aiomos.GapError as error:
            notes.append(("raised", error.offset, error.length))
            await all_messages(flow, notes)

    notes = noted(handler, holed, tasks=tasks, on_gap=on_gap)
    between = {"raise": [("raised", 4, 10)], "yield": [("gap", 4, 10)], "skip": []}[on_gap]
    assert notes == [
        ("client", b"abcd", 0, True),
        *between,
        ("client", b"wxyz", 14, False),
    ]


def test_messages_of_a_connection_that_was_reset_end_in_flow_reset(tasks):
    async def handler(flow, notes):
        with pytest.raises(aiomos.FlowReset):
            await all_messages(flow, notes)

    def script(t):
        t.handshake()
        t.c(b"ask")
        t.s(flags=0x14)

    assert noted(handler, script, tasks=tasks) == [("client", b"ask", 0, False)]


@pytest.mark.replay_loop
def test_messages_and_another_reader_of_a_side_are_refused(tasks):
    async def handler(flow, notes):
        reader = asyncio.create_task(flow.server.read(1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await all_messages(flow, notes)
        notes.append(await reader)
        await all_messages(flow, notes)

    script = turns((SERVER, b"220", 1), (CLIENT, b"x", 1))
    assert noted(handler, script, tasks=tasks) == [
        b"2",
        ("server", b"20", 1, False),
        ("client", b"x", 0, False),
    ]


def test_sides_can_be_read_apart_after_messages_was_left(tasks):
    async def handler(flow, notes):
        async for message in flow.messages():
            notes.append(bytes(message))
            break
        both = await asyncio.gather(flow.client.read(), flow.server.read())
        notes.append(both)

    script = turns((CLIENT, b"one", 0), (SERVER, b"two", 1), (CLIENT, b"three", 1))
    notes = noted(handler, script, tasks=tasks, burst=1)
    assert notes[0] == b"one"
    assert notes[1][0] == b"three"


def missing_answer(t):
    """Of the server's answer the tap misses the first bytes."""
    t.handshake()
    t.c(b"GET")
    t.skip(SERVER, 100)
    t.s(b"rest")
    t.c()
    t.rest(2)
    t.c(b"NEXT")
    t.s(b"ok")
    t.close()


@pytest.mark.parametrize("on_gap", ["raise", "yield", "skip"])
def test_messages_before_a_gap_of_the_other_end_are_given_before_it(tasks, on_gap):
    async def handler(flow, notes):
        turns = flow.messages()
        while True:
            try:
                turn = await anext(turns)
            except StopAsyncIteration:
                break
            except aiomos.GapError as error:
                notes.append(("gap", error.offset))
            else:
                gap = isinstance(turn, aiomos.Gap)
                notes.append(("gap", turn.offset) if gap else (turn.side, turn.data))

    said = [("client", b"GET"), ("server", b"rest"), ("client", b"NEXT"), ("server", b"ok")]
    if on_gap != "skip":
        said.insert(1, ("gap", 0))
    assert noted(handler, missing_answer, tasks=tasks, on_gap=on_gap) == said


def test_messages_of_a_gap_say_whose_it_is(tasks):
    async def handler(flow, notes):
        notes.extend([turn.side async for turn in flow.messages() if type(turn) is aiomos.Gap])

    assert noted(handler, missing_answer, tasks=tasks, on_gap="yield") == ["server"]


@pytest.mark.replay_loop
def test_messages_whose_wait_was_cancelled_go_on_with_the_turn_begun(tasks):
    async def handler(flow, notes):
        turns = flow.messages()
        notes.append(await quiet(anext(turns)))
        notes.append((await anext(turns)).data)

    assert noted(handler, slow(b"one", b"two", pause=0.4), tasks=tasks) == ["late", b"onetwo"]


def test_messages_asked_for_twice_at_once_the_first_goes_on(tasks):
    async def handler(flow, notes):
        first = asyncio.create_task(anext(flow.messages()))
        await asyncio.sleep(0)
        await notes.take(anext(flow.messages()))
        notes.append((await first).data)

    error, data = noted(handler, slow(b"one"), tasks=tasks)
    assert (type(error), data) == (RuntimeError, b"one")
