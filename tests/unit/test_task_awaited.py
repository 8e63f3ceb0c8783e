"""Flow tasks awaited by one another and by asyncio, and what they may not await."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, both_loops, failure, turns, value  # noqa: F401


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
