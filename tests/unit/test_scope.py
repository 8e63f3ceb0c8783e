"""flow.scope(): tasks that live as long as their connection."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks
from readings import noted, slow

pytestmark = both_tasks


def test_scope_ends_its_tasks_after_the_flow_and_its_linger(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()

        async def beat():
            try:
                while True:
                    await asyncio.sleep(0.1)
            finally:
                notes.append("beat cancelled")

        async def reader():
            notes.append(await flow.client.read())

        async with flow.scope(linger=0.5) as scope:
            scope.create_task(beat())
            scope.create_task(reader())
        notes.append("left")
        notes.append(asyncio.current_task().cancelling())
        await flow.closed()
        del loop

    assert noted(handler, slow(b"last words"), tasks=tasks) == [
        b"last words",
        "beat cancelled",
        "left",
        0,
    ]


def test_scope_ends_its_own_body_too(tasks):
    async def handler(flow, notes):
        async with flow.scope(linger=0.5):
            await asyncio.sleep(1000)
        notes.append("left")
        await asyncio.sleep(0)
        notes.append("goes on")

    assert noted(handler, slow(b"x"), tasks=tasks) == ["left", "goes on"]


def test_scope_left_early_waits_for_its_children_as_a_task_group(tasks):
    async def handler(flow, notes):
        async def child():
            notes.append(await flow.client.readexactly(3))

        async with flow.scope() as scope:
            scope.create_task(child(), name="child")
        notes.append("left")

    assert noted(handler, slow(b"abc"), tasks=tasks) == [b"abc", "left"]


def test_scope_child_that_fails_fails_the_scope(tasks):
    async def handler(flow, notes):
        async def child():
            raise ValueError("child")

        with pytest.raises(BaseExceptionGroup) as caught:
            async with flow.scope() as scope:
                scope.create_task(child())
                await asyncio.sleep(1000)
        notes.append([str(e) for e in caught.value.exceptions])

    assert noted(handler, slow(b"abc"), tasks=tasks) == [["child"]]


@pytest.mark.replay_loop
def test_scope_cancelled_from_outside_is_cancelled(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                async with flow.scope():
                    await asyncio.sleep(1000)
        notes.append(flow.is_closed)

    assert noted(handler, slow(b"abc"), tasks=tasks) == [False]


@pytest.mark.parametrize("linger", [-1, float("nan"), float("inf")])
def test_scope_refuses_what_is_no_time(tasks, linger):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="linger"):
            flow.scope(linger=linger)
        notes.append("refused")

    assert noted(handler, slow(b"x"), tasks=tasks) == ["refused"]


def test_scope_in_a_task_that_was_cancelled_before_ends_with_the_flow(tasks):
    """Requests that were there when it was entered are not its own (as asyncio.timeout)."""

    async def handler(flow, notes):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            notes.append("cleans up")
        async with flow.scope(linger=0):
            await asyncio.sleep(1000)
        notes.append(asyncio.current_task().cancelling())

    assert noted(handler, slow(b"x", pause=3), tasks=tasks) == ["cleans up", 1]
