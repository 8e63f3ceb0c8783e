"""Log every HTTP/1 request with its response: status, size of the body, time to its last byte.

aiomos run examples/http_log.py -r capture.pcap
"""

import asyncio
import io
from collections.abc import AsyncIterator
from http.client import HTTPMessage, parse_headers

import aiomos

app = aiomos.App()
totals = {"requests": 0, "bytes": 0}


@app.tcp("port 80 or port 8080")
async def log_requests(flow: aiomos.Flow) -> None:
    try:
        while True:
            await log_one(flow, flow.client, flow.server)
    except asyncio.IncompleteReadError:
        pass  # the end of the connection


async def log_one(flow: aiomos.Flow, client: aiomos.Endpoint, server: aiomos.Endpoint) -> None:
    line, headers = await head(client)
    method, target, _ = line.split(" ", 2)
    await body(client, headers, until_end=False)
    sent = client.time
    status = 100
    while status < 200:  # "100 Continue" comes before the response
        line, headers = await head(server)
        status = int(line.split(" ", 2)[1])
    empty = method == "HEAD" or status in (204, 304)
    size = 0 if empty else await body(server, headers, until_end=True)
    totals["requests"] += 1
    totals["bytes"] += size
    took = (server.time - sent) * 1e3
    print(f"{flow.client.address:<15} {status} {size:>7} B {took:>9.3f} ms  {method} {target}")


async def head(end: aiomos.Endpoint) -> tuple[str, HTTPMessage]:
    """First line and headers of a message."""
    line, _, fields = (await end.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    return line.decode("latin-1"), parse_headers(io.BytesIO(fields))


async def body(end: aiomos.Endpoint, headers: HTTPMessage, *, until_end: bool) -> int:
    """Reads a body (RFC 9112 section 6); its size in bytes."""
    if "chunked" in headers.get("Transfer-Encoding", ""):
        size = 0
        while chunk := int((await end.readline()).split(b";")[0], 16):
            size += len((await end.readexactly(chunk + 2))[:-2])
        await end.readline()
        return size
    if "Content-Length" in headers:
        return len(await end.readexactly(int(headers["Content-Length"])))
    return len(await end.read()) if until_end else 0


@app.lifespan
async def summary(app: aiomos.App) -> AsyncIterator[None]:
    yield
    print(f"{totals['requests']} requests, {totals['bytes']} bytes of responses")
