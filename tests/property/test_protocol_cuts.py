"""Protocol readers do not depend on how a stream was cut into segments, and never fail on bytes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1]))
from craft import CLIENT, SERVER
from kit import play

import aiomos
from aiomos import dns, http, ssh, tls

CLIENT_SAYS = (
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    b"HEAD /3 HTTP/1.1\n\n"
    b"PUT /4 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nT: 1\r\n\r\n"
    b"GET /5 HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    b"GET /6 HTTP/1.0\r\n\r\n"
)
SERVER_SAYS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"
    b"HTTP/1.0 404 Not Found\r\n\r\nup to the end"
)

cuts = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def script_of(client: bytes, server: bytes, sizes: list[int]):
    """Both sides in pieces of these sizes, over and over; close at the end."""

    def script(t):
        t.handshake()
        for side, data in ((CLIENT, client), (SERVER, server)):
            at = step = 0
            while at < len(data):
                size = sizes[step % len(sizes)]
                t.say(side, 0x10, data[at : at + size])
                t.say(1 - side, 0x10)
                at, step = at + size, step + 1
        t.close()

    return script


def pairs(script):
    found = []

    async def handler(flow):
        async for pair in http.transactions(flow):
            ask, answer = pair.request, pair.response
            found.append(
                (ask.method, ask.target, ask.offset, ask.body, answer.status, answer.offset)
                + (answer.body, answer.complete, len(pair.interim), dict(ask.trailers.items()))
            )

    assert play(handler, script).handler_errors == 0
    return found


WHOLE = pairs(script_of(CLIENT_SAYS, SERVER_SAYS, [1000]))


def test_uncut_stream_gives_what_was_put_into_it():
    assert [(p[1], p[3], p[4], p[6]) for p in WHOLE] == [
        ("/1", b"", 200, b"ok"),
        ("/2", b"hello", 201, b""),
        ("/3", b"", 200, b""),
        ("/4", b"abcdefg", 204, b""),
        ("/5", b"", 200, b"0123456789"),
        ("/6", b"", 404, b"up to the end"),
    ]
    assert WHOLE[3][-1] == {"T": "1"}


@settings(max_examples=40, deadline=None)
@given(cuts)
def test_http_cut_anyhow_gives_the_same_transactions(sizes):
    assert pairs(script_of(CLIENT_SAYS, SERVER_SAYS, sizes)) == WHOLE


async def everything(flow, errors):
    """All readers, one after the other, as far as each comes."""
    ends = (flow.client, flow.server)
    looks = [tls.client_hello, tls.server_hello, ssh.banner, ssh.kex_init]
    for look in looks:
        for end in ends:
            try:
                await look(end)
            except (aiomos.ProtocolError, asyncio.IncompleteReadError) as error:
                errors.append(error)
    reader = http.transactions(flow)
    while True:
        try:
            await anext(reader)
        except StopAsyncIteration:
            return
        except aiomos.ProtocolError as error:
            errors.append(error)


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """Bytes with some of them changed, left out or doubled."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(out) - 1))
        length = draw(st.integers(0, 30))
        out[at : at + length] = draw(st.binary(max_size=30))
        if not out:
            return b"x"
    return bytes(out)


@settings(max_examples=60, deadline=None)
@given(damaged(CLIENT_SAYS), damaged(SERVER_SAYS), cuts)
def test_damaged_streams_end_in_errors_of_the_protocol_and_nothing_else(client, server, sizes):
    ended = []

    async def handler(flow):
        await everything(flow, [])
        ended.append(flow.id)

    assert play(handler, script_of(client, server, sizes)).handler_errors == 0
    assert len(ended) == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_dns_parser_gives_a_message_or_an_error_of_the_protocol(data, with_header):
    if with_header:
        data = b"\0\1\1\0\0\1\0\1\0\1\0\1" + data
    with contextlib.suppress(aiomos.ProtocolError):
        assert dns.parse(data).to_text()
