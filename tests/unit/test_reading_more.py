"""What readers do beyond asyncio.StreamReader: timeouts, chunks, skip, low water, several ends."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, PSH, SERVER, START
from kit import Notes, both_tasks, play

import aiomos
from aiomos._engine.task import Parking

pytestmark = both_tasks


def noted(handler, script, *, tasks, burst=1, **declared):
    """What `handler(flow, notes)` noted of one conversation; its own failure fails the test."""
    notes = Notes()
    app = aiomos.App()

    @app.tcp(**declared)
    async def run(flow):
        try:
            await handler(flow, notes)
        except (Exception, pytest.fail.Exception) as error:
            notes.append(("FAILED", error))

    play(app, script, tasks=tasks, burst=burst)
    return notes


def slow(*pieces, pause=1.0, end=True):
    """The client says these, with so many seconds before each."""

    def script(t):
        t.handshake()
        for piece in pieces:
            t.rest(pause)
            t.c(piece)
            t.s()
        if end:
            t.close()

    return script


# ---- timeout= ----------------------------------------------------------------------------------

LATE = {
    "read": lambda end, timeout: end.read(100, timeout=timeout),
    "read to the end": lambda end, timeout: end.read(timeout=timeout),
    "readexactly": lambda end, timeout: end.readexactly(3, timeout=timeout),
    "readuntil": lambda end, timeout: end.readuntil(b"c", timeout=timeout),
    "readline": lambda end, timeout: end.readline(timeout=timeout),
    "peek": lambda end, timeout: end.peek(3, timeout=timeout),
    "skip": lambda end, timeout: end.skip(3, timeout=timeout),
    "lines": lambda end, timeout: anext(end.lines(timeout=timeout)),
    "chunks": lambda end, timeout: anext(end.chunks(timeout=timeout)),
}


@pytest.mark.replay_loop
@pytest.mark.parametrize("call", LATE)
def test_timeout_passed_raises_at_its_time_and_takes_nothing(tasks, call):
    async def handler(flow, notes):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await LATE[call](flow.client, 0.25)
        notes.append(round(asyncio.get_running_loop().time() - began, 3))
        notes.append(await flow.client.readexactly(6))

    notes = noted(handler, slow(b"abcdef"), tasks=tasks)
    assert notes == [0.25, b"abcdef"]


@pytest.mark.parametrize("call", LATE)
def test_timeout_not_reached_changes_nothing(tasks, call):
    async def plain(flow, notes):
        notes.append(await LATE[call](flow.client, None))

    async def timed(flow, notes):
        notes.append(await LATE[call](flow.client, 30))

    script = slow(b"abc\n")
    expected = noted(plain, script, tasks=tasks)
    assert noted(timed, script, tasks=tasks) == expected
    assert len(expected) == 1


def test_timeout_error_is_no_flow_timeout(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError, match=r"readexactly\(\)") as caught:
            await flow.client.readexactly(3, timeout=0.25)
        notes.append(isinstance(caught.value, aiomos.FlowTimeout))

    assert noted(handler, slow(b"abc"), tasks=tasks) == [False]


@pytest.mark.parametrize("seconds", [0, -1])
def test_timeout_of_zero_takes_what_is_there_or_raises_at_once(tasks, seconds):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.readexactly(4, timeout=seconds)
        await flow.client.peek(4)
        notes.append(await flow.client.readexactly(4, timeout=seconds))

    assert noted(handler, slow(b"four"), tasks=tasks) == [b"four"]


def test_timeout_that_is_no_number_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="seconds"):
            await flow.client.read(1, timeout=float("nan"))

    assert noted(handler, slow(b"x"), tasks=tasks) == []


def test_timeout_and_cancellation_from_outside_leave_no_timer_behind(tasks):
    """A timer that stayed would wake the next, unlimited wait."""

    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await flow.client.read(10, timeout=0.3)
        notes.append(await flow.client.read(10))
        notes.append(await flow.client.read(10))

    assert noted(handler, slow(b"one", b"two"), tasks=tasks) == [b"one", b"two"]


def test_bytes_that_come_at_the_very_end_of_the_time_are_not_lost(tasks):
    """Skip passes what came in time, and the rest can be read."""

    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.skip(8, timeout=1.5)
        notes.append(flow.client.offset)
        notes.append(await flow.client.read())

    assert noted(handler, slow(b"abcd", b"efgh"), tasks=tasks) == [4, b"efgh"]


@pytest.mark.parametrize("wait", ["closed", "wait"])
def test_flow_waits_take_a_timeout_too(tasks, wait):
    async def handler(flow, notes):
        call = flow.closed if wait == "closed" else lambda **how: flow.wait(aiomos.FinSeen, **how)
        with pytest.raises(TimeoutError):
            await call(timeout=0.5)
        notes.append(flow.is_closed)
        came = await call(timeout=30)
        notes.append(came if wait == "closed" else type(came))

    last = aiomos.CloseReason.FIN if wait == "closed" else aiomos.FinSeen
    assert noted(handler, slow(b"x"), tasks=tasks) == [False, last]


def test_established_takes_a_timeout(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.established(timeout=0.5)
        await flow.established(timeout=5)
        notes.append(flow.is_established)

    def script(t):
        t.c(flags=0x02)
        t.rest(1)
        t.s(flags=0x12)
        t.c()
        t.close()

    assert noted(handler, script, tasks=tasks, start="syn") == [True]


# ---- sleep -------------------------------------------------------------------------------------


@pytest.mark.replay_loop
def test_flow_sleep_takes_capture_time(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        began = loop.time()
        await flow.sleep(0.75)
        notes.append(round(loop.time() - began, 3))
        await flow.sleep(0)
        notes.append(flow.client.buffered)

    assert noted(handler, slow(b"x"), tasks=tasks) == [0.75, 0]


# ---- chunks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_chunks_have_offset_and_time_whatever_the_burst(tasks, burst):
    async def handler(flow, notes):
        async for chunk in flow.client.chunks():
            notes.append((chunk.offset, bytes(chunk), round(chunk.time - START / 1e9, 3)))

    script = slow(b"ab", b"cde", pause=1)
    notes = noted(handler, script, tasks=tasks, burst=burst)
    assert notes == [(0, b"ab", 1.003), (2, b"cde", 2.005)]


def test_chunk_behind_a_filled_hole_has_the_time_of_what_filled_it(tasks):
    async def handler(flow, notes):
        async for chunk in flow.client.chunks():
            notes.append((chunk.offset, len(chunk), round(chunk.time - START / 1e9, 3)))

    def script(t):
        t.handshake()
        t.c(b"late", at=4)
        t.rest(1)
        t.c(b"hole", at=0)
        t.s()
        t.close()

    assert noted(handler, script, tasks=tasks) == [(0, 8, 1.004)]


# ---- skip --------------------------------------------------------------------------------------


def test_skip_passes_bytes_over_packets_and_says_how_many(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(5))
        notes.append((flow.client.offset, await flow.client.read(2)))
        notes.append(await flow.client.skip(0))
        notes.append(await flow.client.skip(100))
        notes.append(await flow.client.skip(100))

    script = slow(b"abc", b"defg", b"hi")
    assert noted(handler, script, tasks=tasks, burst=1) == [5, (5, b"fg"), 0, 2, 0]


def test_skip_of_more_than_the_limit_loses_nothing(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(2000))
        notes.append(await flow.client.read())

    script = slow(*[bytes([65 + i]) * 100 for i in range(21)], pause=0)
    assert noted(handler, script, tasks=tasks, limit=150) == [2000, b"U" * 100]


def test_skip_of_a_negative_number_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="less than zero"):
            await flow.client.skip(-1)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


def holed(t):
    """Bytes 0 to 4, a gap of 10, then four more."""
    t.handshake()
    t.c(b"abcd")
    t.skip(CLIENT, 10)
    t.c(b"wxyz")
    t.s()
    t.rest(1)
    t.close()


def test_skip_counts_missing_bytes_and_raises_nothing(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(15))
        notes.append((flow.client.offset, await flow.client.read()))

    assert noted(handler, holed, tasks=tasks) == [15, (15, b"xyz")]


def test_skip_into_a_gap_leaves_the_rest_of_it_to_be_met(tasks):
    async def handler(flow, notes):
        notes.append(await flow.client.skip(7))
        with pytest.raises(aiomos.GapError) as gap:
            await flow.client.read(1)
        notes.append((gap.value.offset, gap.value.length, gap.value.cause))
        notes.append((flow.client.offset, await flow.client.read()))

    expected = [7, (7, 7, "acked_unseen"), (14, b"wxyz")]
    assert noted(handler, holed, tasks=tasks) == expected


# ---- low water ---------------------------------------------------------------------------------


def test_low_water_read_waits_for_so_many_bytes(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(4)
        while data := await flow.client.read(100):
            notes.append(data)

    script = slow(b"ab", b"c", b"de", b"f")
    assert noted(handler, script, tasks=tasks) == [b"abcde", b"f"]


def test_low_water_read_waits_for_no_more_than_it_asked_for(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(50)
        notes.append(await flow.client.read(2))
        notes.append(await flow.client.read(2))

    assert noted(handler, slow(b"a", b"bc"), tasks=tasks, burst=1) == [b"ab", b"c"]


def test_low_water_does_not_hold_back_what_stands_before_a_gap(tasks):
    async def handler(flow, notes):
        flow.client.set_low_water(100)
        notes.append(await flow.client.read(1000))
        with pytest.raises(aiomos.GapError):
            await flow.client.read(1000)
        notes.append(await flow.client.read(1000))

    assert noted(handler, holed, tasks=tasks) == [b"abcd", b"wxyz"]


@pytest.mark.parametrize("bytes_", [0, 201])
def test_low_water_out_of_range_is_a_value_error(tasks, bytes_):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="from 1 to the limit, 200"):
            flow.client.set_low_water(bytes_)

    assert noted(handler, slow(b"x"), tasks=tasks, limit=200) == []


# ---- readuntil with several separators ---------------------------------------------------------


def test_readuntil_takes_the_separator_that_ends_first(tasks):
    async def handler(flow, notes):
        for _ in range(3):
            notes.append(await flow.client.readuntil((b"\r\n", b"\n", b"--end--")))

    script = slow(b"one\r", b"\ntwo\nthree--e", b"nd--x")
    assert noted(handler, script, tasks=tasks) == [b"one\r\n", b"two\n", b"three--end--"]


@pytest.mark.parametrize("none", [(), (b"",), (b"x", b""), b""])
def test_readuntil_without_a_separator_is_a_value_error(tasks, none):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="Separator should"):
            await flow.client.readuntil(none)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


class OwnBytes(bytes):
    pass


@pytest.mark.parametrize("kind", [bytearray, memoryview, OwnBytes])
def test_readuntil_takes_any_bytes_as_a_separator(tasks, kind):
    async def handler(flow, notes):
        notes.append(await flow.client.readuntil(kind(b"\r\n")))
        notes.append(await flow.client.readuntil((kind(b"--"), kind(b"\n"))))

    script = slow(b"one\r", b"\ntwo-", b"-")
    assert noted(handler, script, tasks=tasks) == [b"one\r\n", b"two--"]


@pytest.mark.parametrize("other", ["\n", 1, (b"x", 1), None])
def test_readuntil_of_what_is_no_bytes_is_a_type_error(tasks, other):
    async def handler(flow, notes):
        with pytest.raises(TypeError, match="bytes-like object"):
            await flow.client.readuntil(other)

    assert noted(handler, slow(b"x"), tasks=tasks) == []


# ---- several handlers --------------------------------------------------------------------------


def test_two_handlers_each_have_their_own_cursor_over_the_same_bytes(tasks):
    notes = Notes()
    app = aiomos.App()

    @app.tcp()
    async def lines(flow):
        async for line in flow.client.lines():
            notes.append(("line", line))

    @app.tcp(limit=4)
    async def all_of_it(flow):
        await flow.sleep(0.5)
        notes.append(("all", await flow.client.read()))

    play(app, slow(b"a\nb\n", pause=1), tasks=tasks, burst=1)
    assert sorted(notes) == [("all", b"a\nb\n"), ("line", b"a"), ("line", b"b")]


# ---- messages ----------------------------------------------------------------------------------


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


# ---- scope -------------------------------------------------------------------------------------


def test_scope_ends_its_tasks_after_the_flow_and_its_linger(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()

        async def beat():
            try:
                while True:
                    await asyncio.sleep(0.1)
            finally:
                notes.append("beat cancelled")

        async def reader():
            notes.append(await flow.client.read())

        async with flow.scope(linger=0.5) as scope:
            scope.create_task(beat())
            scope.create_task(reader())
        notes.append("left")
        notes.append(asyncio.current_task().cancelling())
        await flow.closed()
        del loop

    assert noted(handler, slow(b"last words"), tasks=tasks) == [
        b"last words",
        "beat cancelled",
        "left",
        0,
    ]


def test_scope_ends_its_own_body_too(tasks):
    async def handler(flow, notes):
        async with flow.scope(linger=0.5):
            await asyncio.sleep(1000)
        notes.append("left")
        await asyncio.sleep(0)
        notes.append("goes on")

    assert noted(handler, slow(b"x"), tasks=tasks) == ["left", "goes on"]


def test_scope_left_early_waits_for_its_children_as_a_task_group(tasks):
    async def handler(flow, notes):
        async def child():
            notes.append(await flow.client.readexactly(3))

        async with flow.scope() as scope:
            scope.create_task(child(), name="child")
        notes.append("left")

    assert noted(handler, slow(b"abc"), tasks=tasks) == [b"abc", "left"]


def test_scope_child_that_fails_fails_the_scope(tasks):
    async def handler(flow, notes):
        async def child():
            raise ValueError("child")

        with pytest.raises(BaseExceptionGroup) as caught:
            async with flow.scope() as scope:
                scope.create_task(child())
                await asyncio.sleep(1000)
        notes.append([str(e) for e in caught.value.exceptions])

    assert noted(handler, slow(b"abc"), tasks=tasks) == [["child"]]


@pytest.mark.replay_loop
def test_scope_cancelled_from_outside_is_cancelled(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                async with flow.scope():
                    await asyncio.sleep(1000)
        notes.append(flow.is_closed)

    assert noted(handler, slow(b"abc"), tasks=tasks) == [False]


# ---- what was given up ----


async def quiet(awaitable):
    try:
        return await asyncio.wait_for(awaitable, 0.5)
    except TimeoutError:
        return "late"


@pytest.mark.replay_loop
def test_read_to_the_end_given_up_gives_nothing_of_it_to_the_next(tasks):
    async def handler(flow, notes):
        flow.client.configure(limit=512)
        notes.append(await quiet(flow.client.read()))
        notes.append(await flow.client.read(50))
        notes.append(await flow.client.read())

    notes = noted(handler, slow(b"a" * 1000, b"b" * 100, b"c" * 10, pause=0.4), tasks=tasks)
    assert notes == ["late", b"b" * 50, b"b" * 50 + b"c" * 10]


@pytest.mark.replay_loop
def test_read_of_an_ordinary_task_cancelled_the_handler_reads_on(tasks):
    async def handler(flow, notes):
        notes.append(await asyncio.create_task(quiet(flow.client.read(10))))
        notes.append(await flow.client.read(10))

    assert noted(handler, slow(b"x" * 10), tasks=tasks) == ["late", b"x" * 10]


def test_waits_for_the_end_of_a_flow_given_up_leave_nothing(tasks):
    def parkings():
        return sum(type(thing) is Parking for thing in gc.get_objects())

    async def handler(flow, notes):
        before = parkings()
        for _ in range(100):
            await quiet(flow.closed(timeout=0.01))
        notes.append(parkings() - before < 10)

    assert noted(handler, slow(b"x", pause=100), tasks=tasks) == [True]


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


@pytest.mark.parametrize("linger", [-1, float("nan"), float("inf")])
def test_scope_refuses_what_is_no_time(tasks, linger):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="linger"):
            flow.scope(linger=linger)
        notes.append("refused")

    assert noted(handler, slow(b"x"), tasks=tasks) == ["refused"]


def test_scope_in_a_task_that_was_cancelled_before_ends_with_the_flow(tasks):
    """Requests that were there when it was entered are not its own (as asyncio.timeout)."""

    async def handler(flow, notes):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            notes.append("cleans up")
        async with flow.scope(linger=0):
            await asyncio.sleep(1000)
        notes.append(asyncio.current_task().cancelling())

    assert noted(handler, slow(b"x", pause=3), tasks=tasks) == ["cleans up", 1]
