"""HTTP/1 between two ends, and what `aiomos.http` gives of it."""

from __future__ import annotations

from kit import play

import aiomos
from aiomos import http

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d"


def collected(make, script, *, tasks="engine", **options):
    """What iterating gave, errors in their places, until it ended or said the same error twice."""
    found = []
    app = aiomos.App()

    @app.tcp(**{"start": "data", **options})
    async def handler(flow):
        reader = make(flow)
        while True:
            try:
                found.append(await anext(reader))
            except StopAsyncIteration:
                return
            except Exception as error:
                found.append(error)
                if not isinstance(error, aiomos.GapError | aiomos.ProtocolError):
                    return

    summary = play(app, script, tasks=tasks)
    assert summary.handler_errors == 0
    return found


def exchange(client=b"", server=b"", close=True):
    def script(t):
        t.handshake()
        for at in range(0, len(client), 1000):
            t.c(client[at : at + 1000])
            t.s()
        for at in range(0, len(server), 1000):
            t.s(server[at : at + 1000])
            t.c()
        if close:
            t.close()

    return script


def requests_of(data, **options):
    return collected(lambda flow: http.requests(flow.client), exchange(client=data), **options)


def responses_of(data, **options):
    return collected(lambda flow: http.responses(flow.server), exchange(server=data), **options)


def pairs_of(client, server, **options):
    return collected(http.transactions, exchange(client, server), **options)


def told(pairs):
    return [
        (p.request and p.request.target, p.response and (p.response.status, p.response.body))
        for p in pairs
    ]
