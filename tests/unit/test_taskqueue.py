"""TaskQueue: who is runnable, in which order, and how much in one turn."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, Pump, both_loops, turns  # noqa: F401


def test_runnable_tasks_are_stepped_in_order_of_first_wake_up(run):
    async def main(pump):
        order = []
        boxes = [Mailbox(pump) for _ in range(4)]

        async def reader(number):
            order.append(await boxes[number].read())

        for number in range(4):
            pump.spawn(reader(number)).step()
        await turns()  # step() inside a task only makes them runnable
        for number in (2, 0, 3, 2, 1):
            boxes[number].put(number)
        assert order == []
        await turns()
        assert order == [2, 0, 3, 1]

    run(main)


def test_a_task_woken_again_waits_for_the_next_round(run):
    async def main(pump):
        order = []
        boxes = {name: Mailbox(pump) for name in "ab"}

        async def reader(name):
            for _ in range(3):
                order.append(name + await boxes[name].read())
                boxes[name].parking.wake()  # nobody is parked there: no effect

        async def feeder():
            for text in "123":
                boxes["a"].put(text)
                boxes["b"].put(text)
                await asyncio.sleep(0)

        for name in "ab":
            pump.spawn(reader(name))
        pump.spawn(feeder())
        await turns(8)
        assert order == ["a1", "b1", "a2", "b2", "a3", "b3"]

    run(main)


def test_two_tasks_that_wake_each_other_alternate_within_one_turn(run):
    async def main(pump):
        order = []
        here, there = Mailbox(pump), Mailbox(pump)

        async def player(name, mine, other):
            for _ in range(3):
                await mine.read()
                order.append(name)
                other.put(None)

        pump.spawn(player("a", here, there))
        pump.spawn(player("b", there, here))
        here.put(None)
        await turns()
        assert order == ["a", "b"] * 3
        assert len(pump.turns) == 1

    run(main)


def test_budget_counts_steps_and_leaves_the_rest_runnable(run):
    async def main(pump):
        pump.budget = 2
        order = []

        async def step(number):
            order.append(number)

        for number in range(5):
            pump.spawn(step(number))
        await turns(1)
        assert order == [0, 1]
        await turns(3)
        assert order == [0, 1, 2, 3, 4]
        assert pump.turns == [2, 2, 1]

    run(main)


def test_on_runnable_is_called_once_until_the_queue_is_empty_again(run):
    async def main(pump):
        calls = []
        box = Mailbox(pump)
        pump.queue.on_runnable = lambda: calls.append(1) or pump.schedule()

        async def reader():
            await box.read()
            await box.read()

        pump.spawn(reader())
        pump.spawn(turns(0))
        assert len(calls) == 1
        await turns()
        box.put(1)
        box.put(2)
        assert len(calls) == 2
        await turns()

    run(main)


def test_on_runnable_is_silent_while_the_pump_says_it_is_at_work(run):
    async def main(pump):
        pump.queue.pumping = True
        pump.spawn(turns(0))
        await turns()
        assert pump.turns == []
        pump.queue.pumping = False
        pump.schedule()
        await turns()
        assert pump.turns == [1]

    run(main)


def test_running_the_queue_inside_a_task_steps_nobody_and_asks_for_the_pump(run):
    async def main(pump):
        stepped = []

        async def step():
            stepped.append(asyncio.current_task())

        task = pump.spawn(step())
        assert pump.queue.run(10) == 0
        assert stepped == []
        await task
        assert stepped == [task]

    run(main)


def test_step_inside_a_task_makes_the_task_runnable(run):
    async def main(pump):
        async def inner():
            return asyncio.current_task()

        async def outer():
            task = FlowTask(inner(), pump.queue)
            assert task.step() == 0
            assert not task.done()
            return task, await task

        inner_task, current = await pump.spawn(outer())
        assert current is inner_task

    run(main)


def test_step_from_a_callback_runs_to_the_first_wait_at_once(run):
    async def main(pump):
        answers = []

        def birth():
            answers.append(FlowTask(turns(0), pump.queue).step())
            task = FlowTask(turns(1), pump.queue)
            answers.append(task.step())
            answers.append(task.done())

        asyncio.get_running_loop().call_soon(birth)
        await turns()
        assert answers == [1, 0, False]

    run(main)


def test_tasks_lists_the_living_oldest_first(run):
    async def main(pump):
        boxes = [Mailbox(pump) for _ in range(3)]
        tasks = [pump.spawn(box.read()) for box in boxes]
        assert pump.queue.tasks() == tasks
        await turns()
        boxes[1].put(1)
        await turns()
        assert pump.queue.tasks() == [tasks[0], tasks[2]]
        assert (pump.queue.born, pump.queue.ended, pump.queue.alive) == (3, 1, 2)
        boxes[0].put(1)
        boxes[2].put(1)
        await asyncio.gather(*tasks)

    run(main)


def test_foreign_waiters_counts_waits_that_are_not_parkings(run):
    async def main(pump):
        box = Mailbox(pump)
        future = asyncio.get_running_loop().create_future()

        async def wait():
            await box.read()
            await future

        task = pump.spawn(wait())
        await turns()
        assert pump.queue.foreign_waiters == 0
        box.put(1)
        await turns()
        assert pump.queue.foreign_waiters == 1
        future.set_result(None)
        await task
        assert pump.queue.foreign_waiters == 0

    run(main)


def test_clear_forgets_who_is_runnable(run):
    async def main(pump):
        task = pump.spawn(turns(0))
        pump.queue.clear()
        await turns()
        assert not task.done()
        task._log_destroy_pending = False
        task.get_coro().close()
        del task

    run(main)


def test_an_exit_leaves_the_queue_and_the_pump_goes_on_afterwards():
    loop = asyncio.new_event_loop()
    pump = Pump(loop)

    async def leave():
        raise SystemExit(3)

    async def other():
        return 7

    leaver, follower = pump.spawn(leave()), pump.spawn(other())
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert isinstance(leaver.exception(), SystemExit)
    assert asyncio.current_task(loop) is None
    assert loop.run_until_complete(asyncio.wait_for(follower, 5)) == 7
    loop.close()
