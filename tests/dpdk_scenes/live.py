"""Live runs of an app on devices that give back what is sent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from stage import close_all, dpdk, held, start

import aiomos

sys.path.append(str(Path(__file__).parents[1]))
from kit import LOOPS
from line import Line, serve, until


class RingLine(Line):
    """What is given goes into a net_ring and comes back: a live source without a descriptor."""

    def __init__(self, port: Any) -> None:
        self.source = port.source()
        self.clients = 0

    def __exit__(self, *exc_info: object) -> None:
        self.source.close()

    def give(self, raw: bytes, time_ns: int = 0, *, seen: bool = True) -> None:
        assert self.source.transmit(0, held([raw])) == 1


def live_without_descriptor(loop: str, tasks: str, busy_poll: bool) -> Any:
    """A run on a net_ring: what handlers and timers saw, and how it was stopped."""
    start()
    port = dpdk.open_port("net_ring0")
    app, seen, ticks, filenos = aiomos.App(), [], [], []

    @app.tcp()
    async def reads(flow: aiomos.Flow) -> None:
        async for line in flow.client.lines():
            seen.append(line.decode())
            if line == b"wait":
                await flow.sleep(0.05)
                flow.after(0.02, lambda flow, event, packet: seen.append("after"))
        seen.append((await flow.closed()).name)
        await asyncio.sleep(0.02)
        seen.append("lingered")

    @app.every(0.01)
    async def tick() -> None:
        ticks.append(1)

    async def story(line: Line, engine: aiomos.Engine) -> None:
        filenos.append(line.source.fileno())
        talk = line.greeting(b"one\n")
        await until(lambda: seen == ["one"])
        talk.c(b"wait\n")
        await until(lambda: seen == ["one", "wait", "after"] and len(ticks) > 5)
        talk.c(b"two\n")
        await until(lambda: seen[-1] == "two")

    summary = serve(
        LOOPS[loop], app, story, lambda: RingLine(port), tasks=tasks, busy_poll=busy_poll, linger=5
    )
    return {
        "filenos": filenos,
        "seen": seen,
        "frames": [summary.received, summary.processed, summary.dropped],
        "missing": close_all(port),
    }
