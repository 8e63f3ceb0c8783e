"""Stream servers on the loopback, in a thread with a loop of its own, that take their time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from held_clock import SLOW

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def serving(server: Server, **options: Any) -> Iterator[int]:
    """A stream server on an ordinary loop in a thread; gives its port on the loopback."""
    started = threading.Event()
    state: dict[str, Any] = {}
    served: dict[Any, asyncio.StreamWriter] = {}

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served[asyncio.current_task()] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await server(reader, writer)
        writer.close()

    async def serve() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(accepted, "127.0.0.1", 0, **options)
        state["port"] = listener.sockets[0].getsockname()[1]
        started.set()
        await state["stop"].wait()
        for _ in range(10):  # what has connected by now is accepted in one of these iterations
            await asyncio.sleep(0)
        listener.close()
        for writer in served.values():
            with contextlib.suppress(AttributeError):  # TLS before 3.11.4: already gone
                writer.transport.abort()
        await asyncio.gather(*served)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield state["port"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()


async def slow_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line in three pieces, slowly."""
    while line := await reader.readline():
        for piece in (b"you ", b"said ", line):
            await asyncio.sleep(SLOW)
            writer.write(piece)
