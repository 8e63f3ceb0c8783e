"""Protocol readers over the corpus, against what tshark reads from it (protocols.json)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

import aiomos
from aiomos import dns, http, ssh, tls

ANSWERS = json.loads(Path(__file__).with_name("protocols.json").read_text())
del ANSWERS["made by"]

#: (capture, kind) -> why the answers differ. Anything else that differs is a mistake of ours.
DIFFERENT = {
EXCEPTIONS
}


def read(path: Path) -> dict[str, Counter[str]]:
    """Everything that the readers find, kind by kind, spelt as tshark does."""
    found = {kind: Counter[str]() for kind in ANSWERS_KINDS}
    app = aiomos.App()

    @app.tcp(start="data", on_gap="skip", limit=1 << 24)
    async def hellos(flow):
        for look in LOOKS:
            try:
                for kind, answer in await look(flow):
                    found[kind][answer] += 1
            except (aiomos.AiomosError, asyncio.IncompleteReadError):
                pass

    @app.tcp(start="data", on_gap="skip", limit=1 << 24)
    async def web(flow):
        async for request in _whatever(http.requests(flow.client)):
            found["requests"][f"{request.method} {request.target}"] += 1
        async for response in _whatever(http.responses(flow.server)):
            found["responses"][str(response.status)] += 1

    @app.tcp("port 53", start="data", on_gap="skip", limit=1 << 24)
    @app.udp("port 53")
    async def names(flow):
        async for item in dns.messages(flow):
            if isinstance(item, dns.Message):
                found["dns"][f"0x{item.message.id:04x} {int(item.is_response)}"] += 1

    summary = aiomos.run(app, path)
    assert summary.handler_errors == 0
    return found


async def _whatever(messages):
    """Messages, and no errors: tshark goes on behind them too."""
    while True:
        try:
            yield await anext(messages)
        except aiomos.ProtocolError:
            continue
        except (StopAsyncIteration, aiomos.FlowError):
            return


async def _client_hello(flow):
    hello = await tls.client_hello(flow.client)
    return [("ja3", hello.ja3)] + ([("names", hello.server_name)] if hello.server_name else [])


async def _server_hello(flow):
    return [("ja3s", (await tls.server_hello(flow.server)).ja3s)]


async def _ssh_client(flow):
    return [("banners", _spelt(await ssh.banner(flow.client)))]


async def _ssh_server(flow):
    return [("banners", _spelt(await ssh.banner(flow.server)))]


async def _ssh_client_offer(flow):
    return [("hassh", (await ssh.kex_init(flow.client)).hassh)]


async def _ssh_server_offer(flow):
    return [("hassh_server", (await ssh.kex_init(flow.server)).hassh_server)]


def _spelt(banner):
    return f"SSH-{banner.protocol}-{banner.software} {banner.comments}".strip()


LOOKS = (_client_hello, _server_hello, _ssh_client, _ssh_server)
LOOKS += (_ssh_client_offer, _ssh_server_offer)
ANSWERS_KINDS = (
    *("requests", "responses", "ja3", "names", "ja3s"),
    *("banners", "hassh", "hassh_server", "dns"),
)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_readers_find_in_a_capture_what_tshark_finds(corpus, name):
    found = read(corpus / "public" / name)
    for kind in ANSWERS_KINDS:
        if (name, kind) not in DIFFERENT:
            assert dict(found[kind]) == ANSWERS[name].get(kind, {}), kind
