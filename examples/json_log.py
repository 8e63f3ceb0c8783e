"""Write a line of JSON for each connection, by one writer task that all handlers feed.

aiomos run examples/json_log.py -r tests/captures/http_demo.pcap
"""

import asyncio
import json
from collections.abc import AsyncIterator

import aiomos

app = aiomos.App()


@app.lifespan
async def writer(app: aiomos.App) -> AsyncIterator[asyncio.Queue]:
    queue: asyncio.Queue = asyncio.Queue(maxsize=1000)
    async with asyncio.TaskGroup() as group:  # a writer that fails ends the run
        group.create_task(write(queue))
        yield queue  # this is app.state
        await queue.put(None)  # all handlers have ended: what stands before it is all there is


async def write(queue: asyncio.Queue) -> None:
    while (record := await queue.get()) is not None:
        await asyncio.to_thread(print, json.dumps(record))  # a slow disk stops no flow


@app.tcp(sides="client")
async def log(flow: aiomos.Flow) -> None:
    first = await flow.client.read(40)
    flow.client.stop()  # the rest is only counted
    reason = await flow.closed()
    record = {
        "client": f"{flow.client.address}:{flow.client.port}",
        "server": f"{flow.server.address}:{flow.server.port}",
        "seconds": round(flow.duration, 6),
        "reason": reason,
        "begins": first.decode("latin-1"),
    }
    await app.state.put(record)  # waits while the writer is far behind: this handler, no other
