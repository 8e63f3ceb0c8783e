"""The least engine that can drive flow tasks, and what the tests of them wait on."""

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


async def value(result):
    return result


async def failure(error):
    raise error
