"""The app of ``benchmarks.workers``: a coroutine on every flow reads both sides to the end."""

from __future__ import annotations

import aiomos

app = aiomos.App()


@app.tcp()
async def read_both(flow: aiomos.Flow) -> None:
    """Read the client to its end, then the server, whose bytes wait in its buffer."""
    await flow.client.read()
    await flow.server.read()
