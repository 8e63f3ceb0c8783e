"""Protocol readers on the project's own captures: what real programs said, by their own account."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import aiomos
from aiomos import dns, http, tls

ROOT = Path(__file__).parents[2]
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def tsharks(path):
    """What tshark reads, by tests/corpus/make_protocols.py."""
    place = ROOT / "tests" / "corpus" / "make_protocols.py"
    spec = importlib.util.spec_from_file_location("make_protocols", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.answers(path)


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_transactions_of_the_demo_are_those_of_its_access_log(captures, tasks):
    truth = json.loads((captures / "http_demo.truth.json").read_text())["requests"]
    found = []
    app = aiomos.App()

    @app.tcp("port 80")
    async def log(flow):
        index = 0
        async for pair in http.transactions(flow):
            index += 1
            ask, answer = pair.request, pair.response
            assert ask.complete
            assert answer.complete
            assert (ask.skipped, answer.skipped, pair.guessed) == (0, 0, False)
            found.append(
                (flow.client.address, flow.client.port, index, ask.method, ask.target)
                + (f"HTTP/{ask.version}", answer.status, answer.body_size, ask.body_size)
            )

    aiomos.run(app, captures / "http_demo.pcap", tasks=tasks)
    names = ("src", "sport", "index", "method", "path", "version", "status", "body_bytes")
    names += ("request_body_bytes",)
    wanted = [tuple(row[name] for name in names) for row in truth if row["dport"] == 80]
    assert sorted(found) == sorted(wanted)
    assert len(found) == 36


@pytest.mark.parametrize("name", ["http_v4_loss.pcap", "http_v6_reorder.pcap"])
def test_lost_and_overtaken_frames_cost_no_transaction(captures, name):
    found = []
    app = aiomos.App()

    @app.tcp()
    async def log(flow):
        async for pair in http.transactions(flow, body_limit=0):
            found.append((pair.request.complete, pair.response.status, pair.response.complete))

    assert aiomos.run(app, captures / name).handler_errors == 0
    assert found
    assert {f[::2] for f in found} == {(True, True)}


@needs_tshark
@pytest.mark.parametrize("name", ["http_demo.pcap", "tls_duplicate.pcapng"])
def test_names_and_fingerprints_of_curl_are_tsharks(captures, name):
    found = {"ja3": Counter(), "ja3s": Counter(), "names": Counter()}
    app = aiomos.App()

    @app.tcp("port 443 or port 8443")
    async def log(flow):
        hello = await tls.client_hello(flow.client)
        found["ja3"][hello.ja3] += 1
        found["names"][hello.server_name] += 1
        found["ja3s"][(await tls.server_hello(flow.server)).ja3s] += 1

    assert aiomos.run(app, captures / name).handler_errors == 0
    wanted = tsharks(captures / name)
    assert {kind: dict(c) for kind, c in found.items()} == {kind: wanted[kind] for kind in found}


def test_exchanges_of_dig_are_its_questions(captures):
    found = []
    app = aiomos.App()

    async def log(flow):
        async for item in dns.exchanges(flow):
            assert item.query is not None
            assert item.response is not None
            rcode = item.response.message.rcode()
            records = sum(map(len, item.response.message.answer))
            found.append((flow.protocol, item.rdtype, item.name, int(rcode), records))

    app.udp("port 53")(log)
    app.tcp("port 53")(log)
    assert aiomos.run(app, captures / "dns.pcap").handler_errors == 0
    name = "www.example.test"
    assert Counter(found) == Counter(
        [("udp", "A", name, 0, 1)] * 4
        + [("udp", "AAAA", name, 0, 1), ("udp", "A", "web.example.test", 0, 2)]
        + [("udp", "MX", "example.test", 0, 1), ("udp", "TXT", "short.example.test", 0, 1)]
        + [("udp", "A", "nowhere.example.test", 3, 0), ("udp", "A", "www.elsewhere.test", 5, 0)]
        + [("udp", "TXT", "long.example.test", 0, 0), ("tcp", "TXT", "long.example.test", 0, 1)]
        + [("tcp", "A", name, 0, 1), ("tcp", "TXT", "short.example.test", 0, 1)]
        + [("udp", "PTR", "20.2.0.192.in-addr.arpa", 0, 1)]
    )
