"""Waiting in a Parking: flow tasks, ordinary tasks, eager tasks, and two at once."""

from __future__ import annotations

import asyncio
import sys
import types
from pathlib import Path

import pytest

from aiomos._engine.task import FlowTask, Parking

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, Pump, both_loops, turns  # noqa: F401


def test_nobody_waits_wake_does_nothing(run):
    async def main(pump):
        box = Mailbox(pump)
        box.parking.wake()
        assert not box.parking.waiting()
        assert pump.turns == []

    run(main)


def test_a_flow_task_parks_and_goes_on_when_woken(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(box.read())
        await turns()
        assert box.parking.waiting()
        assert task._fut_waiter is None
        box.put("x")
        assert not box.parking.waiting()
        assert await task == "x"

    run(main)


def test_a_spurious_wake_up_resumes_once_and_parks_again(run):
    async def main(pump):
        resumed = []
        parking = Parking(pump.queue)

        async def wait():
            while len(resumed) < 3:
                await parking
                resumed.append(1)

        task = pump.spawn(wait())
        await turns()
        for n in range(1, 4):
            assert parking.waiting()
            parking.wake()
            parking.wake()
            await turns()
            assert len(resumed) == n
        await task

    run(main)


def test_stepping_a_parked_task_by_hand_is_a_spurious_wake_up(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(box.read())
        await turns()
        asyncio.get_running_loop().call_soon(task.step)
        await turns(1)
        assert box.parking.waiting()
        box.put(1)
        assert await task == 1

    run(main)


def test_an_ordinary_task_waits_by_a_future(run):
    async def main(pump):
        box = Mailbox(pump)
        task = asyncio.create_task(box.read())
        await turns()
        assert box.parking.waiting()
        box.put(3)
        assert await task == 3
        assert pump.turns == []

    run(main)


def test_an_ordinary_task_cancelled_in_a_parking_leaves_it_free(run):
    async def main(pump):
        box = Mailbox(pump)
        task = asyncio.create_task(box.read())
        await turns()
        task.cancel()
        assert not box.parking.waiting()
        box.parking.wake()
        await turns()
        assert task.cancelled()
        second = pump.spawn(box.read())
        await turns()
        box.put(1)
        assert await second == 1

    run(main)


@pytest.mark.parametrize("kind", ["flow", "ordinary"])
def test_the_second_waiter_is_refused_in_asyncios_words(run, kind):
    async def main(pump):
        box = Mailbox(pump)
        first = pump.spawn(box.read())
        await turns()
        second = pump.spawn(box.read()) if kind == "flow" else asyncio.create_task(box.read())
        with pytest.raises(RuntimeError) as info:
            await second
        assert str(info.value).startswith(
            "read() called while another coroutine is already waiting for incoming data"
        )
        box.put(1)
        assert await first == 1

    run(main)


def test_a_flow_task_behind_a_waiting_ordinary_task_is_refused(run):
    async def main(pump):
        box = Mailbox(pump)
        first = asyncio.create_task(box.read())
        await turns()
        with pytest.raises(RuntimeError, match="already waiting"):
            await pump.spawn(box.read())
        box.put(1)
        assert await first == 1

    run(main)


def test_the_name_in_the_refusal_is_the_public_methods(run):
    class Reader(Mailbox):
        async def _wait(self):
            await self.parking

        async def readexactly(self):
            await self._wait()

    async def main(pump):
        reader = Reader(pump)
        first = pump.spawn(reader.readexactly())
        await turns()
        with pytest.raises(RuntimeError, match=r"^readexactly\(\) called"):
            await pump.spawn(reader.readexactly())
        reader.put(1)
        await first

    run(main)


def test_a_woken_task_and_a_new_waiter_do_not_disturb_each_other(run):
    async def main(pump):
        box = Mailbox(pump)
        first = pump.spawn(box.read())
        await turns()
        box.put("first")  # first is runnable, has not taken it yet
        second = pump.spawn(box.read())  # comes behind it in the queue
        assert await first == "first"
        await turns()
        assert box.parking.waiting()
        box.put("second")
        assert await second == "second"

    run(main)


def test_children_of_a_task_group_read_while_the_flow_task_waits_for_them(run):
    async def main(pump):
        client, server = Mailbox(pump), Mailbox(pump)

        async def handler():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(box.read()) for box in (client, server)]
            return [task.result() for task in tasks]

        task = pump.spawn(handler())
        await turns()
        server.put("s")
        await turns()
        client.put("c")
        assert await task == ["c", "s"]

    run(main)


def test_gather_of_two_readers_inside_a_flow_task(run):
    async def main(pump):
        boxes = [Mailbox(pump), Mailbox(pump)]

        async def handler():
            return await asyncio.gather(*(box.read() for box in boxes))

        task = pump.spawn(handler())
        await turns()
        for number, box in enumerate(boxes):
            box.put(number)
        assert await task == [0, 1]

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_started_inside_a_flow_task_waits_as_an_ordinary_one(run):
    async def main(pump):
        box, other = Mailbox(pump), Mailbox(pump)
        loop = asyncio.get_running_loop()

        async def handler():
            child = asyncio.Task(box.read(), loop=loop, eager_start=True)
            assert box.parking.waiting()
            assert asyncio.current_task() is task
            mine = await other.read()  # parks, although a child was stepped inside
            return mine, await child

        task = pump.spawn(handler())
        await turns()
        other.put("mine")
        box.put("child")
        assert await task == ("mine", "child")

    run(main)


def test_awaiting_outside_any_task_is_like_an_ordinary_task(run):
    async def main(pump):
        parking = Parking(pump.queue)
        coro = Mailbox.read(type("M", (), {"items": [], "parking": parking})())
        future = coro.send(None)
        assert asyncio.isfuture(future)
        coro.close()
        parking.wake()

    run(main)


def test_iterating_a_parking_outside_a_step_is_an_error(run):
    async def main(pump):
        with pytest.raises(RuntimeError, match="awaited, not iterated"):
            next(Parking(pump.queue))
        with pytest.raises(TypeError):
            Parking(None)
        with pytest.raises(RuntimeError, match="belongs to a queue"):
            Parking.__new__(Parking).__await__()

    run(main)


def test_a_parking_of_another_loop_is_refused_as_asyncio_does(run):
    other = asyncio.new_event_loop()
    box = Mailbox(Pump(other))

    async def main(pump):
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await pump.spawn(box.read())

    run(main)
    other.close()


def test_a_coroutine_closed_while_parked_fails_when_it_is_woken(run):
    async def main(pump):
        box = Mailbox(pump)
        task = pump.spawn(box.read())
        await turns()
        task.get_coro().close()
        box.put(1)
        with pytest.raises(RuntimeError, match="already awaited"):
            await task

    run(main)


def test_a_wake_up_while_the_yield_is_on_its_way_is_not_lost(run):
    """Only a generator-based coroutine can act between the parking's yield and the task."""

    async def main(pump):
        parking = Parking(pump.queue)

        @types.coroutine
        def slow():
            for value in parking.__await__():
                parking.wake()
                yield value

        async def wait():
            await slow()

        task = pump.spawn(wait())
        await turns(2)
        assert task.done()

    run(main)


def test_subclassing_in_python_keeps_working(run):
    class Door(Parking):
        def knock(self):
            self.wake()

    async def main(pump):
        door = Door(pump.queue)

        async def wait():
            await door
            return "open"

        task = FlowTask(wait(), pump.queue)
        pump.queue.push(task)
        await turns()
        door.knock()
        assert await task == "open"

    run(main)
