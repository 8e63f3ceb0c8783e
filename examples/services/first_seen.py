"""Say when a client asks for a TLS server's name for the first time ever: Redis remembers.

Wants `pip install redis`, and a server at $REDIS (redis://127.0.0.1).

aiomos run examples/services/first_seen.py -r tests/captures/http_demo.pcap
"""

import os
from collections.abc import AsyncIterator

from redis import asyncio as redis

import aiomos

app = aiomos.App()


@app.lifespan
async def store(app: aiomos.App) -> AsyncIterator[redis.Redis]:
    async with redis.from_url(os.environ.get("REDIS", "redis://127.0.0.1")) as store:
        yield store  # this is app.state


@app.tcp("port 443", sides="client")
async def remember(flow: aiomos.Flow) -> None:
    hello = await aiomos.tls.client_hello(flow.client)
    if await app.state.sadd(f"names:{flow.client.address}", hello.server_name):
        print(f"{flow.client.address} asks for {hello.server_name} for the first time")
    flow.bypass()
