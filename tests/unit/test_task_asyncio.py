"""What asyncio sees of a flow task: the current task, names, registry, stacks."""

from __future__ import annotations

import asyncio
import io
import sys
import weakref
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, Pump, both_loops, failure, turns, value  # noqa: F401

# ---- being the current task ---------------------------------------------------------------------


def test_current_task_is_the_flow_task_before_and_after_every_kind_of_wait(run):
    async def main(pump):
        box, seen = Mailbox(pump), []

        async def look():
            seen.append(asyncio.current_task())
            await box.read()
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())
            await asyncio.sleep(0.001)
            seen.append(asyncio.current_task())

        task = pump.spawn(look())
        await turns()
        assert asyncio.current_task() is not task
        box.put(1)
        await task
        assert seen == [task] * 4

    run(main)


def test_no_current_task_is_left_behind_in_the_loop(run):
    async def main(pump):
        seen = []
        pump.spawn(turns(0))
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))
        await turns()
        assert seen == [None]

    run(main)


def test_on_done_runs_at_the_end_of_the_step_with_no_current_task(run):
    async def main(pump):
        order = []
        task = FlowTask(value(5), pump.queue, flow="the flow")

        def on_done(ended):
            order.append(("on_done", ended.result(), ended.flow, asyncio.current_task()))

        task.on_done = on_done
        task.add_done_callback(lambda _: order.append("callback"))
        pump.queue.push(task)
        await turns(1)
        assert order == [("on_done", 5, "the flow", None)]
        assert task.flow is None
        await turns(1)
        assert order[1:] == ["callback"]

    run(main)


def test_on_done_may_step_another_task(run):
    async def main(pump):
        first, second = FlowTask(value(1), pump.queue), FlowTask(value(2), pump.queue)
        first.on_done = lambda _: second.step()
        pump.queue.push(first)
        third = pump.spawn(value(3))
        await turns(1)
        assert [task.result() for task in (first, second, third)] == [1, 2, 3]

    run(main)


def test_on_done_that_raises_is_reported_and_the_callbacks_still_run(run):
    async def main(pump):
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        task = FlowTask(value(1), pump.queue)
        task.on_done = lambda _: 1 / 0
        pump.queue.push(task)
        assert await task == 1
        assert isinstance(reports[0]["exception"], ZeroDivisionError)
        assert reports[0]["task"] is task

    run(main)


# ---- names and looks ----------------------------------------------------------------------------


def test_names_are_given_counted_or_set(run):
    async def main(pump):
        one, two = pump.spawn(value(1)), pump.spawn(value(2))
        named = pump.spawn(value(3), name=7)
        assert named.get_name() == "7"
        assert one.get_name().startswith("Flow-")
        assert int(two.get_name()[5:]) == int(one.get_name()[5:]) + 1
        one.set_name(("a", 1))
        assert one.get_name() == "('a', 1)"
        await asyncio.gather(one, two, named)

    run(main)


def test_repr_says_state_name_and_coroutine(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(box.read(), name="n")
        assert repr(task).startswith("<FlowTask pending name='n' coro=<Mailbox.read() running at")
        await turns()
        task.cancel()
        assert repr(task).startswith("<FlowTask cancelling name='n'")
        await turns()
        assert repr(task).startswith("<FlowTask cancelled name='n'")
        done = pump.spawn(value("x" * 5), name="d")
        await done
        assert "finished" in repr(done)
        assert "result='xxxxx'" in repr(done)

    run(main)


def test_class_can_be_subscripted_and_weakly_referenced(run):
    async def main(pump):
        assert FlowTask[int].__args__ == (int,)
        task = pump.spawn(value(1))
        assert weakref.ref(task)() is task
        assert task.get_loop() is asyncio.get_running_loop()
        assert asyncio.isfuture(task)
        await task

    run(main)


def test_state_attributes_are_asyncios(run):
    async def main(pump):
        task = pump.spawn(value(1))
        assert (task._state, task._result, task._exception, task._callbacks) == (
            "PENDING",
            None,
            None,
            None,
        )
        await task
        assert (task._state, task._result) == ("FINISHED", 1)
        failed = pump.spawn(failure(ValueError("x")))
        await turns()
        assert isinstance(failed._exception, ValueError)
        assert failed._log_traceback is True
        with pytest.raises(ValueError, match="only be set to False"):
            failed._log_traceback = True
        failed._log_traceback = False

    run(main)


def test_a_second_birth_and_things_that_are_no_coroutine_are_refused(run):
    async def main(pump):
        task = pump.spawn(value(1))
        other = value(2)
        with pytest.raises(RuntimeError, match="born once"):
            task.__init__(other, pump.queue)
        other.close()
        with pytest.raises(TypeError, match="a coroutine was expected, got 3"):
            FlowTask(3, pump.queue)
        with pytest.raises(TypeError):
            FlowTask(value, None)
        await task

    run(main)


def test_a_task_without_a_coroutine_can_be_touched_without_harm(run):
    async def main(pump):
        task = FlowTask.__new__(FlowTask)
        assert task.done()
        assert task.step() == 1
        assert task.cancel() is False
        pump.queue.push(task)
        await turns()
        assert pump.turns == []

    run(main)


# ---- the registry -------------------------------------------------------------------------------


def test_all_tasks_shows_a_flow_task_from_its_first_foreign_wait_to_its_end(run):
    async def main(pump):
        box = Mailbox(pump)
        future = asyncio.get_running_loop().create_future()

        async def wait():
            await box.read()
            await future
            await box.read()

        task = pump.spawn(wait())
        await turns()
        assert task not in asyncio.all_tasks()
        box.put(1)
        await turns()
        assert task in asyncio.all_tasks()
        future.set_result(None)
        await turns()
        assert task in asyncio.all_tasks()
        box.put(1)
        await task
        assert task not in asyncio.all_tasks()

    run(main)


def test_all_tasks_shows_a_flow_task_from_birth_in_debug_mode(run):
    async def main(pump):
        task = pump.spawn(value(1))
        assert task in asyncio.all_tasks()
        await task
        assert task not in asyncio.all_tasks()

    run(main, debug=True)


def test_asyncio_run_cancels_a_flow_task_that_waits_for_a_foreign_future(run):
    ended = []

    async def main(pump):
        async def wait():
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(asyncio.current_task())

        pump.spawn(wait())
        await turns()

    with asyncio.Runner() as runner:

        async def with_pump():
            await main(Pump(asyncio.get_running_loop()))

        runner.run(with_pump())
    assert len(ended) == 1


# ---- stacks -------------------------------------------------------------------------------------


def test_stack_of_a_parked_task_and_of_a_failed_one(run):
    async def main(pump):
        box = Mailbox(pump)

        async def wait():
            await box.read()
            raise ValueError("end")

        task = pump.spawn(wait())
        await turns()
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["wait"]
        text = io.StringIO()
        task.print_stack(file=text)
        assert "Stack for <FlowTask pending" in text.getvalue()
        box.put(1)
        await turns()
        assert [frame.f_code.co_name for frame in task.get_stack(limit=5)] == ["wait"]
        text = io.StringIO()
        task.print_stack(file=text)
        assert "ValueError: end" in text.getvalue()
        assert task.get_coro().cr_frame is None
        task.exception()

    run(main)
