"""What asyncio sees of a flow task: names, callbacks, contexts, registry, awaiting, stacks."""

from __future__ import annotations

import asyncio
import contextvars
import io
import sys
import traceback
import weakref
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask

sys.path.append(str(Path(__file__).parent))
from test_task_driver import Mailbox, Pump, both_loops, turns  # noqa: F401

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def value(result):
    return result


async def failure(error):
    raise error


# ---- being the current task ----


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


# ---- contexts ----


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


# ---- names and looks ----


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


# ---- results ----


def test_result_before_the_end_is_an_invalid_state(run):
    async def main(pump):
        task = pump.spawn(value(1))
        with pytest.raises(asyncio.InvalidStateError, match="Result is not ready"):
            task.result()
        with pytest.raises(asyncio.InvalidStateError, match="Exception is not set"):
            task.exception()
        with pytest.raises(RuntimeError, match="does not support set_result"):
            task.set_result(1)
        with pytest.raises(RuntimeError, match="does not support set_exception"):
            task.set_exception(ValueError())
        await task
        assert task.exception() is None

    run(main)


@pytest.mark.parametrize("result", [None, (1, 2), StopIteration(3), ValueError("a value")])
def test_results_of_every_kind_come_through_await(run, result):
    async def main(pump):
        assert await pump.spawn(value(result)) is result

        async def outer():
            return await pump.spawn(value(result))

        assert await pump.spawn(outer()) is result

    run(main)


def test_raising_the_exception_again_does_not_make_its_traceback_longer(run):
    async def main(pump):
        task = pump.spawn(failure(ValueError("x")))
        await turns()
        lengths = []
        for _ in range(3):
            with pytest.raises(ValueError) as info:
                task.result()
            lengths.append(len(traceback.extract_tb(info.value.__traceback__)))
        assert len(set(lengths)) == 1

    run(main)


def test_a_coroutines_traceback_has_no_frames_of_ours(run):
    async def main(pump):
        box = Mailbox(pump)

        async def fail():
            await box.read()
            raise ValueError("x")

        async def outer():
            await inner

        inner = pump.spawn(fail())
        task = pump.spawn(outer())
        await turns()
        box.put(1)
        await turns()
        files = {frame.filename for frame in traceback.extract_tb(task.exception().__traceback__)}
        assert files == {__file__}
        assert isinstance(inner.exception(), ValueError)

    run(main)


def test_a_cancelled_task_raises_the_error_that_ended_it_then_new_ones(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(box.read())
        await turns()
        task.cancel("message")
        await turns()
        with pytest.raises(asyncio.CancelledError) as first:
            task.result()
        with pytest.raises(asyncio.CancelledError) as second:
            task.exception()
        assert first.value is not second.value
        assert first.value.args == ("message",)

    run(main)


def test_a_base_exception_ends_the_task_and_the_pump_goes_on(run):
    class Odd(BaseException):
        pass

    async def main(pump):
        odd, fine = pump.spawn(failure(Odd())), pump.spawn(value(1))
        assert await fine == 1
        assert isinstance(odd.exception(), Odd)

    run(main)


# ---- done callbacks ----


def test_done_callbacks_run_in_order_from_the_loop_in_their_contexts(run):
    async def main(pump):
        box, calls = Mailbox(pump), []
        task = pump.spawn(box.read())
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        variable.set("at registration")
        for n in range(3):
            task.add_done_callback(lambda t, n=n: calls.append((n, t, variable.get())))
        task.add_done_callback(lambda t: calls.append((3, t, variable.get())), context=context)
        variable.set("later")
        box.put(1)
        await turns(1)
        assert task.done()
        assert calls == []
        await turns(1)
        at = "at registration"
        assert calls == [(0, task, at), (1, task, at), (2, task, at), (3, task, "given")]

    run(main)


def test_done_callbacks_can_be_removed_all_alike_at_once(run):
    async def main(pump):
        calls = []
        task = pump.spawn(value(1))
        for _ in range(2):
            task.add_done_callback(calls.append)
        task.add_done_callback(lambda _: calls.append("kept"))
        assert task.remove_done_callback(calls.append) == 2
        assert task.remove_done_callback(calls.append) == 0
        await turns()
        assert calls == ["kept"]

    run(main)


def test_a_done_callback_added_after_the_end_is_called_soon(run):
    async def main(pump):
        calls = []
        task = pump.spawn(value(1))
        await turns()
        task.add_done_callback(calls.append)
        assert calls == []
        await turns(1)
        assert calls == [task]

    run(main)


# ---- being awaited ----


def test_flow_task_awaits_flow_task_in_both_orders(run):
    async def main(pump):
        box = Mailbox(pump)
        inner = pump.spawn(box.read())

        async def outer():
            first = await inner  # not ended yet
            return first, await inner  # ended

        task = pump.spawn(outer())
        await turns()
        assert task._fut_waiter is inner
        box.put("x")
        assert await task == ("x", "x")

    run(main)


def test_awaiting_a_failed_flow_task_raises_in_the_waiter(run):
    async def main(pump):
        inner = pump.spawn(failure(KeyError("k")))

        async def outer():
            with pytest.raises(KeyError):
                await inner
            with pytest.raises(KeyError):
                await inner
            return "caught"

        assert await pump.spawn(outer()) == "caught"
        assert await asyncio.create_task(outer()) == "caught"

    run(main)


def test_gather_wait_shield_and_wait_for_take_flow_tasks(run):
    async def main(pump):
        boxes = [Mailbox(pump) for _ in range(4)]
        tasks = [pump.spawn(box.read()) for box in boxes]
        gathered = asyncio.gather(*tasks[:2])
        done, pending = await asyncio.wait(tasks, timeout=0.01)
        assert (done, pending) == (set(), set(tasks))
        for number, box in enumerate(boxes):
            box.put(number)
        assert await gathered == [0, 1]
        assert await asyncio.shield(tasks[2]) == 2
        assert await asyncio.wait_for(tasks[3], 1) == 3
        done, pending = await asyncio.wait(tasks)
        assert (done, pending) == (set(tasks), set())
        assert {await task for task in asyncio.as_completed(tasks)} == {0, 1, 2, 3}
        assert asyncio.ensure_future(tasks[0]) is tasks[0]

    run(main)


def test_gather_and_wait_inside_a_flow_task_over_flow_tasks(run):
    async def main(pump):
        async def handler():
            children = [pump.spawn(value(n)) for n in range(3)]
            results = await asyncio.gather(*children)
            done, _ = await asyncio.wait([pump.spawn(value(3))])
            return [*results, done.pop().result()]

        assert await pump.spawn(handler()) == [0, 1, 2, 3]

    run(main)


def test_awaiting_oneself_fails_in_asyncios_words(run):
    async def main(pump):
        async def wait():
            await task

        task = pump.spawn(wait())
        with pytest.raises(RuntimeError, match="Task cannot await on itself"):
            await task

    run(main)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (5, "Task got bad yield: 5"),
        ((n for n in ()), "yield was used instead of yield from for generator"),
        (None, None),
    ],
)
def test_yielding_something_else_fails_in_asyncios_words(run, thing, words):
    class Yields:
        def __await__(self):
            yield thing

    async def wait():
        await Yields()
        return "went on"

    async def main(pump):
        task = pump.spawn(wait())
        if words is None:
            assert await task == "went on"
        else:
            with pytest.raises(RuntimeError, match=words):
                await task

    run(main)


def test_yielding_a_future_without_yield_from_fails_in_asyncios_words(run):
    async def main(pump):
        future = asyncio.get_running_loop().create_future()

        class Yields:
            def __await__(self):
                yield future

        async def wait():
            await Yields()

        with pytest.raises(RuntimeError, match="yield was used instead of yield from in task"):
            await pump.spawn(wait())

    run(main)


def test_a_future_that_takes_no_callback_fails_the_await_alone(run):
    async def main(pump):
        class Broken:
            _asyncio_future_blocking = True

            def get_loop(self):
                return asyncio.get_running_loop()

            def __await__(self):
                yield self

        async def wait():
            try:
                await Broken()
            except AttributeError:
                return "told"

        assert await pump.spawn(wait()) == "told"

    run(main)


# ---- the registry ----


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


# ---- stacks ----


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
