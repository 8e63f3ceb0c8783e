"""aiomos with a coroutine on every flow that reads both sides to the end; prints the bytes read.

Called as ``python benchmarks/read_all.py CAPTURE``.
"""

from __future__ import annotations

import json
import sys

import aiomos

app = aiomos.App()
totals = {"connections": 0, "bytes": 0}


@app.tcp()
async def read_both(flow: aiomos.Flow) -> None:
    """Read the client to its end, then the server, whose bytes wait in its buffer."""
    total = len(await flow.client.read()) + len(await flow.server.read())
    totals["connections"] += 1
    totals["bytes"] += total


if __name__ == "__main__":
    aiomos.run(app, sys.argv[1])
    print(json.dumps(totals))
