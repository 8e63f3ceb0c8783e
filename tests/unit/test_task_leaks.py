"""Flow tasks are freed by reference counts alone, and say so when nobody asked for their error."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import weakref
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask, Parking
from aiomos._engine.taskqueue import TaskQueue

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, Pump, both_loops, turns  # noqa: F401


@pytest.fixture(autouse=True)
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Flow:
    """Knows its task, and its task knows it: the cycle that must not outlive the task."""

    task = None


async def returns(box):
    await box.read()


async def fails(box):
    await box.read()
    raise ValueError("x")


async def waits(box):
    await asyncio.sleep(0.001)
    await box.read()


async def groups(box):
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(box.read())


@pytest.mark.parametrize("handler", [returns, fails, waits, groups])
def test_an_ended_task_is_freed_at_once(run, handler):
    async def main(pump):
        box, flow = Mailbox(pump), Flow()
        flow.task = FlowTask(handler(box), pump.queue, flow=flow)
        flow.task.on_done = lambda task: task._log_traceback and task.exception()
        pump.queue.push(flow.task)
        await asyncio.sleep(0.005)
        box.put(1)
        await turns(8)
        task, owner = weakref.ref(flow.task), weakref.ref(flow)
        del flow
        assert task() is None
        assert owner() is None

    run(main)


@pytest.mark.parametrize("where", ["parked", "sleeping", "new"])
def test_a_cancelled_task_is_freed_at_once(run, where):
    async def main(pump):
        box = Mailbox(pump)
        coro = asyncio.sleep(100) if where == "sleeping" else box.read()
        task = pump.spawn(coro)
        del coro
        if where != "new":
            await turns()
        task.cancel()
        await turns()
        ref = weakref.ref(task)
        del task
        assert ref() is None

    run(main)


def test_thousands_of_tasks_leave_no_memory_behind(run):
    async def main(pump):
        async def once(count):
            for _ in range(count):
                box = Mailbox(pump)
                pump.spawn(returns(box))
                await asyncio.sleep(0)
                box.put(1)
            await turns()

        await once(200)
        pump.turns.clear()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await once(3000)
        pump.turns.clear()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 20_000
        assert pump.queue.born == 3200

    run(main)


@pytest.mark.skipif(sys.flags.dev_mode, reason="-X dev makes every block larger")
def test_a_parked_task_its_coroutine_and_its_parking_take_600_bytes():
    loop = asyncio.new_event_loop()
    queue, kept = TaskQueue(loop), []
    queue.debug = False  # asyncio's registry is not counted

    async def wait(parking):
        await parking

    def park():
        parking = Parking(queue)
        task = FlowTask(wait(parking), queue)
        task.step()
        return task

    loop.call_soon(loop.stop)
    loop.call_soon(lambda: kept.extend(park() for _ in range(1000)))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    loop.run_forever()
    size = (tracemalloc.get_traced_memory()[0] - before) / 1000
    tracemalloc.stop()
    for task in kept:
        task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert queue.alive == 0
    loop.close()
    assert size < 600


def collect_reports(loop):
    reports = []
    loop.set_exception_handler(
        lambda _, context: reports.append((context["message"], str(context.get("exception"))))
    )
    return reports


def test_an_exception_that_nobody_asked_for_is_reported_when_the_task_goes(run):
    async def main(pump):
        reports = collect_reports(asyncio.get_running_loop())
        box = Mailbox(pump)
        task = pump.spawn(fails(box))
        box.put(1)
        await turns()
        assert reports == []
        del task
        assert reports == [("Task exception was never retrieved", "x")]

    run(main)


@pytest.mark.parametrize("ask", ["result", "exception", "cancel", "await", "on_done"])
def test_an_exception_that_somebody_took_is_not_reported(run, ask):
    async def main(pump):
        reports = collect_reports(asyncio.get_running_loop())
        box = Mailbox(pump)
        task = pump.spawn(fails(box))
        if ask == "on_done":
            task.on_done = lambda ended: ended.exception()
        box.put(1)
        await turns()
        if ask == "await":
            with pytest.raises(ValueError):
                await task
        elif ask == "result":
            with pytest.raises(ValueError):
                task.result()
        elif ask != "on_done":
            getattr(task, ask)()
        ref = weakref.ref(task)
        del task
        gc.collect()  # pytest.raises keeps the traceback's frames
        assert ref() is None
        assert reports == []

    run(main)


@pytest.mark.parametrize("silent", [False, True])
def test_a_task_dropped_while_it_waits_is_reported_and_no_longer_counted(silent):
    loop = asyncio.new_event_loop()
    pump = Pump(loop)
    reports = collect_reports(loop)
    box = Mailbox(pump)
    task = pump.spawn(box.read())
    task._log_destroy_pending = not silent
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    ref = weakref.ref(task)
    del task, box  # task, coroutine and parking know each other
    gc.collect()
    assert ref() is None
    assert (
        [message for message, _ in reports] == []
        if silent
        else ["Task was destroyed but it is pending!"]
    )
    assert (pump.queue.alive, pump.queue.tasks()) == (0, [])
    loop.close()


def test_a_task_dropped_while_it_waits_for_a_foreign_future_is_no_longer_counted():
    loop = asyncio.new_event_loop()
    pump = Pump(loop)
    future = loop.create_future()

    async def wait(future):
        await future

    task = pump.spawn(wait(future))
    task._log_destroy_pending = False
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert pump.queue.foreign_waiters == 1
    del task, future
    gc.collect()
    assert (pump.queue.foreign_waiters, pump.queue.alive) == (0, 0)
    loop.close()


def test_a_queue_may_go_before_its_tasks():
    loop = asyncio.new_event_loop()
    queue = TaskQueue(loop)
    coro = turns(1)
    task = FlowTask(coro, queue)
    task._log_destroy_pending = False
    coro.close()
    del queue, task
    loop.close()
