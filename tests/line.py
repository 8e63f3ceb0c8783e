"""A live source in one process: frames come over a ring, when a test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
from craft import Talk
from kit import LOOPS

import aiomos
from aiomos._engine.rings import Ring, RingWriter, ring_source

#: Seconds for what takes a fraction of one; a failure, not a measure.
PATIENCE = 60.0


class Line:
    """Frames are stamped by the machine's clock when they are given."""

    def __init__(self) -> None:
        self.ring = Ring.create(8 << 20, shared=False)
        self.writer = RingWriter(self.ring)
        self.source = ring_source(self.ring)
        self.clients = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.writer.close()
        self.source.close()
        self.ring.close()

    def give(self, raw: bytes, time_ns: int = 0, *, seen: bool = True) -> None:
        """One frame; ``seen``: at once, with those before it."""
        assert self.writer.push(raw, time_ns or time.time_ns())
        if seen:
            self.writer.publish()

    def talk(self, **fields: Any) -> Talk:
        """Another conversation, from a client's port of its own."""
        self.clients += 1
        fields = {"client": ("10.0.0.1", 40000 + self.clients)} | fields
        return Talk(lambda raw, now: self.give(raw), **fields)

    def greeting(self, data: bytes = b"", **fields: Any) -> Talk:
        """One that is established, and whose client has said something."""
        talk = self.talk(**fields)
        talk.handshake()
        if data:
            talk.c(data)
        return talk


Story = Callable[[Line, aiomos.Engine], Awaitable[object]]


def serve(
    new_loop: Any, app: Any, story: Story, make: Callable[[], Line] = Line, **options: Any
) -> aiomos.Summary:
    """Serves an app while a story is told; then stops, unless the run has ended."""

    async def main() -> aiomos.Summary:
        with make() as line:
            async with aiomos.Engine(line.source, **options) as engine:
                began = asyncio.Event()
                engine.on_start = began.set
                async with asyncio.timeout(PATIENCE):
                    serving = asyncio.create_task(engine.serve(app))
                    start = asyncio.create_task(began.wait())
                    await asyncio.wait([serving, start], return_when=asyncio.FIRST_COMPLETED)
                    start.cancel()
                    if not serving.done():
                        await story(line, engine)
                    engine.stop()
                    return await serving

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


async def until(what: Callable[[], object]) -> None:
    """Turns of the loop, until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.001)


@pytest.fixture(name="play")
def served_live(loop: str, tasks: str) -> Callable[..., aiomos.Summary]:
    """Serves a handler, or an app, on a live source while a story is told."""

    def run(app: Any, story: Story, **options: Any) -> aiomos.Summary:
        return serve(LOOPS[loop], app, story, tasks=tasks, **options)

    return run
