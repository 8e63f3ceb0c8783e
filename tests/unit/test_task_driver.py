"""The least engine that can drive flow tasks, for the other test_task_* files; and the
tests of TaskQueue, which are the tests of this driver too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiomos._engine.task import FlowTask, Parking
from aiomos._engine.taskqueue import TaskQueue


class Pump:
    """Steps a queue from loop callbacks, as the engine's pump does after a burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop, budget: int = 1000) -> None:
        self.loop = loop
        self.budget = budget
        self.turns: list[int] = []
        self.queue = TaskQueue(loop)
        self.queue.on_runnable = self.schedule

    def schedule(self) -> None:
        self.loop.call_soon(self.turn)

    def turn(self) -> None:
        self.turns.append(self.queue.run(self.budget))
        if self.turns[-1] == self.budget:
            self.schedule()

    def spawn(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> FlowTask[Any]:
        """A task that begins in the next iteration, as asyncio's do."""
        task = FlowTask(coro, self.queue, **kwargs)
        self.queue.push(task)
        return task


class Mailbox:
    """A reader as `aiomos/_endpoint.py` writes them: park, then take."""

    def __init__(self, pump: Pump) -> None:
        self.parking = Parking(pump.queue)
        self.items: list[Any] = []

    def put(self, item: Any) -> None:
        self.items.append(item)
        self.parking.wake()

    async def read(self) -> Any:
        while not self.items:
            await self.parking
        return self.items.pop(0)


def loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "asyncio":
        return asyncio.new_event_loop
    uvloop = pytest.importorskip(
        "uvloop", reason="flow tasks run on uvloop too where it is installed"
    )
    return uvloop.new_event_loop


@pytest.fixture(name="run", params=["asyncio", "uvloop"])
def both_loops(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs `main(pump)` as an ordinary task; afterwards no flow task may be left."""

    def run(main: Callable[[Pump], Coroutine[Any, Any, Any]], debug: bool = False) -> Any:
        pumps: list[Pump] = []

        async def with_pump() -> Any:
            pumps.append(Pump(asyncio.get_running_loop()))
            return await asyncio.wait_for(main(pumps[0]), 10)

        with asyncio.Runner(loop_factory=loop_factory(request.param), debug=debug) as runner:
            result = runner.run(with_pump())
        queue = pumps[0].queue
        assert (queue.alive, queue.foreign_waiters, queue.tasks()) == (0, 0, [])
        return result

    return run


async def turns(n: int = 3) -> None:
    """Lets the loop go round a few times."""
    for _ in range(n):
        await asyncio.sleep(0)


# ---- TaskQueue ----


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
