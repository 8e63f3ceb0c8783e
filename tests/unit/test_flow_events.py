"""Events of one flow: flow.subscribe, flow.events, flow.wait, flow.after."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, whole

import aiomos
from aiomos import ConnectionEnd, Idle, StateChange, TimerFired

HELLO = whole(b"hello", b"there")


def silence(seconds):
    """A connection that says nothing for so long between its handshake and its end."""

    def script(t):
        t.handshake()
        t.rest(seconds)
        t.c(b"x")
        t.close()

    return script


# ---- subscribe and unsubscribe -----------------------------------------------------------------


@both_tasks
def test_subscribed_functions_are_told_of_their_flow_only_in_order_of_subscription(tasks):
    calls = []

    async def handler(flow):
        def first(told, event, packet):
            calls.append(("first", told is flow, event))

        async def second(told, event):
            calls.append(("second", told is flow, event))

        if flow.client.port == 40000:
            flow.subscribe(ConnectionEnd, second)
            flow.subscribe([StateChange, ConnectionEnd], first)

    play(handler, HELLO, HELLO, tasks=tasks, burst=4)
    assert all(same for _, same, _ in calls)
    assert [n for n, _, e in calls if type(e) is ConnectionEnd] == ["first", "second"]
    assert len([n for n, _, _ in calls if n == "first"]) > 3


def test_subscribed_functions_come_behind_those_of_the_app():
    app, calls = aiomos.App(), []

    @app.on(StateChange)
    def first(flow, event, packet):
        calls.append(("app", event))
        if not flow.context:
            flow.context = True
            flow.subscribe(StateChange, lambda f, e, p: calls.append(("flow", e)))

    play(app, HELLO)
    assert [n for n, _ in calls] == ["app"] + ["app", "flow"] * (len(calls) // 2)
    assert all(calls[i][1] is calls[i + 1][1] for i in range(1, len(calls), 2))


def test_function_subscribed_while_an_event_is_told_to_the_flow_gets_the_next_one():
    app, told = aiomos.App(), []

    @app.tcp(start="syn")
    async def handler(flow):
        def late(f, event, packet):
            told.append(("late", event))

        def first(f, event, packet):
            told.append(("first", event))
            if len(told) == 1:
                flow.subscribe(StateChange, late)

        flow.subscribe(StateChange, first)

    play(app, HELLO, burst=1)
    assert [n for n, _ in told[:3]] == ["first", "first", "late"]


def test_function_taken_back_while_an_event_is_told_is_not_told_of_it():
    told = []

    async def handler(flow):
        def first(f, event, packet):
            assert flow.unsubscribe(StateChange, second)

        def second(f, event, packet):
            told.append(event)

        flow.subscribe(StateChange, first)
        flow.subscribe([StateChange, ConnectionEnd], second)

    summary = play(handler, HELLO, burst=1)
    assert [type(e) for e in told] == [ConnectionEnd]
    assert summary.handler_errors > 0  # there was nothing to take back the second time


def test_unsubscribe_says_whether_there_was_anything():
    found = []

    async def handler(flow):
        def note(f, event, packet):
            found.append(event)

        flow.subscribe(StateChange, note)
        found.append(flow.unsubscribe(ConnectionEnd, note))
        found.append(flow.unsubscribe(StateChange, note))
        found.append(flow.unsubscribe(StateChange, note))

    play(handler, HELLO, burst=1)
    assert found == [False, True, False]


def test_subscription_outlives_its_handler_and_ends_with_bypass():
    told = []

    async def returns(flow):
        flow.subscribe(ConnectionEnd, lambda f, e, p: told.append("returned"))

    async def bypasses(flow):
        flow.subscribe(ConnectionEnd, lambda f, e, p: told.append("bypassed"))
        flow.bypass()

    app = aiomos.App()
    app.tcp()(returns)
    app.tcp()(bypasses)
    play(app, HELLO, burst=2)
    assert told == ["returned"]


def test_subscribing_to_a_flow_that_is_over_does_nothing():
    found = []

    async def handler(flow):
        await flow.closed()
        flow.subscribe(ConnectionEnd, lambda f, e, p: found.append(e))
        assert [e async for e in flow.events()] == []
        assert await flow.wait() is None
        assert flow.after(1).cancel() is False
        found.append("end")

    assert play(handler, HELLO).handler_errors == 0
    assert found == ["end"]


@pytest.mark.parametrize("wanted", [aiomos.Flow, 5, [], aiomos.EventsLost])
def test_subscribing_to_what_is_no_event_is_refused(wanted):
    found = []

    async def handler(flow):
        try:
            flow.subscribe(wanted, lambda f, e, p: None)
        except (aiomos.AppError, aiomos.ConfigError, TypeError) as error:
            found.append(error)

    play(handler, HELLO)
    assert len(found) == 1


# ---- events() and wait() -----------------------------------------------------------------------


@both_tasks
def test_events_are_those_told_from_the_call_on_and_end_with_the_flow(tasks):
    streamed, told = [], []

    async def handler(flow):
        stream = flow.events(StateChange, ConnectionEnd)
        flow.subscribe([StateChange, ConnectionEnd], lambda f, e, p: told.append(e))
        async for event in stream:
            streamed.append(event)

    play(handler, HELLO, tasks=tasks, burst=3)
    assert streamed == told
    assert type(streamed[-1]) is ConnectionEnd
    assert len(streamed) > 3


def test_events_beyond_the_limit_are_lost_and_said_in_their_place_but_never_the_end():
    got = []

    async def handler(flow):
        stream = flow.events(limit=2)
        await flow.closed()
        assert len(stream) == 4
        async for event in stream:
            got.append(event)

    summary = play(handler, HELLO, burst=3)
    assert [type(e) for e in got[2:]] == [aiomos.EventsLost, ConnectionEnd]
    assert summary.counters["events_lost"] == got[2].count > 0
    assert got[2].time >= got[1].time


def test_events_lost_stand_between_those_that_were_kept():
    got = []

    async def handler(flow):
        stream = flow.events(StateChange, limit=1)
        await flow.wait(StateChange)  # the stream has that one too, and no room for more
        await flow.wait(ConnectionEnd)
        async for event in stream:
            got.append(event)

    play(handler, HELLO, burst=1)
    assert [type(e) for e in got] == [StateChange, aiomos.EventsLost]


@both_tasks
def test_wait_gives_the_next_event_or_none_when_the_flow_has_ended(tasks):
    got = []

    async def handler(flow):
        got.append(await flow.wait(StateChange))
        got.append(await flow.wait(aiomos.Overlap))

    play(handler, HELLO, tasks=tasks, burst=2)
    assert [type(g) for g in got] == [StateChange, type(None)]


@pytest.mark.replay_loop
def test_wait_that_is_cancelled_leaves_nothing_behind():
    got = []

    async def handler(flow):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await flow.wait(aiomos.Overlap)
        got.append(type(await flow.wait(StateChange)))

    assert play(handler, silence(5), burst=1).handler_errors == 0
    assert got == [StateChange]


def test_stream_no_longer_referred_to_listens_no_more():
    app = aiomos.App()

    @app.tcp(start="syn")
    async def handler(flow):
        async for _ in flow.events(StateChange, limit=2):
            break
        gc.collect()
        await flow.closed()

    assert play(app, HELLO, burst=1).counters["events_lost"] == 0


def test_stream_closed_gives_what_was_queued_and_no_more():
    got = []

    async def handler(flow):
        async with contextlib.aclosing(flow.events(StateChange)) as stream:
            await flow.wait(StateChange)
        await flow.closed()
        got.extend([e async for e in stream])

    play(handler, HELLO, burst=1)
    assert len({e.time for e in got}) == 1  # the frame that ended the wait told two


def test_child_task_takes_events_after_its_handler_has_returned():
    got, children = [], []

    async def handler(flow):
        async def watch():
            async for event in flow.events(ConnectionEnd):
                got.append(event.reason)

        children.append(asyncio.create_task(watch()))

    play(handler, HELLO, burst=1)
    assert got == ["FIN"]


# ---- timers ------------------------------------------------------------------------------------


@both_tasks
def test_timer_calls_its_function_then_tells_timer_fired(tasks):
    app, told = aiomos.App(), []

    @app.on(TimerFired)
    def of_app(flow, event, packet):
        told.append(("app", event.value, packet))

    @app.tcp()
    async def handler(flow):
        flow.after(1.5, lambda f, e, p: told.append(("own", e.value, p)), value="soon")
        event = await flow.wait(TimerFired)
        told.append(("waited", event.value, round(event.time - flow.start, 2)))

    play(app, silence(5), tasks=tasks, burst=1)
    assert told == [("own", "soon", None), ("app", "soon", None), ("waited", "soon", 1.5)]


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_timer_set_in_place_fires_at_its_time_also_in_the_middle_of_a_burst(burst):
    app, told = aiomos.App(), []

    @app.on(StateChange, hook="sender")
    def begin(flow, event, packet):
        if event.old == "CLOSED":
            flow.after(0.0035, lambda f, e, p: told.append(("timer", f.client.packets)))

    play(app, HELLO, burst=burst)
    assert told == [("timer", 3)]  # SYN, ACK and 5 bytes had come by then


def test_timers_fire_in_order_of_time_and_not_when_cancelled_or_after_the_end():
    told = []

    async def handler(flow):
        for seconds in (3, 1, 2, 50):
            flow.after(seconds, lambda f, e, p: told.append(e.value), value=seconds)
        cancelled = flow.after(1.5, lambda f, e, p: told.append("cancelled"))
        assert cancelled.cancel() is True
        assert cancelled.cancel() is False

    assert play(handler, silence(10), burst=1).handler_errors == 0
    assert told == [1, 2, 3]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_timer_at_no_time_is_refused(seconds):
    found = []

    async def handler(flow):
        with pytest.raises(ValueError, match="after"):
            flow.after(seconds)
        found.append(1)

    play(handler, HELLO)
    assert found == [1]


def test_many_cancelled_timers_are_cleared_away():
    kept = []

    class Token:
        pass

    async def handler(flow):
        for _ in range(1000):
            token = Token()
            kept.append(weakref.ref(token))
            flow.after(3000, value=token).cancel()
        del token
        gc.collect()
        kept.append(sum(r() is not None for r in kept))

    play(handler, silence(1))
    assert kept[-1] < 200


# ---- Idle --------------------------------------------------------------------------------------


@both_tasks
def test_idle_is_told_once_for_each_silence(tasks):
    told = []

    def script(t):
        t.handshake()
        for _ in range(2):
            t.rest(25)
            t.c(b"x")
        t.rest(5)
        t.s()
        t.rest(5)
        t.close()

    async def handler(flow):
        async for event in flow.events(Idle):
            told.append((round(event.time - flow.start), round(event.seconds)))

    play(handler, script, tasks=tasks, idle=10, burst=1)
    assert told == [(10, 10), (35, 10)]


def test_idle_of_the_app_is_told_of_udp_and_embryonic_flows_too():
    app, told = aiomos.App(), []

    @app.on(Idle)
    def note(flow, event, packet):
        assert (packet, event.hook, event.side) == (None, "timer", "")
        told.append((flow.id, flow.protocol))

    def unanswered(t):
        t.c(flags=2)
        t.rest(4)
        t.c(flags=2)

    play(app, unanswered, silence(100), idle=2)
    assert sorted(set(told)) == [(1, "tcp"), (2, "tcp")]


@pytest.mark.replay_loop
def test_wait_for_idle_begins_in_the_middle_of_a_long_timeout():
    found = []

    async def handler(flow):
        await asyncio.sleep(100)
        event = await flow.wait(Idle)
        found.append(round(event.time - flow.start))

    def script(t):
        t.handshake()
        t.rest(90)
        t.c(b"x")
        t.rest(3000)
        t.close()

    play(handler, script, idle=20, burst=1)
    assert found == [110]
