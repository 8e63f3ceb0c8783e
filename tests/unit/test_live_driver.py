"""The live driver: woken by frames, timers by the machine's clock, and an orderly end."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import datagram
from kit import LOOPS, Notes, both_tasks, said
from line import Line, serve, served_live, until  # noqa: F401  (`play` is by served_live)

import aiomos
from aiomos import _drivers

pytestmark = [pytest.mark.parametrize("loop", LOOPS), both_tasks]
NEVER = 10**6


def test_frames_wake_a_handler_that_waits(play):
    notes = Notes()

    async def reads(flow):
        async for line in flow.client.lines():
            notes.append(line)

    async def story(line, engine):
        talk = line.greeting()
        for number in range(20):
            talk.c(b"%d\n" % number)
            await until(lambda number=number: len(notes) > number)

    summary = play(reads, story)
    assert notes == [b"%d" % number for number in range(20)]
    assert summary.received == summary.processed == 23


def test_task_of_the_loop_that_reads_has_its_turn_behind_each_burst(play):
    """Bursts are taken in a row only where nobody is told of anything."""
    notes, app = Notes(), aiomos.App()

    async def count(end):
        total = 0
        while total < 600_000:
            total += len(await end.read(65536))
        notes.append(total)

    @app.tcp(limit=100_000)
    async def reads(flow):
        await asyncio.create_task(count(flow.client))

    async def story(line, engine):
        talk = line.greeting()
        for _ in range(600):
            talk.c(bytes(1000))
            talk.s()  # acknowledges: the window moves
        await until(lambda: notes)

    play(app, story)
    assert notes == [600_000]


def test_timeout_of_a_read_comes_while_nothing_else_does(play):
    notes = Notes()

    async def reads(flow):
        for _ in range(3):
            before = time.monotonic()
            await notes.take(flow.client.read(timeout=0.05))
            notes.append(time.monotonic() - before >= 0.045)
        notes.append("over")

    async def story(line, engine):
        line.greeting()
        await until(lambda: "over" in notes)

    play(reads, story)
    assert [said(error)[0] for error in notes[:-1:2]] == [TimeoutError] * 3
    assert notes[1:-1:2] == [True] * 3  # not too early


def test_sleep_after_and_every_go_on_while_nothing_comes(play):
    notes, app = Notes(), aiomos.App()

    @app.tcp()
    async def waits(flow):
        flow.after(0.02, lambda flow, event, packet: notes.append("after"))
        await flow.sleep(0.03)
        notes.append("slept")

    @app.every(0.01)
    async def tick():
        notes.append("tick")

    async def story(line, engine):
        line.greeting()
        await until(lambda: notes.count("tick") > 5 and {"after", "slept"} <= set(notes))

    play(app, story)
    assert notes.count("after") == notes.count("slept") == 1
    assert notes.index("after") < notes.index("slept")


def test_engine_time_follows_the_machines_clock_and_never_goes_back(play):
    seen = []

    async def story(line, engine):
        talk = line.greeting()
        stamps = (0, -5, 3, -0.5)
        for ahead in stamps:
            raw = talk.segment(0, 0x10, b"x")
            line.give(raw, time.time_ns() + round(ahead * 1e9))
            count = engine.core.counters()["frames"]
            await until(lambda count=count: engine.core.counters()["frames"] > count)
            seen.append(engine.core.now)
        before = time.time() + 3
        await asyncio.sleep(0.1)
        seen.append(engine.core.now)
        assert seen[0] <= before

    async def idle(flow):
        await flow.closed()

    play(idle, story)
    assert seen == sorted(seen)


def test_handler_resumed_by_another_future_sleeps_from_then_on(play):
    """While nothing comes engine time stands still, until somebody asks for it."""
    notes = Notes()

    async def waits(flow):
        for _ in range(3):
            await asyncio.sleep(0.2)
            before = time.monotonic()
            await flow.sleep(0.1)
            notes.append(time.monotonic() - before)

    async def story(line, engine):
        line.greeting()
        await until(lambda: len(notes) == 3)

    play(waits, story)
    assert min(notes) >= 0.095


def test_frames_that_pass_no_filter_leave_the_loop_its_turns(play):
    seen, count = [], 20_000

    async def story(line, engine):
        raw = datagram(b"x", ("10.0.0.1", 1), ("10.0.0.2", 2))
        for _ in range(count):
            line.give(raw, seen=False)
        line.writer.publish()
        while not seen or seen[-1] < count:
            seen.append(line.ring.stats().taken)
            await asyncio.sleep(0)

    async def handler(flow):
        raise AssertionError("nothing is for it")

    summary = play(handler, story, filter="port 80")
    assert summary.filtered == count
    assert len([taken for taken in seen if 0 < taken < count]) >= 3


def test_steps_beyond_the_budget_are_made_at_once_in_the_next_turns(play, tasks, monkeypatch):
    if tasks == "asyncio":
        pytest.skip("asyncio's tasks are stepped by the loop, without a budget")
    monkeypatch.setattr(_drivers, "HEARTBEAT", NEVER)
    notes = Notes()

    async def reads(flow):
        notes.append(await flow.client.read())

    async def story(line, engine):
        talks = [line.greeting() for _ in range(60)]
        await until(lambda: len(engine.flow_tasks()) == len(talks))
        for talk in talks:
            line.give(talk.segment(0, 0x11, b"x"), seen=False)
        line.writer.publish()
        await until(lambda: len(notes) == len(talks))
        assert engine.pump.budget_spent

    play(reads, story, budget=1)


@pytest.mark.parametrize("busy_poll", [False, True])
def test_stop_closes_flows_and_handlers_may_linger(play, busy_poll):
    notes = Notes()

    async def ends(flow):
        notes.append(await flow.closed())
        await asyncio.sleep(0.02)
        await flow.sleep(0.02)
        notes.append("lingered")

    async def stays(flow):
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            notes.append("cancelled")
            raise

    app = aiomos.App()
    app.tcp()(ends)
    app.tcp()(stays)

    async def story(line, engine):
        line.greeting()
        await until(lambda: len(engine.flow_tasks()) == 2)

    play(app, story, busy_poll=busy_poll, linger=0.5)
    assert notes == [aiomos.CloseReason.SHUTDOWN, "lingered", "cancelled"]


def test_finish_takes_all_that_has_come_and_ends_the_flows_as_a_capture_does(play):
    notes = Notes()

    async def reads(flow):
        data = await flow.client.read()
        notes.append((len(data), flow.close_reason))

    async def story(line, engine):
        talk = line.talk()
        frames = []
        talk.sink = lambda raw, now: frames.append(raw)
        talk.handshake()
        for _ in range(50):
            talk.c(b"x" * 100)
        for raw in frames:
            line.give(raw, seen=False)
        line.writer.publish()
        engine.finish()
        await until(lambda: engine.pump.is_closed)

    summary = play(reads, story)
    assert notes == [(5000, aiomos.CloseReason.CAPTURE_END)]
    assert summary.received == 53


def test_cancelled_run_leaves_nothing_on_the_loop(loop, tasks):
    notes = Notes()

    async def stays(flow):
        try:
            await flow.client.read()
        except asyncio.CancelledError:
            notes.append("cancelled")
            raise

    async def main():
        running = asyncio.get_running_loop()
        with Line() as line:
            async with aiomos.Engine(line.source, tasks=tasks) as engine:
                serving = asyncio.create_task(engine.serve(stays))
                await until(lambda: engine.pump is not None)
                line.greeting()
                await until(engine.flow_tasks)
                serving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await serving
                assert not engine.flow_tasks()
            assert not running.remove_reader(line.source.fileno())

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
    assert notes == ["cancelled"]


@pytest.mark.parametrize("busy_poll", [False, True])
def test_run_that_has_ended_has_no_reader_on_the_loop(loop, tasks, busy_poll):
    async def idle(flow):
        pass

    async def main():
        running = asyncio.get_running_loop()
        with Line() as line:
            fd = line.source.fileno()
            assert fd >= 0
            async with aiomos.Engine(line.source, tasks=tasks, busy_poll=busy_poll) as engine:
                engine.on_start = lambda: running.call_later(0.05, engine.stop)
                line.greeting()
                summary = await engine.serve(idle)
            assert not running.remove_reader(fd)
            line.greeting()
            await asyncio.sleep(0.01)
            assert summary.received == engine.summary().received == 3

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())
