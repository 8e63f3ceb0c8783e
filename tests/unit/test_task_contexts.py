"""Context variables of flow tasks: copied at birth, kept over every wait."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from pathlib import Path

from aiomos._engine.task import FlowTask

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, Pump, both_loops, turns, value  # noqa: F401

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_the_context_is_a_copy_and_changes_stay_inside(run):
    async def main(pump):
        box = Mailbox(pump)
        variable.set("outer")

        async def change():
            seen = [variable.get()]
            variable.set("inner")
            await box.read()
            seen.append(variable.get())
            await asyncio.sleep(0)
            seen.append(variable.get())
            await asyncio.sleep(0.001)
            seen.append(variable.get())
            return seen

        task = pump.spawn(change())
        await turns()
        variable.set("later")
        box.put(1)
        assert await task == ["outer", "inner", "inner", "inner"]
        assert variable.get() == "later"
        assert task.get_context()[variable] == "inner"

    run(main)


def test_a_given_context_is_used_as_it_is(run):
    async def main(pump):
        context = contextvars.copy_context()

        async def change():
            variable.set("given")
            await asyncio.sleep(0)

        await pump.spawn(change(), context=context)
        assert context[variable] == "given"

    run(main)


def test_a_context_entered_elsewhere_fails_the_task_alone(run):
    async def main(pump):
        task = FlowTask(value(1), pump.queue, context=pump_context)
        pump.queue.push(task)
        other = pump.spawn(value(2))
        assert await other == 2
        assert isinstance(task.exception(), RuntimeError)
        task.get_coro().close()

    pump_context = contextvars.copy_context()
    original = Pump.turn
    try:
        Pump.turn = lambda self: pump_context.run(original, self)
        run(main)
    finally:
        Pump.turn = original


def test_children_inherit_the_flow_tasks_context(run):
    async def main(pump):
        async def child():
            return variable.get()

        async def handler():
            variable.set("flow")
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child())
            return task.result()

        assert await pump.spawn(handler()) == "flow"

    run(main)


def test_two_flow_tasks_woken_by_one_future_each_keep_their_context(run):
    async def main(pump):
        future = asyncio.get_running_loop().create_future()

        async def wait(name):
            variable.set(name)
            await future
            return variable.get()

        tasks = [pump.spawn(wait(name)) for name in "ab"]
        await turns()
        future.set_result(None)
        assert await asyncio.gather(*tasks) == ["a", "b"]

    run(main)
