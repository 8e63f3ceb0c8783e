"""HTTP transactions around gaps: none is lost that need not be, and a file says if it is whole."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks

import aiomos
from aiomos import testing
from aiomos.testing import Conversation, client, server

pytestmark = both_tasks

SIZE = 4000  # bytes of each file


@attrs.frozen
class File:
    """The body of a response, as one that extracts files tells of it."""

    name: str
    size: int
    state: str  # CLOSED, or TRUNCATED
    gaps: bool


class Log:
    """An app that logs transactions and the files in them."""

    def __init__(self):
        self.transactions = []
        self.files = []
        self.app = aiomos.App()
        self.app.tcp("port 80 or port 8080", on_gap="skip")(self.log)

    async def log(self, flow):
        async for pair in aiomos.http.transactions(flow, body_limit=1 << 20):
            name = pair.request and pair.request.target
            self.transactions.append((name, pair.response and pair.response.status))
            if pair.response is not None and pair.response.body_size + pair.response.missing:
                self.files.append(self.file(name, pair.response))

    def file(self, name, response):
        gaps = response.missing > 0
        return File(name, len(response.body), "CLOSED" if response.complete else "TRUNCATED", gaps)


def logged(traffic, tasks):
    log = Log()
    assert testing.run(log.app, traffic, tasks=tasks).summary.handler_errors == 0
    return log


# ---- row 28 ------------------------------------------------------------------------------------


def get(name):
    return b"GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n" % name


def head(length=SIZE):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


#: What of the second file's body was captured: runs of bytes, and in turn runs that were not.
SECOND = {
    "leading": [0, 1000, 3000],
    "simple": [1000, 1500, 1500],
    "double": [500, 1000, 500, 1500, 500],
    "whole body": [0, SIZE],
    "end of the body": [2500, 1500],
}


def three_files(runs):
    """Three transactions; bytes of the second file were acknowledged and not captured."""
    talk = Conversation(mss=1460).handshake()
    for name in (b"/1", b"/2", b"/3"):
        talk.data(client, get(name)).data(server, head())
        for number, length in enumerate(runs if name == b"/2" else [SIZE]):
            if number % 2:
                talk.gap(server, length)
            elif length:
                talk.data(server, b"x" * length)
        talk.ack(client).wait(1)
    return talk.close()


@pytest.mark.parametrize("shape", SECOND)
def test_gap_in_a_body_three_transactions_are_logged_and_one_file_truncated(shape, tasks):
    """Row 28: leading, double, and over exactly the body."""
    runs = SECOND[shape]
    log = logged(three_files(runs), tasks)
    assert log.transactions == [("/1", 200), ("/2", 200), ("/3", 200)]
    first, second, third = log.files
    assert [first, third] == [
        File("/1", SIZE, "CLOSED", False),
        File("/3", SIZE, "CLOSED", False),
    ]
    assert (second.state, second.gaps) == ("TRUNCATED", True)
    assert second.size == runs[0]  # what stands before the gap


def test_gap_beyond_a_body_into_the_next_head_loses_that_response_only(tasks):
    """Row 28: the gap begins in the second file and ends inside the third response's head."""
    talk = Conversation().handshake()
    talk.data(client, get(b"/1")).data(server, head() + b"x" * SIZE).ack(client)
    talk.data(client, get(b"/2")).data(server, head() + b"x" * 1000)
    talk.gap(server, SIZE - 1000 + 10)
    talk.data(client, get(b"/3")).data(server, head()[10:] + b"x" * SIZE).ack(client).wait(1)
    talk.data(client, get(b"/4")).data(server, head() + b"x" * SIZE).ack(client).close()
    log = logged(talk, tasks)
    assert log.transactions == [("/1", 200), ("/2", 200), ("/3", None), ("/4", 200)]
    assert [(file.name, file.state) for file in log.files] == [
        *(("/1", "CLOSED"), ("/2", "TRUNCATED"), ("/4", "CLOSED")),
    ]


def test_gap_in_the_corpus_three_transactions_are_logged_and_one_file_truncated(tasks, corpus):
    """Row 28: Suricata's own capture of it, where the corpus has it."""
    found = sorted(corpus.rglob("*http-gap-*.pcap"))
    if not found:
        pytest.skip("the corpus has no http-gap-*.pcap")
    for capture in found:
        log = logged(capture, tasks)
        assert log.transactions == [("/1", 200), ("/2", 200), ("/3", 200)]
        assert sorted((file.state, file.gaps) for file in log.files) == [
            *(("CLOSED", False), ("CLOSED", False), ("TRUNCATED", True)),
        ]


# ---- row 29 ------------------------------------------------------------------------------------


def pipelined(before, missing):
    """Four requests in one go, of the second of which bytes behind the first `before` are lost."""
    lost = get(b"/2")
    talk = Conversation().handshake().data(client, get(b"/1") + lost[:before])
    talk.gap(client, missing)
    talk.data(client, lost[before + missing :] + get(b"/3") + get(b"/4"))
    for _ in range(4):
        talk.data(server, head(3) + b"abc")
    return talk.ack(client).wait(1).close()


@pytest.mark.parametrize(
    ("before", "missing"),
    [
        pytest.param(20, 10, id="inside a header"),
        pytest.param(0, 25, id="start line and more"),
        pytest.param(5, 4, id="inside the start line"),
        pytest.param(0, len(get(b"/2")), id="exactly that request"),
        pytest.param(len(get(b"/2")) - 4, 4, id="its end"),
    ],
)
def test_gap_in_the_headers_of_a_pipelined_request_loses_that_request_only(before, missing, tasks):
    """Row 29: that request is lost, the next ones are parsed, from their first byte on."""
    seen = []

    async def requests(flow):
        async for request in aiomos.http.requests(flow.client, on_gap="skip"):
            seen.append((request.target, request.headers.get("Host"), request.offset))

    testing.run(requests, pipelined(before, missing), tasks=tasks)
    size = len(get(b"/1"))
    assert seen == [(f"/{n}", "a.example", size * (n - 1)) for n in (1, 3, 4)]


def test_gap_in_the_headers_of_a_pipelined_request_its_response_is_still_told(tasks):
    """Row 29: four responses, three requests; pairs that rest on a guess say so."""
    pairs = []

    async def transactions(flow):
        async for pair in aiomos.http.transactions(flow, on_gap="skip"):
            pairs.append(pair)

    testing.run(transactions, pipelined(20, 10), tasks=tasks)
    assert sum(pair.response is not None for pair in pairs) == 4
    assert [pair.request.target for pair in pairs if pair.request] == ["/1", "/3", "/4"]
    assert not pairs[0].guessed
    assert any(pair.guessed for pair in pairs[1:])
