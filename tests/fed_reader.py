"""An endpoint of a flow in the clothes of ``asyncio.StreamReader``: what CPython's own tests ask for.

``feed_data`` makes a TCP segment, and the engine reads it as it reads any: through decoding, both
TCP stacks and reassembly. Differences that follow from what a tap is, and how they are met:

* A reader is made in the middle of a handshake's end: its flow is established at once.
* ``_buffer`` is the unread bytes, by ``peek``; ``_eof`` is whether the FIN has been delivered.
* Frames that nobody waits for stay in the source until a call or an attribute looks. A tap
  cannot pause the sender, so bytes beyond a limit are kept for one turn of the handler, as in
  a burst, and not until a slow reader comes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from craft import CLIENT, FIN, PSH, START, Talk

import aiomos
from aiomos._mount import declared


class FedReader:
    """``asyncio.StreamReader(limit, loop)``, as far as readers use it."""

    def __init__(self, limit: int = 65536, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._source = aiomos.MemorySource()
        self._talk = Talk(self._feed, at=START)
        self._frames = 0
        self._end: Any = None
        self._calls = 0  # in progress
        self._looks = False  # the loop will
        app = aiomos.App()

        @app.tcp(limit=limit, sides="client")
        async def hold(flow: aiomos.Flow) -> None:
            self._end = flow.client
            await flow.sleep(1e8)

        self._loop = loop or asyncio.get_event_loop()
        self._engine = aiomos.Engine(self._source)
        self._pump = self._engine._make_pump(declared(app), self._loop)
        self._talk.handshake()
        self._look()

    # ---- what transports do --------------------------------------------------------------------

    def feed_data(self, data: bytes) -> None:
        for at in range(0, len(data), 1400):
            self._talk.c(data[at : at + 1400], flags=0x10 | PSH)
        self._wake()

    def feed_eof(self) -> None:
        self._talk.say(CLIENT, FIN | 0x10)
        self._wake()

    def _feed(self, frame: bytes, time_ns: int) -> None:
        self._frames += 1
        self._source.push(frame, time_ns)

    @property
    def _behind(self) -> bool:
        return self._engine.core.counters()["frames"] < self._frames

    def _wake(self) -> None:
        """Somebody waits: the loop looks, once for all that is fed in one callback."""
        if self._calls and not self._looks:
            self._looks = True
            self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        self._looks = False
        self._look()
        if self._behind:
            self._wake()

    def _look(self) -> None:
        """The engine takes a burst of what was fed, up to where a side is full."""
        if self._behind:
            self._pump.turn()
            self._pump.step_tasks()

    # ---- what readers do -----------------------------------------------------------------------

    @property
    def _buffer(self) -> bytes:
        self._look()
        return self._end._peek(0, self._end.buffered)

    @property
    def _waiter(self) -> object:
        parking = self._end._parking
        return parking if parking is not None and parking.waiting() else None

    def at_eof(self) -> bool:
        self._look()
        return self._end.at_eof()

    async def read(self, n: int = -1) -> bytes:
        return await self._call(self._end.read, n)

    async def readexactly(self, n: int) -> bytes:
        return await self._call(self._end.readexactly, n)

    async def readline(self) -> bytes:
        return await self._call(self._end.readline)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        return await self._call(self._end.readuntil, separator)

    def __aiter__(self) -> FedReader:
        return self

    async def __anext__(self) -> bytes:
        return await self._call(self._end.__anext__)

    async def _call(self, method: Any, *args: Any) -> bytes:
        self._look()
        self._calls += 1
        try:
            return await method(*args)
        finally:
            self._calls -= 1
