"""Requests of the usual client libraries hold the capture clock: redis, aiohttp, anyio."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from held_clock import SLOW, assert_held
from slow_servers import serving, slow_echo

from aiomos._replay_loop import ReplayLoop

pytestmark = pytest.mark.usefixtures("deadline")


async def resp_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of redis as a client needs: GET answers slowly, in pieces; all else says OK."""
    while header := await reader.readline():
        words = []
        for _ in range(int(header[1:])):
            size = int((await reader.readline())[1:])
            words.append((await reader.readexactly(size + 2))[:-2])
        if words[0] != b"GET":
            writer.write(b"+OK\r\n")
            continue
        for piece in (b"$5\r\n", b"va", b"lue\r\n"):
            await asyncio.sleep(SLOW)
            writer.write(piece)


def test_redis_client_request_holds() -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def main(loop: ReplayLoop) -> None:
        async with redis.Redis(host="127.0.0.1", port=port, protocol=2) as client:
            assert await client.get("key") == b"value"
            assert await asyncio.gather(client.get("a"), client.get("b")) == [b"value"] * 2

    with serving(resp_server) as port:
        assert_held(main)


async def http_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers requests with a body that comes slowly, in pieces, then keeps the connection."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length: 9" in head.lower():
            await reader.readexactly(9)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n")
        for _ in range(3):
            await asyncio.sleep(SLOW)
            writer.write(b"x" * 10_000)


def test_aiohttp_client_requests_hold() -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def body() -> Any:
        yield b"some"
        await asyncio.sleep(0)
        yield b"thing"

    async def main(loop: ReplayLoop) -> None:
        url = f"http://127.0.0.1:{port}/"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                assert await response.text() == "x" * 30_000
            headers = {"Content-Length": "9"}
            async with session.post(url, data=body(), headers=headers) as response:
                assert len(await response.read()) == 30_000

    with serving(http_server) as port:
        assert_held(main)


def test_aiohttp_websocket_holds_until_its_answer() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    key = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        offered = head.lower().index(b"sec-websocket-key: ") + 19
        asked = head[offered:].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(asked + key).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
        writer.write(b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        for _ in range(2):
            await reader.readexactly(8)  # two bytes of header, four of mask, "hi"
            await asyncio.sleep(SLOW)
            writer.write(b"\x81\x02yo")
        await reader.read()

    async def main(loop: ReplayLoop) -> None:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"http://127.0.0.1:{port}/", compress=0)
            for _ in range(2):
                await socket.send_str("hi")
                assert (await socket.receive()).data == "yo"
            socket._writer.transport.abort()

    with serving(websocket) as port:
        assert_held(main)


def test_anyio_stream_holds() -> None:
    anyio = pytest.importorskip("anyio")

    async def main(loop: ReplayLoop) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hi\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await stream.receive()
            assert received == b"you said hi\n"

    with serving(slow_echo) as port:
        assert_held(main)
