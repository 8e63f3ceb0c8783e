"""An engine on a loop that is not the project's own: asyncio's and uvloop's, in both task modes.

The engine's clock is the capture's there too; asyncio's is the loop's, and real.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import LOOPS, START, Notes, attached, both_tasks, tape_of, whole
from readings import noting

import aiomos

pytestmark = [both_tasks, pytest.mark.parametrize("loop", LOOPS)]

#: Seconds of real time for what must never come.
NEVER = 3600


def pieces(*data, pause=1.0, close=True):
    """The client says these, so many seconds apart, and the server "ok" to each."""

    def script(t):
        t.handshake()
        for piece in data:
            t.rest(pause)
            t.c(piece)
            t.s(b"ok")
        if close:
            t.close()

    return script


SLOW = pieces(b"a\n", b"b\n", b"c\n")


def served(handler, *scripts, tasks, loop, burst=1, **options):
    """What `handler(flow, notes)` noted, with its failure; `notes.summary` is the run's."""
    notes = Notes()
    source = tape_of(*scripts).source()
    notes.summary = attached(
        noting(handler, notes), source, LOOPS[loop], tasks=tasks, burst=burst, **options
    )
    return notes


class Live:
    """Frames that come one by one while the loop runs, in the order of the tape."""

    def __init__(self, *scripts):
        self.source = aiomos.MemorySource()
        self.frames = tape_of(*scripts).in_order()

    def push(self, n):
        for frame in self.frames[:n]:
            self.source.push(*frame)
        del self.frames[:n]

    def finish(self):
        self.push(len(self.frames))
        self.source.finish()


def on(loop, main):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main())


# ---- reading -----------------------------------------------------------------------------------

CALLS = {
    "read": lambda end: end.read(100),
    "read to the end": lambda end: end.read(),
    "readexactly": lambda end: end.readexactly(5),
    "readuntil": lambda end: end.readuntil((b"c\n", b"b\n")),
    "readline": lambda end: end.readline(),
    "peek": lambda end: end.peek(3),
    "skip": lambda end: end.skip(3),
    "anext": anext,
    "lines": lambda end: anext(end.lines()),
    "chunks": lambda end: anext(end.chunks()),
}
FOUND = {
    "read": b"a\n",
    "read to the end": b"a\nb\nc\n",
    "readexactly": b"a\nb\nc",
    "readuntil": b"a\nb\n",
    "readline": b"a\n",
    "peek": b"a\nb",
    "skip": 3,
    "anext": b"a\n",
    "lines": b"a",
    "chunks": aiomos.Chunk(b"a\n", 0, START / 1e9 + 1.003),
}


@pytest.mark.parametrize("call", CALLS)
def test_flow_goes_on_call_waits_and_gives_its_bytes(tasks, loop, call):
    async def handler(flow, notes):
        notes.append(await CALLS[call](flow.client))

    found = served(handler, SLOW, tasks=tasks, loop=loop)
    assert found == [FOUND[call]]


@pytest.mark.parametrize("burst", [1, 64])
def test_children_of_the_handler_read_a_side_each(tasks, loop, burst):
    async def handler(flow, notes):
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(end.read()) for end in (flow.client, flow.server)]
        notes.extend(task.result() for task in ends)

    found = served(handler, SLOW, tasks=tasks, loop=loop, burst=burst)
    assert found == [b"a\nb\nc\n", b"okokok"]


def test_frames_come_while_the_loop_runs_each_word_is_read_when_it_came(tasks, loop):
    live = Live(pieces(b"one", b"two"))
    words = asyncio.Queue()

    async def handler(flow):
        while word := await flow.client.read(100):
            await words.put(word)
        await words.put(await flow.closed())

    async def main():
        serving = asyncio.create_task(aiomos.Engine(live.source, tasks=tasks).serve(handler))
        live.push(4)  # the handshake and the first word
        found = [await words.get()]
        live.push(2)
        found.append(await words.get())
        live.finish()
        found.append(await words.get())
        await serving
        return found

    assert on(loop, main) == [b"one", b"two", "FIN"]


def test_messages_are_turns(tasks, loop):
    async def handler(flow, notes):
        notes.extend([(m.side, m.data) async for m in flow.messages()])

    found = served(handler, pieces(b"one", b"two"), tasks=tasks, loop=loop)
    assert found == [("client", b"one"), ("server", b"ok"), ("client", b"two"), ("server", b"ok")]


# ---- the engine's clock ------------------------------------------------------------------------


def test_timeout_of_a_call_is_capture_time_and_takes_nothing(tasks, loop):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.readexactly(4, timeout=1.5)
        notes.append(flow.client.buffered)
        notes.append(await flow.client.readexactly(4, timeout=1.5))

    assert served(handler, SLOW, tasks=tasks, loop=loop) == [2, b"a\nb\n"]


def test_timeout_of_hours_takes_no_real_time(tasks, loop):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.read(1, timeout=NEVER)
        await flow.sleep(NEVER)
        notes.append(await flow.client.read(1))

    script = pieces(b"x", pause=3 * NEVER)
    began = time.monotonic()
    found = served(handler, script, tasks=tasks, loop=loop, established=10 * NEVER)
    assert found == [b"x"]
    assert time.monotonic() - began < NEVER


def test_every_ticks_on_capture_time(tasks, loop):
    app, ticks = aiomos.App(), []

    @app.every(1.0)
    async def tick():
        ticks.append(1)

    @app.tcp()
    async def run(flow):
        await flow.closed()

    attached(app, tape_of(pieces(*[b"x"] * 10)).source(), LOOPS[loop], tasks=tasks, burst=1)
    assert 9 <= len(ticks) <= 11


def test_after_and_wait_tell_of_timers_and_events(tasks, loop):
    async def handler(flow, notes):
        flow.after(0.5, value="half a second")
        event = await flow.wait(aiomos.TimerFired)
        notes.append((event.value, flow.client.buffered))
        notes.append(type(await flow.wait(aiomos.ConnectionEnd)).__name__)

    found = served(handler, SLOW, tasks=tasks, loop=loop)
    assert found == [("half a second", 0), "ConnectionEnd"]


# ---- the end of the flow -----------------------------------------------------------------------


def reset(t):
    t.handshake()
    t.c(b"abc")
    t.s()
    t.say(1, 0x14)


def silent(t):
    t.handshake()
    t.c(b"abc")
    t.rest(7200)
    other = type(t)(t.sink, client=("10.0.9.9", 1), at=t.now)
    other.handshake()


ENDS = {
    "FIN": (whole(b"abc"), b""),
    "RESET": (reset, aiomos.FlowReset),
    "TIMEOUT": (silent, aiomos.FlowTimeout),
    "CAPTURE_END": (pieces(b"abc", close=False), b""),
}


@pytest.mark.parametrize("reason", ENDS)
def test_flow_ends_closed_tells_the_reason_and_reading_what_it_means(tasks, loop, reason):
    script, end = ENDS[reason]

    async def handler(flow, notes):
        if flow.id > 1:
            return
        notes.append(await flow.closed())
        notes.append(await flow.client.read(3))
        try:
            notes.append(await flow.client.read(3))
        except aiomos.FlowError as error:
            notes.append(type(error))

    found = served(handler, script, tasks=tasks, loop=loop, established=60)
    assert found == [reason, b"abc", end]


def test_scope_ends_its_tasks_and_its_body_with_the_flow(tasks, loop):
    async def handler(flow, notes):
        async def child():
            try:
                await asyncio.sleep(NEVER)
            finally:
                notes.append("child cancelled")

        async with flow.scope(linger=0.1) as scope:
            scope.create_task(child())
            await asyncio.sleep(NEVER)
        notes.append((flow.close_reason, asyncio.current_task().cancelling()))

    assert served(handler, SLOW, tasks=tasks, loop=loop) == ["child cancelled", ("FIN", 0)]


# ---- cancellation ------------------------------------------------------------------------------


def test_read_cancelled_by_the_loops_clock_takes_nothing_and_reading_goes_on(tasks, loop):
    live = Live(pieces(b"one"))
    notes = []

    async def handler(flow):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await flow.client.readexactly(3)
        live.finish()
        notes.append(await flow.client.readexactly(3))
        notes.append(asyncio.current_task().cancelling())

    async def main():
        live.push(3)
        await aiomos.Engine(live.source, tasks=tasks).serve(handler)

    on(loop, main)
    assert notes == [b"one", 0]


def test_handler_cancelled_from_another_task_others_go_on(tasks, loop):
    notes = []

    async def handler(flow):
        if flow.id == 1:
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel, "enough")
        try:
            notes.append((flow.id, await flow.client.read()))
        except asyncio.CancelledError as error:
            notes.append((flow.id, error.args))
            raise

    summary = attached(handler, tape_of(SLOW, SLOW).source(), LOOPS[loop], tasks=tasks, burst=1)
    assert notes == [(1, ("enough",)), (2, b"a\nb\nc\n")]
    assert summary.handler_errors == 0


def test_serve_cancelled_ends_all_handlers_and_leaves_no_task(tasks, loop):
    live, notes = Live(SLOW, SLOW), []

    async def main():
        both = asyncio.Barrier(3)

        async def handler(flow):
            try:
                await both.wait()
                await flow.client.readexactly(100)
            finally:
                notes.append(flow.id)

        live.push(8)
        serving = asyncio.create_task(aiomos.Engine(live.source, tasks=tasks).serve(handler))
        await both.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert aiomos.flow_tasks() == set()
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert on(loop, main) == set()
    assert sorted(notes) == [1, 2]


def test_handler_is_the_current_task_wherever_it_goes_on(tasks, loop):
    async def handler(flow, notes):
        task = asyncio.current_task()
        waits = {
            "the engine": lambda: flow.client.readexactly(2),
            "the loop": lambda: asyncio.sleep(0),
            "a timer": lambda: asyncio.sleep(0.001),
            "a thread": lambda: asyncio.to_thread(int),
            "a child": lambda: asyncio.create_task(asyncio.sleep(0)),
            "the engine again": flow.client.read,
        }
        for name, wait in waits.items():
            await wait()
            if asyncio.current_task() is not task or task not in aiomos.flow_tasks():
                notes.append(name)

    assert served(handler, SLOW, tasks=tasks, loop=loop) == []


# ---- the end of the run ------------------------------------------------------------------------


def test_linger_flow_sleep_passes_at_once_and_longer_ones_are_cancelled(tasks, loop):
    async def handler(flow, notes):
        await flow.closed()
        await flow.sleep(0.25)
        notes.append("slept")
        try:
            await flow.sleep(NEVER)
        except asyncio.CancelledError as error:
            notes.append(error.args)

    def script(t):
        t.handshake()

    found = served(handler, script, tasks=tasks, loop=loop, linger=0.5)
    assert found == ["slept", ("the run is over",)]


def test_linger_of_the_loops_clock_lets_a_handler_finish(tasks, loop):
    async def handler(flow, notes):
        notes.append(await flow.closed())
        await asyncio.sleep(0.01)
        notes.append(await asyncio.to_thread(str, "finished"))

    assert served(handler, SLOW, tasks=tasks, loop=loop, linger=60) == ["FIN", "finished"]


def test_stop_closes_all_flows_with_shutdown_and_reading_ends(tasks, loop):
    live, notes = Live(*[pieces(b"abc", close=False)] * 3), []

    async def main():
        engine = aiomos.Engine(live.source, tasks=tasks)

        async def handler(flow):
            notes.append(await flow.client.readexactly(3))
            if flow.id == 3:
                engine.stop()
            notes.append(await flow.client.read())
            notes.append(await flow.closed())

        live.push(len(live.frames))  # and no end: only stop() ends it
        return await engine.serve(handler)

    on(loop, main)
    assert sorted(map(str, notes)) == ["SHUTDOWN"] * 3 + ["b''"] * 3 + ["b'abc'"] * 3


def test_handler_raises_it_is_told_and_others_go_on(tasks, loop, caplog):
    notes = []

    async def handler(flow):
        if flow.id == 1:
            raise ValueError("handler of the first")
        notes.append(await flow.client.read())

    summary = attached(handler, tape_of(SLOW, SLOW).source(), LOOPS[loop], tasks=tasks)
    assert notes == [b"a\nb\nc\n"]
    assert summary.handler_errors == 1
    assert "handler of the first" in caplog.text


# ---- other things on the same loop -------------------------------------------------------------


def test_two_engines_serve_side_by_side(tasks, loop):
    async def main():
        async def handler(flow):
            notes.append((flow.client.port, await flow.client.read()))

        notes = []
        engines = [
            aiomos.Engine(tape_of(SLOW, SLOW).source(), tasks=tasks, burst=1) for _ in range(2)
        ]
        await asyncio.gather(*(engine.serve(handler) for engine in engines))
        return sorted(notes)

    assert on(loop, main) == [(port, b"a\nb\nc\n") for port in (40000, 40000, 40001, 40001)]


def test_other_tasks_have_their_turn_between_bursts(tasks, loop):
    turns = []

    async def main():
        async def beside():
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        async def handler(flow):
            await flow.client.read(100)
            seen.append(len(turns))
            await flow.client.read(100)
            seen.append(len(turns))

        seen = []
        task = asyncio.create_task(beside())
        await aiomos.Engine(tape_of(SLOW).source(), tasks=tasks, burst=1).serve(handler)
        task.cancel()
        return seen

    first, second = on(loop, main)
    assert 0 < first < second


def eager_factory(loop, coro, *, name=None, context=None, **_):
    """asyncio.eager_task_factory, which before Python 3.13.3 refuses what uvloop hands on."""
    return asyncio.Task(coro, loop=loop, name=name, context=context, eager_start=True)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_loop_of_eager_tasks_handlers_and_children_read_all(tasks, loop):
    notes = []

    async def handler(flow):
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(end.read()) for end in (flow.client, flow.server)]
        notes.append([task.result() for task in ends])
        async with flow.scope() as scope:
            scope.create_task(asyncio.sleep(NEVER))
        notes.append(await flow.closed())
        async with flow.scope(linger=0):
            pass
        await asyncio.sleep(0)
        notes.append(asyncio.current_task().cancelling())

    async def main():
        asyncio.get_running_loop().set_task_factory(eager_factory)
        return await aiomos.Engine(tape_of(SLOW, SLOW).source(), tasks=tasks, burst=1).serve(
            handler
        )

    summary = on(loop, main)
    assert sorted(map(str, notes)) == ["0"] * 2 + ["FIN"] * 2 + ["[b'a\\nb\\nc\\n', b'okokok']"] * 2
    assert summary.handler_errors == 0
