"""endpoint.read() gives an awaitable of the engine's own; wherever somebody may put a coroutine,
it must do what a coroutine does."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import warnings
from collections.abc import Coroutine
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks
from readings import noted, slow

pytestmark = both_tasks

TALK = slow(b"one", b"two", b"three")


def test_read_is_a_coroutine_to_everybody_who_asks(tasks):
    async def handler(flow, notes):
        reading = flow.client.read(3)
        notes.append(isinstance(reading, Coroutine) and asyncio.iscoroutine(reading))
        notes.append(await reading)

    assert noted(handler, TALK, tasks=tasks) == [True, b"one"]


@pytest.mark.parametrize("n", [3, -1])
def test_read_in_tasks_of_its_own_groups_and_timeouts(tasks, n):
    async def handler(flow, notes):
        first = asyncio.create_task(flow.client.read(3), name="reads")
        notes.append("read" in repr(first))
        notes.append(await first)
        async with asyncio.TaskGroup() as group:
            second = group.create_task(flow.client.read(3))
        notes.append(second.result())
        notes.append(await asyncio.wait_for(flow.client.read(n), 60))
        notes.append(await asyncio.gather(flow.client.read(n), flow.server.read(n)))

    pieces = [b"thr", [b"ee", b""]] if n == 3 else [b"three", [b"", b""]]
    assert noted(handler, TALK, tasks=tasks) == [True, b"one", b"two", *pieces]


@pytest.mark.replay_loop
@pytest.mark.parametrize("n", [3, -1])
def test_read_that_times_out_takes_nothing_with_it(tasks, n):
    async def handler(flow, notes):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(flow.client.read(n), 0.25)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.25):
                    await flow.client.read(n)
        notes.append(await flow.client.readexactly(11))

    assert noted(handler, TALK, tasks=tasks) == [b"onetwothree"]


def test_read_awaited_twice_is_a_runtime_error(tasks):
    async def handler(flow, notes):
        reading = flow.client.read(3)
        notes.append(await reading)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await reading
        notes.append(await flow.client.read(3))

    assert noted(handler, TALK, tasks=tasks) == [b"one", b"two"]


def test_read_kept_while_others_are_made_stays_what_it_was(tasks):
    async def handler(flow, notes):
        one, most = flow.client.read(1), flow.client.read(100)
        notes.append(await one)
        notes.append(await most)
        nothing, rest = flow.client.read(0), flow.client.read()
        notes.append(await nothing)
        notes.append(await rest)

    assert noted(handler, TALK, tasks=tasks) == [b"o", b"ne", b"", b"twothree"]


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("keep", [False, True])
def test_read_never_awaited_is_warned_about(tasks, keep):
    async def handler(flow, notes):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            reading = flow.client.read(3)
            if keep:
                reading.close()
            del reading
            await flow.client.read(3)
            gc.collect()
        notes.append([str(w.message) for w in found if w.category is RuntimeWarning])

    expected = [] if keep else ["coroutine 'Endpoint.read' was never awaited"]
    assert noted(handler, TALK, tasks=tasks) == [expected]


@pytest.mark.replay_loop
def test_read_second_while_one_waits_is_named_in_the_error(tasks):
    async def handler(flow, notes):
        first = asyncio.create_task(flow.client.read(3))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"^read\(\) called while another coroutine"):
            await flow.client.read(3)
        notes.append(await first)

    assert noted(handler, TALK, tasks=tasks) == [b"one"]


@pytest.mark.replay_loop
def test_read_that_is_cancelled_shows_no_frame_of_the_engine(tasks):
    async def handler(flow, notes):
        try:
            async with asyncio.timeout(0.5):
                await flow.client.read(3)
        except TimeoutError as error:
            frames = traceback.extract_tb(error.__cause__.__traceback__)
            notes.append([frame.name for frame in frames])

    assert noted(handler, TALK, tasks=tasks) in ([["handler"]], [["handler", "read"]])


def test_read_thrown_into_by_hand_raises_and_closes(tasks):
    async def handler(flow, notes):
        for error in (KeyError("x"), KeyError):
            with pytest.raises(KeyError):
                flow.client.read(3).throw(error)
        reading = flow.client.read(3)
        reading.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            reading.send(None)
        notes.append(await flow.client.read(3))

    assert noted(handler, TALK, tasks=tasks) == [b"one"]
