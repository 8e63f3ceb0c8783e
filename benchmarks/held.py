"""aiomos with a coroutine on every flow that reads the client; prints the most that it held.

Called as ``python benchmarks/held.py CAPTURE [handlers]``: without the word there is no handler.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiomos
from aiomos._replay_loop import ReplayLoop

PERIOD = 0.005  # seconds of capture time between looks
NAMES = ("flows", "flow_bytes", "index_bytes", "memory_held")
most = dict.fromkeys(NAMES, 0)


async def read_client(flow: aiomos.Flow) -> None:
    """Read what the client sent, to its end; gaps are passed over."""
    while await flow.client.read(1 << 16):
        pass


async def hold(path: str, handlers: bool) -> None:
    """Runs the capture and notes what is held."""
    app = aiomos.App()
    if handlers:
        app.tcp(start="syn", sides="client", on_gap="skip")(read_client)
    engine = aiomos.Engine(path, max_flows=1 << 21, max_embryonic=1 << 20)

    @app.every(PERIOD)
    async def look() -> None:
        usage = engine.core.usage()
        for name in NAMES:
            most[name] = max(most[name], usage[name])

    with engine.source:
        await engine.serve(app)
    most["gaps"] = engine.core.counters()["gaps"]


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=ReplayLoop) as runner:
        runner.run(hold(sys.argv[1], "handlers" in sys.argv[2:]))
    print(json.dumps(most))
