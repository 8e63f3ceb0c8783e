"""Cancelling flow tasks: where they wait, and what asyncio.Task would do."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, both_loops, turns  # noqa: F401


async def swallow(box, log):
    """Goes on after it was cancelled, and says with what."""
    while True:
        try:
            return await box.read()
        except asyncio.CancelledError as error:
            log.append(error.args)


def test_new_cancel_never_enters_the_coroutine(run):
    async def main(pump):
        entered = []

        async def enter():
            entered.append(1)

        task = pump.spawn(enter())
        assert task.cancel()
        assert not task.done()
        await turns()
        assert task.cancelled()
        assert entered == []

    run(main)


def test_new_and_not_yet_runnable_cancel_ends_all_the_same(run):
    async def main(pump):
        task = FlowTask(turns(0), pump.queue)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_parked_cancel_arrives_in_a_later_iteration(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        await turns()
        assert task.cancel("enough")
        assert log == []
        assert not box.parking.waiting()  # a wake-up now would wake nobody
        await turns(1)
        assert log == [("enough",)]
        assert box.parking.waiting()
        box.put(1)
        assert await task == 1

    run(main)


def test_parked_cancel_then_wake_delivers_the_cancellation_once(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        await turns()
        task.cancel()
        box.put(1)
        assert await task == 1
        assert len(log) == 1

    run(main)


def test_woken_cancel_is_thrown_by_the_step_that_was_due(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        await turns()
        box.put(1)
        task.cancel()
        assert await task == 1
        assert len(log) == 1

    run(main)


def test_cancel_twice_while_parked_throws_once_and_counts_two(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        await turns()
        task.cancel()
        task.cancel()
        assert task.cancelling() == 2
        await turns()
        assert len(log) == 1
        box.put(1)
        await task

    run(main)


def test_parked_again_after_a_swallowed_cancel_can_be_cancelled_again(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        for n in range(1, 4):
            await turns()
            task.cancel(n)
        await turns()
        assert log == [(1,), (2,), (3,)]
        box.put(1)
        assert await task == 1
        assert not task.cancelled()

    run(main)


def test_waiting_for_a_foreign_future_cancel_cancels_the_future(run):
    async def main(pump):
        future = asyncio.get_running_loop().create_future()

        async def wait():
            await future

        task = pump.spawn(wait())
        await turns()
        assert task._fut_waiter is future
        task.cancel("why")
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task
        assert task.cancelled()

    run(main)


def test_sleeping_zero_cancel_arrives_with_the_next_step(run):
    async def main(pump):
        async def sleep():
            await asyncio.sleep(0)
            raise AssertionError("not cancelled")

        task = pump.spawn(sleep())
        await turns(1)
        task.cancel()
        await turns()
        assert task.cancelled()

    run(main)


@pytest.mark.parametrize("how", ["park", "future", "sleep0"])
def test_running_cancel_of_itself_arrives_at_the_next_wait(run, how):
    async def main(pump):
        box, log = Mailbox(pump), []

        async def leave():
            asyncio.current_task().cancel("myself")
            log.append("still here")
            if how == "park":
                await box.read()
            elif how == "future":
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.sleep(0)
            log.append("not here")

        task = pump.spawn(leave())
        with pytest.raises(asyncio.CancelledError, match="myself"):
            await task
        assert log == ["still here"]
        assert not box.parking.waiting()

    run(main)


def test_running_cancel_of_itself_and_return_ends_cancelled(run):
    async def main(pump):
        async def leave():
            asyncio.current_task().cancel()
            return 1

        task = pump.spawn(leave())
        await turns()
        assert task.cancelled()

    run(main)


def test_ended_cancel_does_nothing(run):
    async def main(pump):
        task = pump.spawn(turns(0))
        await task
        assert task.cancel() is False
        assert task.cancelling() == 0

    run(main)


def test_uncancel_counts_down_and_not_below_zero(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(swallow(box, []))
        await turns()
        task.cancel()
        task.cancel()
        await turns()
        assert [task.uncancel(), task.cancelling(), task.uncancel(), task.uncancel()] == [
            1,
            1,
            0,
            0,
        ]
        box.put(1)
        await task

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="since 3.13 uncancel() takes back")
def test_parked_cancel_taken_back_before_it_arrived_is_a_spurious_wake_up(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        task = pump.spawn(swallow(box, log))
        await turns()
        task.cancel()
        task.uncancel()
        await turns()
        assert log == []
        assert box.parking.waiting()
        box.put(1)
        assert await task == 1

    run(main)


def test_one_task_cancels_another_that_is_runnable_in_the_same_turn(run):
    async def main(pump):
        box, log = Mailbox(pump), []
        victim = None

        async def killer():
            box.put(1)
            victim.cancel()

        victim = pump.spawn(swallow(box, log))
        await turns()
        pump.spawn(killer())
        assert await victim == 1
        assert len(log) == 1

    run(main)


def test_nested_timeouts_the_inner_one_expires(run):
    async def main(pump):
        box = Mailbox(pump)

        async def wait():
            async with asyncio.timeout(10) as outer:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await box.read()
                await asyncio.sleep(0)
            return outer.expired(), asyncio.current_task().cancelling()

        assert await pump.spawn(wait()) == (False, 0)

    run(main)


def test_nested_timeouts_the_outer_one_expires(run):
    async def main(pump):
        box = Mailbox(pump)

        async def wait():
            try:
                async with asyncio.timeout(0.01):
                    async with asyncio.timeout(10):
                        await box.read()
            except TimeoutError:
                return asyncio.current_task().cancelling()

        assert await pump.spawn(wait()) == 0

    run(main)


def test_timeout_and_a_cancel_from_outside_the_cancel_wins(run):
    async def main(pump):
        box = Mailbox(pump)

        async def wait():
            async with asyncio.timeout(0):
                await box.read()

        task = pump.spawn(wait())
        await turns(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_wait_for_inside_a_flow_task_times_out_and_leaves_the_parking_free(run):
    async def main(pump):
        box = Mailbox(pump)

        async def wait():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(box.read(), 0.01)
            assert not box.parking.waiting()
            return await asyncio.wait_for(box.read(), 10)

        task = pump.spawn(wait())
        await asyncio.sleep(0.03)
        box.put(5)
        assert await task == 5

    run(main)


def test_shield_keeps_the_inner_flow_task_alive(run):
    async def main(pump):
        box = Mailbox(pump)
        inner = pump.spawn(box.read())

        async def outer():
            return await asyncio.shield(inner)

        task = pump.spawn(outer())
        await turns()
        task.cancel()
        await turns()
        assert task.cancelled()
        assert not inner.done()
        box.put(1)
        assert await inner == 1

    run(main)


def test_a_cancelled_child_of_a_task_group_frees_the_parking(run):
    async def main(pump):
        box = Mailbox(pump)

        async def handler():
            async with asyncio.TaskGroup() as group:
                child = group.create_task(box.read())
                await turns()
                assert box.parking.waiting()
                child.cancel()
            assert not box.parking.waiting()
            return await box.read()

        task = pump.spawn(handler())
        await turns(8)
        box.put(2)
        assert await task == 2

    run(main)


def test_task_group_error_in_a_child_cancels_the_parked_parent(run):
    async def main(pump):
        box = Mailbox(pump)

        async def fail():
            await asyncio.sleep(0)
            raise ValueError("child")

        async def handler():
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await box.read()

        task = pump.spawn(handler())
        with pytest.raises(ExceptionGroup) as info:
            await task
        assert info.group_contains(ValueError)
        assert task.cancelling() == 0

    run(main)
