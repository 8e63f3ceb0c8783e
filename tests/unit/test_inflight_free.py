"""What never holds the capture clock: waiting for others, for clients, for nobody."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from held_clock import FRAMES, SLOW, Ticks, assert_free, run
from slow_servers import slow_echo

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


def test_datagram_endpoint_and_listener_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        endpoint = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        endpoint[0].sendto(b"question", ("127.0.0.1", 9))
        listener = await asyncio.start_server(slow_echo, "127.0.0.1", 0)
        return [endpoint[0].close, listener.close]

    assert_free(main)


def test_accepted_connection_that_waits_for_its_client_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.set()
            writer.write(b"hello\n")
            await reader.readline()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await served.wait()
        return [client.close, listener.close]

    assert_free(main)


def test_tasks_that_wait_for_each_other_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        event = asyncio.create_task(asyncio.Event().wait())
        queue = asyncio.create_task(asyncio.Queue[int]().get())
        return [event.cancel, queue.cancel]

    assert_free(main)


def unobserved_job(waiters: int) -> tuple[int, int]:
    """Start a job nobody waits for, then only sleep; gives (expired, frames seen meanwhile)."""

    async def main(loop: ReplayLoop, driver: Ticks) -> tuple[int, int]:
        gate = threading.Event()
        job = loop.run_in_executor(None, gate.wait)
        driver.waiters = waiters
        await asyncio.sleep(0.5)
        expired, played = loop.stats.patience_expired, driver.played
        gate.set()
        await job
        return expired, played

    result: tuple[int, int] = run(main, patience=SLOW)
    return result


def test_job_everybody_only_sleeps_does_not_hold() -> None:
    assert unobserved_job(waiters=0) == (0, 499)


def test_job_flow_task_waits_for_a_foreign_future_holds() -> None:
    assert unobserved_job(waiters=1)[0] == 1


def test_job_only_the_runners_own_task_waits_does_not_hold() -> None:
    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop.own_tasks.add(task)
        gate = threading.Event()
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.set_result(None)
        job = loop.run_in_executor(None, gate.wait)
        await end
        gate.set()
        await job
        assert loop.stats.patience_expired == 0

    run(main, patience=SLOW)


def test_job_begun_during_an_advance_stops_the_capture_there() -> None:
    played: list[int] = []

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        end = loop.create_future()

        def frame() -> None:  # as a flow task, stepped by the driver, would do
            job = loop.run_in_executor(None, time.sleep, SLOW)
            job.add_done_callback(lambda _: played.append(driver.played))

        driver.calls[100] = frame
        driver.calls[FRAMES] = lambda: end.set_result(None)
        await end

    run(main)
    assert played == [100]
