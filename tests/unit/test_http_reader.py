"""HTTP/1 on streams: what `aiomos.http` gives for conversations through the engine."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, RST, SERVER
from http_talk import GET, OK, collected, exchange, requests_of, responses_of, told
from kit import MILLISECOND, START, both_tasks, play

import aiomos
from aiomos import http

# ---- requests and responses ----------------------------------------------------------------------


@both_tasks
def test_pipelined_requests_come_one_by_one_with_their_places(tasks):
    data = GET % 1 + GET % 2
    first, second = requests_of(data, tasks=tasks)
    assert (first.method, first.target, first.version) == ("GET", "/1", "1.1")
    assert first.headers["host"] == "a"
    assert (first.offset, second.offset) == (0, len(GET % 1))
    assert first.time == second.time == pytest.approx((START + 3 * MILLISECOND) / 1e9)


def test_head_cut_over_packets_is_timed_by_its_first_and_last_byte():
    def script(t):
        t.handshake()
        for byte in GET % 1:
            t.c(bytes([byte]))
        t.close()

    (request,) = collected(lambda flow: http.requests(flow.client), script)
    assert request.end_time - request.time == pytest.approx((len(GET % 1) - 1) * 0.001, abs=1e-6)


def test_body_not_read_is_passed_over():
    put = b"PUT /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"GET / HTTP/1.1\r\n" * 6250
    found = requests_of(put + GET % 2)
    assert [(r.method, r.target, r.body_size) for r in found] == [
        ("PUT", "/a", 100_000),
        ("GET", "/2", 0),
    ]
    assert found[0].complete
    assert found[0].body == b""


def test_chunks_extensions_and_trailers_are_taken_apart():
    data = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;note=x\r\nhello\r\n00006 \r\n world\r\n0\r\nDigest: abc\r\n\r\n" + OK % 7
    )
    bodies = []

    async def reading(flow):
        async for response in http.responses(flow.server):
            bodies.append((await response.read(), dict(response.trailers.items())))

    summary = play(aiomos._app.as_app(reading), exchange(b"x", data))
    assert summary.handler_errors == 0
    assert bodies == [(b"hello world", {"Digest": "abc"}), (b"007", {})]


def test_body_as_it_comes_gives_its_bytes():
    pieces = []

    async def reading(flow):
        async for response in http.responses(flow.server):
            pieces.append([piece async for piece in response])

    def script(t):
        t.handshake()
        t.s(b"HTTP/1.0 200 OK\r\n\r\n")
        t.s(b"one")
        t.rest(1)
        t.s(b"two")
        t.close(SERVER)

    play(aiomos._app.as_app(reading), script)
    assert b"".join(pieces[0]) == b"onetwo"


@pytest.mark.parametrize("on_limit", ["truncate", "raise"])
def test_body_over_the_limit_is_cut_or_raises_and_the_next_message_is_read(on_limit):
    seen = []

    async def reading(flow):
        async for response in http.responses(flow.server):
            try:
                await response.read(2, on_limit)
            except asyncio.LimitOverrunError as error:
                seen.append(error.consumed)
            seen.append((response.body, response.status))

    play(aiomos._app.as_app(reading), exchange(b"x", OK % 1 + OK % 2))
    over = [2] if on_limit == "raise" else []
    assert seen == [*over, (b"00", 200)] * 2


def test_response_until_the_end_is_complete_only_with_a_fin():
    data = b"HTTP/1.1 200 OK\r\n\r\nrest"
    (whole,) = responses_of(data)
    assert (whole.body_size, whole.complete) == (4, True)
    script = exchange(server=data, close=False)
    (cut,) = collected(lambda flow: http.responses(flow.server), script)
    assert (cut.body_size, cut.complete) == (4, False)


def test_response_shorter_than_its_length_is_incomplete():
    (response,) = responses_of(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    assert (response.body_size, response.complete) == (3, False)


def test_responses_alone_take_a_length_without_a_body_for_an_answer_to_head():
    found = responses_of(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + OK % 1)
    assert [(r.body_size, r.complete) for r in found] == [(0, True), (3, True)]


def test_empty_lines_before_a_message_are_no_part_of_it():
    (request,) = requests_of(b"\r\n\r\n" + GET % 1)
    assert (request.offset, request.skipped) == (4, 0)


def test_lines_that_end_with_lf_alone_are_taken():
    (request,) = requests_of(b"GET / HTTP/1.1\nHost: b\n\n")
    assert request.headers.items() == (("Host", "b"),)


def test_request_line_alone_with_lf_is_taken():
    (request,) = requests_of(b"GET / HTTP/1.0\n\n")
    assert (request.target, request.version) == ("/", "1.0")


def test_space_before_a_colon_is_taken_in_a_response_and_refused_in_a_request():
    """RFC 9112 section 5.1: servers must refuse it, proxies must take it out of a response."""
    (response,) = responses_of(b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length\t: 2\r\n\r\nok")
    assert response.headers.items() == (("X-A", "b"), ("Content-Length", "2"))
    assert response.complete
    (error,) = requests_of(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    assert isinstance(error, aiomos.ProtocolError)


def test_headers_answer_by_name_without_regard_to_case():
    headers = http.Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
    assert headers.get_all("SET-COOKIE") == ["a=1", "b=2"]
    assert headers["Set-Cookie"] == "a=1"
    assert (len(headers), list(headers)) == (2, ["Set-Cookie", "set-cookie"])
    assert "cookie" not in headers
    with pytest.raises(KeyError):
        headers["cookie"]
    assert headers.get("cookie", "none") == "none"


# ---- what is no HTTP ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"DESCRIBE rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_request_raises_with_its_offset_and_the_next_request_is_found(data):
    error, *rest = requests_of(GET % 1 + data + b"\r\n" + GET % 2)[1:]
    assert isinstance(error, aiomos.ProtocolError)
    assert (error.protocol, error.offset) == ("http", len(GET % 1))
    assert isinstance(error, ValueError)
    assert [r.target for r in rest] == ["/2"]
    assert rest[0].skipped == len(data + b"\r\n")


def test_not_http_is_said_at_the_first_byte():
    script = exchange(client=b"\x16", close=False)
    (error,) = collected(lambda flow: http.requests(flow.client), script)
    assert isinstance(error, aiomos.ProtocolError)


def test_head_over_the_limit_raises_and_keeps_no_more_than_that():
    data = b"GET / HTTP/1.1\r\n" + b"A: " + b"a" * 5000 + b"\r\n\r\n" + GET % 2
    found = collected(
        lambda flow: http.requests(flow.client, head_limit=1000), exchange(client=data)
    )
    assert "over 1000 bytes" in str(found[0])
    assert [r.target for r in found[1:]] == ["/2"]


@pytest.mark.parametrize(
    "body", [b"zz\r\nhello\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"A" * 10_000, b"-5\r\n"]
)
def test_wrong_chunks_raise_and_the_next_message_is_found(body):
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    first, error, *rest = responses_of(data + OK % 2)
    assert isinstance(error, aiomos.ProtocolError)
    assert not first.complete
    assert [r.status for r in rest] == [200]


def test_trailers_without_an_end_raise():
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000
    _, error, *rest = responses_of(data, limit=1 << 20)
    assert "trailers" in error.reason
    assert rest == []


def test_lines_that_look_like_starts_in_header_values_cost_linear_time():
    line = b"A: GET / HTTP/1.1\r\n"
    feeds = 0
    from aiomos._httphead import HeadParser

    class Counting(HeadParser):
        def feed(self, data):
            nonlocal feeds
            feeds += len(data)
            return super().feed(data)

    data = b"\x00" + (line * 3000 + b"bad line\r\n") * 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiomos._httpmessage.HeadParser", Counting)
        found = requests_of(data, limit=1 << 20)
    assert [type(x) for x in found] == [aiomos.ProtocolError]
    assert feeds < 4 * len(data)


# ---- gaps -----------------------------------------------------------------------------------------


def with_hole(before, lost, behind):
    """A client whose `lost` bytes nobody captured, acknowledged by the server."""

    def script(t):
        t.handshake()
        t.c(before)
        t.skip(CLIENT, lost)
        t.c(behind)
        t.s()
        t.rest(1)
        t.c(GET % 9)
        t.close()

    return script


BROKEN = with_hole(GET % 1 + b"GET /broken HTT", 500, b"half: of\r\n\r\n" + GET % 2)


def test_gap_raises_once_and_reading_resynchronises_behind_it():
    found = collected(lambda flow: http.requests(flow.client), BROKEN)
    assert [type(x).__name__ for x in found] == ["Request", "GapError", "Request", "Request"]
    assert (found[1].offset, found[1].length) == (len(GET % 1) + 15, 500)
    assert found[2].target == "/2"
    assert found[2].skipped == 15 + 500 + 12
    assert found[3].skipped == 0


def test_gap_yielded_stands_among_the_messages():
    found = collected(lambda flow: http.requests(flow.client, on_gap="yield"), BROKEN)
    assert [type(x).__name__ for x in found] == ["Request", "Gap", "Request", "Request"]
    configured = collected(lambda flow: http.requests(flow.client), BROKEN, on_gap="yield")
    assert [repr(x) for x in configured] == [repr(x) for x in found]


def test_gap_skipped_is_only_counted():
    found = collected(lambda flow: http.requests(flow.client), BROKEN, on_gap="skip")
    assert [(x.target, x.skipped) for x in found] == [("/1", 0), ("/2", 527), ("/9", 0)]


def test_gap_inside_a_body_of_known_length_costs_no_message():
    put = b"PUT /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"a" * 100
    script = with_hole(put, 600, b"b" * 300 + GET % 2)
    found = collected(lambda flow: http.requests(flow.client), script, on_gap="skip")
    assert [(x.target, x.skipped, x.missing) for x in found] == [
        *(("/a", 0, 600), ("/2", 0, 0), ("/9", 0, 0)),
    ]
    assert (found[0].body_size, found[0].complete) == (400, False)


def test_gap_inside_a_chunk_costs_no_message():
    head = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"a" * 100
    script = with_hole(head, 900, b"\r\n0\r\n\r\n" + GET % 2)
    found = collected(lambda flow: http.requests(flow.client), script, on_gap="skip")
    assert [(x.target, x.missing) for x in found] == [("/a", 900), ("/2", 0), ("/9", 0)]


def test_gap_over_the_end_of_a_body_resynchronises():
    put = b"PUT /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"a" * 100
    script = with_hole(put, 2000, b"tail of something" + GET % 2)
    found = collected(lambda flow: http.requests(flow.client), script, on_gap="skip")
    assert [x.target for x in found] == ["/a", "/2", "/9"]
    assert (found[0].missing, found[0].complete) == (900, False)


def test_body_read_under_skip_does_not_span_a_gap():
    put = b"PUT /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"a" * 100
    bodies = []

    async def reading(flow):
        async for request in http.requests(flow.client, on_gap="skip"):
            bodies.append(await request.read())

    app = aiomos.App()
    app.tcp(start="data")(reading)
    play(app, with_hole(put, 600, b"b" * 300 + GET % 2))
    assert bodies == [b"a" * 100, b"", b""]


def test_flow_picked_up_inside_a_body_begins_at_the_next_message():
    def script(t):
        t.c(b"...rest of an upload" + GET % 1)
        t.s(OK % 1)
        t.c(GET % 2)

    found = collected(lambda flow: http.requests(flow.client), script)
    assert [(r.target, r.skipped) for r in found] == [("/1", 20), ("/2", 0)]


def test_reset_raises_what_reading_raises():
    def script(t):
        t.handshake()
        t.c(GET % 1)
        t.s(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        t.s(flags=RST)

    one, error = collected(lambda flow: http.responses(flow.server), script)
    assert (one.body_size, one.complete) == (3, False)
    assert isinstance(error, aiomos.FlowReset)
    pair, error = collected(http.transactions, script)
    assert (pair.response.body, pair.response.complete) == (b"abc", False)
    assert isinstance(error, aiomos.FlowReset)


def test_reader_that_was_given_up_waiting_loses_nothing():
    got = []

    async def impatient(flow):
        reader = http.transactions(flow)
        while True:
            try:
                async with asyncio.timeout(0.003):
                    got.append(await anext(reader))
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return

    def script(t):
        t.handshake()
        for byte in b"PUT /1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello":
            t.c(bytes([byte]))
            t.rest(0.01)
        for (
            byte
        ) in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n":
            t.s(bytes([byte]))
            t.rest(0.01)
        t.close()

    assert play(impatient, script).handler_errors == 0
    assert told(got) == [("/1", (200, b"abc"))]
    assert got[0].request.body == b"hello"
    assert got[0].response.trailers["A"] == "b"
