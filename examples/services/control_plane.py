"""Count HTTP requests by host; ask for the counts, and choose hosts to log, over HTTP meanwhile.

    curl localhost:8080/hosts
    curl -X PUT localhost:8080/watched/example.com

Wants `pip install aiohttp`; serves at $CONTROL_PORT (8080) for as long as there is traffic.

aiomos run examples/services/control_plane.py -r tests/captures/http_demo.pcap
"""

import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

import aiomos

app = aiomos.App()
routes = web.RouteTableDef()


@dataclass
class State:
    """What handlers and the control plane share: one thread, one loop, so no lock."""

    hosts: Counter[str] = field(default_factory=Counter)
    watched: set[str] = field(default_factory=set)


@app.tcp("port 80", on_gap="skip")
async def count(flow: aiomos.Flow) -> None:
    async for request in aiomos.http.requests(flow.client):
        host = request.headers.get("Host")
        app.state.hosts[host] += 1
        if host in app.state.watched:
            print(flow.client.address, request.method, host, request.target)


@routes.get("/hosts")
async def hosts(request: web.Request) -> web.Response:
    return web.json_response(app.state.hosts)


@routes.put("/watched/{host}")
async def watch(request: web.Request) -> web.Response:
    app.state.watched.add(request.match_info["host"])
    return web.Response(status=204)


@app.lifespan
async def control_plane(app: aiomos.App) -> AsyncIterator[State]:
    site = web.Application()
    site.add_routes(routes)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ.get("CONTROL_PORT", "8080"))).start()
    yield State()
    await runner.cleanup()
