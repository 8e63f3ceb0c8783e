"""Calls in flight hold the capture clock: jobs in threads, look-ups, sockets, subprocesses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from held_clock import SLOW, assert_free, assert_held
from slow_servers import serving, slow_echo

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.run_in_executor(None, time.sleep, SLOW),
        lambda loop: asyncio.to_thread(time.sleep, SLOW),
        lambda loop: asyncio.gather(*(asyncio.to_thread(time.sleep, SLOW) for _ in range(3))),
        lambda loop: asyncio.wait_for(asyncio.to_thread(time.sleep, SLOW), timeout=0.5),
    ],
)
def test_job_in_a_thread_holds(call: Callable[[ReplayLoop], Awaitable[object]]) -> None:
    async def main(loop: ReplayLoop) -> None:
        await call(loop)

    assert_held(main)


def test_name_lookup_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SLOW)
        return plain(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def main(loop: ReplayLoop) -> None:
        assert await loop.getaddrinfo("127.0.0.1", 80)

    assert_held(main)


def test_socket_operations_hold() -> None:
    async def main(loop: ReplayLoop) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, b"x\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await loop.sock_recv(sock, 100)
            assert received == b"you said x\n"

    with serving(slow_echo) as port:
        assert_held(main)


def test_socket_accept_does_not_hold() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        return [asyncio.create_task(loop.sock_accept(listener)).cancel]

    with listener:
        assert_free(main)


@pytest.mark.parametrize("read", [True, False])
def test_subprocess_waited_for_holds(read: bool) -> None:
    code = f"import time; time.sleep({SLOW}); print('done')"

    async def main(loop: ReplayLoop) -> None:
        pipe = subprocess.PIPE if read else None
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe)
        if read:
            assert await child.communicate() == (b"done\n", None)
        else:
            assert await child.wait() == 0

    assert_held(main)


def test_subprocess_nobody_waits_for_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        return [child.kill, lambda: asyncio.create_task(child.wait())]

    assert_free(main)


def test_block_of_a_library_counted_by_hand_holds() -> None:
    async def main(loop: ReplayLoop) -> None:
        done = loop.create_future()
        timer = threading.Timer(SLOW, loop.call_soon_threadsafe, [done.set_result, None])
        timer.start()
        with loop.in_flight.hold("query"):
            await done

    assert_held(main)
