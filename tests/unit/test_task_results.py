"""How flow tasks end: results, exceptions, and the callbacks that are told."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import traceback
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, both_loops, failure, turns, value  # noqa: F401

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


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
