"""Requests and the responses that answer them: what `aiomos.http.transactions` pairs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, FIN, SERVER
from http_talk import GET, OK, collected, exchange, pairs_of, requests_of, told
from kit import both_tasks, play

import aiomos
from aiomos import http


@both_tasks
def test_pipelined_requests_are_answered_in_order(tasks):
    pairs = pairs_of(GET % 1 + GET % 2 + GET % 3, OK % 1 + OK % 2 + OK % 3, tasks=tasks)
    assert told(pairs) == [(f"/{n}", (200, b"00%d" % n)) for n in (1, 2, 3)]


def test_answer_to_head_has_no_body_whatever_its_length():
    head = b"HEAD /1 HTTP/1.1\r\n\r\n"
    pairs = pairs_of(head + GET % 2, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + OK % 2)
    assert told(pairs) == [("/1", (200, b"")), ("/2", (200, b"002"))]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_statuses_without_a_body_have_none(status):
    bare = b"HTTP/1.1 " + status + b"\r\nContent-Length: 9\r\n\r\n"
    pairs = pairs_of(GET % 1 + GET % 2, bare + OK % 2)
    assert told(pairs)[1] == ("/2", (200, b"002"))


def test_interim_responses_go_with_the_final_one():
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    (pair,) = pairs_of(GET % 1, interim + OK % 1)
    assert [r.status for r in pair.interim] == [100, 103]
    assert pair.response.status == 200


def after(client, server):
    """Pairs of a flow, and what stands at its two ends when they end."""
    left = []

    async def reading(flow):
        pairs = [pair async for pair in http.transactions(flow)]
        left.append((pairs, await flow.client.read(99), await flow.server.read(99)))

    assert play(reading, exchange(client, server)).handler_errors == 0
    return left[0]


@pytest.mark.parametrize(
    ("request_", "answer", "client", "server"),
    [
        (b"CONNECT a:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\x16\x03", b"\x16\x03"),
        (
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"\x81\x05hello",
            b"GET looks like HTTP",
        ),
    ],
)
def test_upgrade_ends_iteration_at_the_first_byte_of_the_other_protocol(
    request_, answer, client, server
):
    pairs, *rest = after(request_ + client, answer + server)
    assert [p.upgraded for p in pairs] == [True]
    assert rest == [client, server]


def test_refused_upgrade_goes_on_with_http():
    asks = b"GET /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    pairs = pairs_of(asks + GET % 2, OK % 1 + OK % 2)
    assert told(pairs) == [("/1", (200, b"001")), ("/2", (200, b"002"))]
    refused = b"HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx"
    pairs = pairs_of(b"CONNECT a:1 HTTP/1.1\r\n\r\n" + GET % 2, refused + OK % 2)
    assert [p.response.status for p in pairs] == [403, 200]


def test_requests_alone_end_where_something_else_follows_an_upgrade():
    asks = b"GET /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert [r.target for r in requests_of(asks + GET % 2)] == ["/1", "/2"]
    assert [r.target for r in requests_of(asks + b"PRI * HTTP/2.0\r\n\r\nSM")] == ["/1"]


def test_request_without_an_answer_is_given_at_the_end():
    pairs = pairs_of(GET % 1 + GET % 2, OK % 1)
    assert told(pairs) == [("/1", (200, b"001")), ("/2", None)]


def test_bodies_are_kept_up_to_the_limit():
    put = b"PUT /1 HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"u" * 200_000
    (pair,) = collected(
        lambda flow: http.transactions(flow, body_limit=10),
        exchange(put, b"HTTP/1.1 200 OK\r\n\r\n" + b"d" * 100_000),
    )
    assert (pair.request.body, pair.request.body_size) == (b"u" * 10, 200_000)
    assert (pair.response.body, pair.response.body_size) == (b"d" * 10, 100_000)
    assert pair.response.complete


def test_answer_lost_in_a_gap_leaves_its_request_unanswered_and_the_next_pair_whole():
    def script(t):
        t.handshake()
        t.c(GET % 1)
        t.s(OK % 1)
        t.c(GET % 2)
        t.skip(SERVER, 100)
        t.c(GET % 3)
        t.s(OK % 3)
        t.c()
        t.rest(1)
        t.c(GET % 4)
        t.s(OK % 4)
        t.close()

    pairs = collected(http.transactions, script, on_gap="skip")
    assert told(pairs) == [
        ("/1", (200, b"001")),
        ("/2", None),
        ("/3", (200, b"003")),
        ("/4", (200, b"004")),
    ]
    assert [p.guessed for p in pairs] == [False, True, True, False]


def test_request_lost_in_a_gap_leaves_its_answer_without_one():
    def script(t):
        t.handshake()
        t.c(GET % 1)
        t.s(OK % 1)
        t.skip(CLIENT, 40)
        t.s(OK % 2)
        t.rest(1)
        t.c(GET % 3)
        t.s()
        t.rest(1)
        t.s(OK % 3)
        t.c(GET % 4)
        t.s(OK % 4)
        t.close()

    pairs = collected(http.transactions, script, on_gap="skip")
    assert told(pairs) == [
        *(("/1", (200, b"001")), (None, (200, b"002"))),
        *(("/3", (200, b"003")), ("/4", (200, b"004"))),
    ]
    assert [p.guessed for p in pairs] == [False, True, True, False]


def test_gap_raised_or_yielded_by_transactions_comes_once():
    def script(t):
        t.handshake()
        t.c(GET % 1)
        t.s(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
        t.skip(SERVER, 5)
        t.s(b"def")
        t.c()
        t.rest(1)
        t.c(GET % 2)
        t.s(OK % 2)
        t.close()

    error, one, two = collected(http.transactions, script)
    assert isinstance(error, aiomos.GapError)
    assert (one.response.body, one.response.missing, one.response.complete) == (b"ab", 5, False)
    assert two.response.body == b"002"
    gap, one, two = collected(lambda flow: http.transactions(flow, on_gap="yield"), script)
    assert (gap.length, gap.side) == (5, "server")


@pytest.mark.parametrize("side", ["client", "server"])
def test_one_sided_capture_gives_what_it_has(side):
    def script(t):
        if side == "client":
            t.c(GET % 1)
            t.c(GET % 2)
        else:
            t.s(OK % 1)
            t.s(OK % 2)

    pairs = collected(http.transactions, script)
    if side == "client":
        assert told(pairs) == [("/1", None), ("/2", None)]
    else:
        assert told(pairs) == [(None, (200, b"001")), (None, (200, b"002"))]


def test_half_closed_client_still_gets_its_answer():
    def script(t):
        t.handshake()
        t.c(GET % 1, FIN | 0x10)
        t.s(OK % 1)
        t.s(flags=FIN | 0x10)

    assert told(collected(http.transactions, script)) == [("/1", (200, b"001"))]
