"""Blocking calls are named while they block; waiting is no stall; flow_tasks()."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, whole

import aiomos


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if "blocked the core" in r.getMessage()]


@both_tasks
def test_handler_that_blocks_is_named_with_its_line(tasks, caplog):
    app = aiomos.App()

    @app.tcp()
    async def sleeper(flow):
        time.sleep(0.5)  # noqa: ASYNC251 - the stall

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = play(app, whole(b"x"), tasks=tasks, stall=0.05)
    (said,) = warnings(caplog)
    assert "sleeper" in said
    assert f"{__file__}:" in said
    assert "time.sleep(0.5)" in said
    assert summary.stalls == 1
    assert "1 times that a handler blocked the core" in str(summary)


def test_handler_that_computes_is_named_with_the_line_of_its_own(caplog):
    app = aiomos.App()

    @app.tcp()
    async def computes(flow):
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            sorted(range(100), key=lambda n: -n)

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = play(app, whole(b"x"), stall=0.05)
    assert summary.stalls == 1
    assert "computes" in warnings(caplog)[0]


def test_plain_function_that_blocks_is_named_by_its_place(caplog):
    app = aiomos.App()

    @app.on(aiomos.ConnectionEnd)
    def blocks(flow, event, packet):
        time.sleep(0.5)

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        play(app, whole(b"x"), stall=0.05)
    assert "in blocks: time.sleep(0.5)" in warnings(caplog)[0]


def test_stalls_are_told_once_each(caplog):
    app = aiomos.App()

    @app.tcp()
    async def twice(flow):
        time.sleep(0.4)  # noqa: ASYNC251 - the stall
        await asyncio.sleep(0)
        await flow.client.read(1)
        time.sleep(0.4)  # noqa: ASYNC251 - the stall

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = play(app, whole(b"x"), stall=0.05)
    assert summary.stalls == len(warnings(caplog)) == 2


@both_tasks
def test_waiting_is_no_stall(tasks, caplog):
    """Real work that holds the capture's clock leaves the core to others."""
    app = aiomos.App()

    @app.tcp()
    async def waits(flow):
        await asyncio.to_thread(time.sleep, 0.4)

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = play(app, whole(b"x"), tasks=tasks, stall=0.05)
    assert summary.stalls == 0
    assert not warnings(caplog)


async def idle_engine(stall, script):
    """Serves no traffic; what `script()` does on the same loop meanwhile."""
    async with aiomos.Engine(aiomos.MemorySource(), stall=stall) as engine:
        serving = asyncio.create_task(engine.serve(aiomos.App()))
        await asyncio.sleep(0.4)
        await script()
        engine.stop()
        return await serving


def test_ordinary_task_that_blocks_after_an_idle_time_is_named(caplog):
    async def control_plane():
        time.sleep(0.5)  # noqa: ASYNC251 - the stall

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = asyncio.run(idle_engine(0.05, control_plane))
    assert summary.stalls == 1
    assert "in control_plane: time.sleep(0.5)" in warnings(caplog)[0]


def test_ordinary_task_that_works_in_short_steps_is_none(caplog):
    async def busy():
        for _ in range(2000):
            sorted(range(2000), key=lambda n: -n)
            await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        summary = asyncio.run(idle_engine(1.0, busy))
    assert summary.stalls == 0
    assert not warnings(caplog)


def test_stall_of_none_looks_at_nothing(caplog):
    app = aiomos.App()

    @app.tcp()
    async def sleeper(flow):
        time.sleep(0.3)  # noqa: ASYNC251 - nobody looks

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        assert play(app, whole(b"x"), stall=None).stalls == 0
    assert not warnings(caplog)


@both_tasks
def test_flow_tasks_are_those_of_handlers_that_run(tasks):
    app = aiomos.App()
    seen = []

    @app.tcp()
    async def handler(flow):
        ours = aiomos.flow_tasks()
        seen.append((asyncio.current_task() in ours, len(ours)))
        await flow.client.read()

    play(app, whole(b"x"), whole(b"y"), tasks=tasks)
    assert all(among for among, _ in seen)
    assert max(count for _, count in seen) == 2


def test_flow_tasks_without_an_engine_are_none_and_without_a_loop_an_error():
    async def main():
        return aiomos.flow_tasks()

    assert asyncio.run(main()) == set()
    with pytest.raises(RuntimeError):
        aiomos.flow_tasks()
