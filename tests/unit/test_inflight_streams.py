"""Connections hold the capture clock while an answer is awaited, and only then."""

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
from held_clock import SLOW, Ticks, assert_free, assert_held, run
from slow_servers import serving, slow_echo

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


def test_stream_response_in_pieces_holds_to_its_end() -> None:
    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"hi\n")
            assert await reader.readline() == b"you said hi\n"
        writer.close()

    with serving(slow_echo) as port:
        assert_held(main)


def test_stream_greeting_of_the_server_holds() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW)
        writer.write(b"hello\n")

    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readline() == b"hello\n"
        writer.close()

    with serving(greet) as port:
        assert_held(main)


def test_stream_of_a_unix_socket_holds(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    ready = threading.Event()

    def serve() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            ready.set()
            peer = listener.accept()[0]
            peer.recv(100)
            time.sleep(SLOW)
            peer.sendall(b"answer\n")
            peer.close()

    async def main(loop: ReplayLoop) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"question\n")
        assert await reader.readline() == b"answer\n"
        writer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    assert_held(main)
    thread.join()


def test_stream_writer_that_waits_for_room_holds() -> None:
    size = 50_000_000  # more than the kernel takes

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW)
        await reader.readexactly(size)

    async def main(loop: ReplayLoop) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(size))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with serving(sink) as port:
        assert_held(main)


class Echo(asyncio.Protocol):
    """A protocol of which nobody can see whether anyone waits; it asks when connected."""

    def __init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hi\n")

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)


def test_unknown_protocol_holds_until_the_first_data_after_a_write() -> None:
    async def main(loop: ReplayLoop) -> None:
        transport, protocol = await loop.create_connection(Echo, "127.0.0.1", port)
        assert await protocol.answer
        protocol.answer = loop.create_future()
        transport.write(b"again\n")
        assert await protocol.answer
        transport.close()

    with serving(slow_echo) as port:
        assert_held(main)


def test_protocol_that_only_writes_does_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport.write(b"log line\n")
        return [transport.close]

    with serving(slow_echo) as port:
        assert_free(main)


def test_answered_connection_and_write_only_stream_do_not_hold() -> None:
    async def main(loop: ReplayLoop) -> list[Callable[[], object]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hi\n")
        assert await reader.readline() == b"you said hi\n"
        other = await asyncio.open_connection("127.0.0.1", port)
        other[1].write(b"log line\n")
        await asyncio.sleep(0.1)
        idle = asyncio.create_task(reader.readline())  # for what it did not ask for
        return [idle.cancel, writer.close, other[1].close]

    with serving(slow_echo) as port:
        assert_free(main)


async def push(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets, then answers lines, as a server with subscriptions."""
    writer.write(b"hello\n")
    while line := await reader.readline():
        await asyncio.sleep(SLOW)
        writer.write(line)


def test_subscription_costs_its_patience_once_but_its_requests_hold() -> None:
    got: list[bytes] = []

    async def listen(reader: asyncio.StreamReader) -> None:
        async for line in reader:
            got.append(line)

    async def main(loop: ReplayLoop, driver: Ticks) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"subscribe\n")
        task = asyncio.create_task(listen(reader))
        await asyncio.sleep(0.5)
        assert got == [b"hello\n", b"subscribe\n"]
        assert loop.stats.patience_expired == 1
        for index in range(3):  # the listener waits all the time: answered by the first data
            await asyncio.sleep(0.1)
            before = driver.now
            writer.write(b"%d\n" % index)
            await asyncio.sleep(0.001)  # a timer cannot fire before the answer came
            assert driver.now == before + 1_000_000
            assert got[-1] == b"%d\n" % index
        assert loop.stats.patience_expired == 1
        task.cancel()
        writer.close()
        await asyncio.sleep(0.1)

    with serving(push) as port:
        run(main, patience=1.0)
