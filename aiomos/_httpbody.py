"""The body of an HTTP/1 message: how long it is (RFC 9112 section 6.3), and its bytes as they come.

The length is followed here and not by httptools, which cannot jump: a gap that lies inside a
body, or inside a chunk, is passed by its length, and the next message begins where it should.
"""

from __future__ import annotations

import re

from aiomos._endpoint import Endpoint
from aiomos._engine.errors import GapError, ProtocolError
from aiomos._httphead import Headers, tokens
from aiomos._streaming import drop, fresh, pass_gap, the_end

#: Longest chunk-size line and longest trailer line, in bytes.
LINE_LIMIT = 8192
#: Most bytes of trailers.
TRAILER_LIMIT = 65536
#: Bytes that are taken at once.
PIECE = 65536

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n\Z")
_UNTIL_END = -1


class Body:
    """Bytes of one body. ``left``: to come of it, or of the chunk; _UNTIL_END: until the end."""

    __slots__ = (
        *("chunked", "done", "end", "left", "lost", "missing", "offset"),
        *("may_be_absent", "room", "size", "step", "trailers"),
    )

    def __init__(self, end: Endpoint, left: int = 0, *, chunked: bool = False) -> None:
        self.end = end
        self.left = left
        self.chunked = chunked
        #: Nothing more comes of it.
        self.done = left == 0 and not chunked
        #: Cut off: by the end, or by a gap behind which nobody knows what follows.
        self.lost = False
        self.missing = 0
        self.size = 0
        self.offset = end.offset
        self.trailers = Headers()
        #: What the next line of a chunked body is: "size", "line end" (of a chunk) or "trailers".
        self.step = "size"
        self.room = TRAILER_LIMIT
        #: Of a response to we know not what: HEAD is answered with lengths, but no body.
        self.may_be_absent = False

    async def piece(self, *, skip: bool) -> bytes:
        """Bytes as they come; b"" behind the last.

        Raises:
            GapError: here is a gap, now passed; not with ``skip``.
            ProtocolError: the chunks are not well formed.
        """
        if self.may_be_absent:
            await self._look_for_another_head()
        while not self.done:
            if self.chunked and self.left == 0:
                await self._next_chunk(skip)
                continue
            if not await self.end.peek(1):
                await self._nothing_there(skip)
                continue
            data = await self.end.read(PIECE if self.left < 0 else min(PIECE, self.left))
            self.size += len(data)
            if self.left > 0:
                self._advance(len(data))
            return data
        return b""

    async def _look_for_another_head(self) -> None:
        """Where a body should be, the next response begins: this one answered HEAD."""
        begin = b"HTTP/1."
        if not self.chunked:
            begin = begin[: max(self.left, 0)]
        if not self.done and begin and await self.end.peek(1) == begin[:1]:
            self.done = await self.end.peek(len(begin)) == begin
        self.may_be_absent = False

    def _advance(self, n: int) -> None:
        self.left -= n
        self.done = self.left == 0 and not self.chunked

    async def _nothing_there(self, skip: bool) -> None:
        if self.end.at_eof():
            self._finish(lost=self.left != _UNTIL_END or not self.end.complete)
            return await the_end(self.end)
        gap = await pass_gap(self.end)
        if self.left < 0 or gap.length <= self.left:
            self.missing += gap.length
            if self.left > 0:
                self._advance(gap.length)
        else:
            self.missing += self.left
            self._finish(lost=True)
        if not skip:
            raise GapError(gap.offset, gap.length, gap.cause)

    def _finish(self, *, lost: bool) -> None:
        self.done = True
        self.lost = self.lost or lost

    # -- chunks (RFC 9112 section 7.1); each step may be cancelled and begun again --

    async def _next_chunk(self, skip: bool) -> None:
        """Reads up to the data of the next chunk, or one line of the trailers."""
        start = self.end.offset
        line = await self._line(skip)
        if self.done:
            return
        # What is wrong stays unread: it may be the next message's beginning.
        if self.step == "trailers":
            self._add_trailer(line)
        elif self.step == "line end":
            self._expect(line in (b"\r\n", b"\n"), start, "a chunk is longer than its size says")
            self.step = "size"
        else:
            found = _CHUNK_SIZE.match(line)
            self._expect(found is not None, start, "no size of a chunk where one should be")
            assert found is not None
            self.left = int(found[1], 16)
            self.step = "line end" if self.left else "trailers"
        await drop(self.end, len(line))

    def _add_trailer(self, line: bytes) -> None:
        text = line.rstrip(b"\r\n").decode("latin-1")
        if not text:
            self.done = True
            return
        self.room -= len(line)
        self._expect(self.room >= 0, self.offset, f"over {TRAILER_LIMIT} bytes of trailers")
        name, _, value = text.partition(":")
        self.trailers = Headers([*self.trailers.items(), (name, value.strip())])

    def _expect(self, right: bool, offset: int, reason: str) -> None:
        if not right:
            self._finish(lost=True)
            raise ProtocolError("http", offset, reason)

    async def _line(self, skip: bool) -> bytes:
        """A line with its end, not consumed; b"": the end or a gap came first, the body is lost."""
        at = self.end.offset
        while data := await fresh(self.end, at):
            newline = data.find(b"\n") + 1
            at += newline or len(data)
            length = at - self.end.offset
            self._expect(length <= LINE_LIMIT, self.offset, f"a line of over {LINE_LIMIT} bytes")
            if newline:
                return await self.end.peek(length)
        await drop(self.end, at - self.end.offset)
        self._finish(lost=True)
        if self.end.at_eof():
            await the_end(self.end)
        else:
            gap = await pass_gap(self.end)
            self.missing += gap.length
            if not skip:
                raise GapError(gap.offset, gap.length, gap.cause)
        return b""


def body_of_request(end: Endpoint, headers: Headers) -> Body:
    """What follows the head of a request."""
    if is_chunked(headers):
        return Body(end, chunked=True)
    return Body(end, content_length(headers) or 0)


def body_of_response(end: Endpoint, status: int, headers: Headers, method: str | None) -> Body:
    """What follows the head of a response; without a body where the request forbids one."""
    tunnel = method == "CONNECT" and 200 <= status < 300
    if status < 200 or status in (204, 304) or method == "HEAD" or tunnel:
        return Body(end)
    if "transfer-encoding" in headers:
        return Body(end, chunked=True) if is_chunked(headers) else Body(end, _UNTIL_END)
    length = content_length(headers)
    return Body(end, _UNTIL_END if length is None else length)


def is_chunked(headers: Headers) -> bool:
    """Whether chunked is the last transfer coding."""
    codings = tokens(", ".join(headers.get_all("transfer-encoding")))
    return bool(codings) and codings[-1] == "chunked"


def content_length(headers: Headers) -> int | None:
    """Content-Length, which httptools has checked; None: there is none."""
    value = headers.get("content-length")
    return int(value) if value.isdecimal() else None
