"""Ask an HTTP service about every host name that a client wants to speak TLS with.

The service answers GET /NAME with a word; $REPUTATION says where. Wants `pip install aiohttp`.

export REPUTATION=http://127.0.0.1:8000
aiomos run examples/services/reputation.py -r tests/captures/http_demo.pcap
"""

import os
from collections.abc import AsyncIterator

import aiohttp

import aiomos

app = aiomos.App()


@app.lifespan
async def session(app: aiomos.App) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(os.environ["REPUTATION"]) as session:
        yield session  # this is app.state: one pool of connections for all handlers


@app.tcp("port 443", sides="client")
async def judge(flow: aiomos.Flow) -> None:
    hello = await aiomos.tls.client_hello(flow.client)
    async with app.state.get(f"/{hello.server_name}") as answer:  # others go on meanwhile
        print(flow.client.address, hello.server_name, await answer.text())
    flow.bypass()
