"""Real work that does not end holds the capture clock for as long as the patience lasts."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from held_clock import FRAMES, SLOW, Ticks, run

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


def test_patience_runs_out_is_counted_reported_once_and_never_holds_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        job = loop.run_in_executor(None, gate.wait)
        event = asyncio.Event()
        for at in range(100, FRAMES, 100):
            driver.calls[at] = event.set
        for _ in range(5):
            await event.wait()
            event.clear()
        assert loop.stats.patience_expired == 1
        assert not job.done()
        before = driver.now
        await asyncio.to_thread(time.sleep, SLOW / 5)  # another operation has its own patience
        assert driver.now == before
        driver.calls[FRAMES] = gate.set
        await job
        assert loop.stats.patience_expired == 1

    with caplog.at_level(logging.WARNING):
        run(main, patience=20 * SLOW)
    reports = [record for record in caplog.records if record.name == "aiomos.replay"]
    assert len(reports) == 1
    assert "executor job" in reports[0].getMessage()


def test_connection_attempt_that_hangs_is_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def stuck(*args: Any, **kwargs: Any) -> Any:
        gate.wait()
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        driver.calls[FRAMES] = gate.set
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("name.invalid", 80)
        assert driver.played == FRAMES
        assert loop.stats.patience_expired == 1  # neither the look-up nor its job besides

    run(main, patience=SLOW)


def test_cancelled_wait_for_a_job_frees_the_clock() -> None:
    gate = threading.Event()

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        task = asyncio.create_task(asyncio.to_thread(gate.wait))
        await asyncio.sleep(0)
        task.cancel()
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.set_result(None)
        await end
        gate.set()
        assert loop.stats.patience_expired == 0

    run(main)


def test_held_loop_sleeps_and_does_not_spin() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        before = loop.stats
        await asyncio.to_thread(time.sleep, 4 * SLOW)
        after = loop.stats
        assert after.blocks - before.blocks <= 3
        assert after.polls - before.polls <= 10
        assert after.advances == before.advances

    run(main)


def test_task_that_never_waits_for_a_held_job_does_not_move_the_clock() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        job = loop.run_in_executor(None, time.sleep, SLOW)
        other = asyncio.create_task(asyncio.wait([job]))
        while not job.done():
            await asyncio.sleep(0)
        await other
        assert driver.played == 0
        assert loop.stats.turn_limit == 0

    run(main)


def test_executor_shutdown_waits_for_its_threads() -> None:
    finished: list[bool] = []

    def job() -> None:
        time.sleep(2 * SLOW)
        finished.append(True)

    async def main(loop: ReplayLoop, driver: Ticks) -> ReplayLoop:
        loop.run_in_executor(None, job)
        return loop

    loop = run(main, patience=SLOW)
    assert finished == [True]
    assert loop.stats.patience_expired <= 1  # the job's; the shutdown has asyncio's own limit
