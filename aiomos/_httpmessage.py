"""HTTP/1 messages, and the reader that gives those of one end as they come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Generic, Literal, Self, TypeAlias, TypeVar

import httptools

from aiomos._endpoint import Endpoint
from aiomos._engine.errors import FlowError, GapError, ProtocolError
from aiomos._httpbody import Body, body_of_request, body_of_response
from aiomos._httphead import (
    EMPTY_LINE,
    REQUEST_LINE,
    STATUS_LINE,
    Headers,
    HeadParser,
    mended_request,
    mended_response,
)
from aiomos._streaming import GapMode, drop, fresh, pass_gap, the_end
from aiomos.events import Gap

OnLimit: TypeAlias = Literal["truncate", "raise"]

#: Longest start of a message that is kept while looking for one.
_LINE_KEPT = 8192


class Message:
    """What requests and responses have in common.

    Iterate over it, or :meth:`read` it, before asking for the next message; what is left unread
    of its body then is passed over.

    Attributes:
        headers: header fields.
        version: ``"1.1"`` or ``"1.0"``.
        offset: 64-bit stream offset of its first byte.
        time: capture time of its first byte, seconds since the epoch.
        skipped: bytes between the message before it and this one that were never seen or not
            understood.
        body: what :meth:`read` kept, transfer coding taken off, content coding not.
    """

    __slots__ = (
        *("_body", "_pieces", "_skips", "_yields", "body", "end_time", "headers", "offset"),
        *("skipped", "time", "version"),
    )

    def __init__(self, head: HeadParser, offset: int, time: float, skipped: int) -> None:
        self.headers = Headers(head.fields)
        self.version = head.parser.get_http_version()
        self.offset = offset
        self.time = time
        self.skipped = skipped
        self.body = b""
        #: Capture time of the last byte read of it so far.
        self.end_time = time
        self._pieces: list[bytes] | None = []
        self._skips = self._yields = False

    def _begin(self, body: Body, mode: GapMode) -> None:
        self._body = body
        self.end_time = body.end.time
        self._skips = mode == "skip"
        self._yields = mode == "yield"

    @property
    def body_size(self) -> int:
        """Bytes of the body read or passed over so far, transfer coding taken off."""
        return self._body.size

    @property
    def missing(self) -> int:
        """Bytes in gaps inside this message."""
        return self._body.missing

    @property
    def complete(self) -> bool:
        """Whether its body was read or passed over to its end, and nothing was missing."""
        return self._body.done and not self._body.lost and not self._body.missing

    @property
    def trailers(self) -> Headers:
        """Trailer fields, behind the last chunk."""
        return self._body.trailers

    async def read(self, limit: int = 1 << 20, on_limit: OnLimit = "truncate") -> bytes:
        """Read the body to its end, and keep it as :attr:`body`: at most ``limit`` bytes.

        No result spans a gap: with ``on_gap="skip"`` what lies behind one is counted, not kept.

        Args:
            limit: bytes to keep.
            on_limit: of a body that is longer, keep the beginning and pass over the rest
                (``"truncate"``), or raise.

        Raises:
            asyncio.LimitOverrunError: the body is longer than ``limit`` and ``on_limit`` is
                ``"raise"``; ``body`` has its beginning. Reading again passes over the rest.
            GapError: bytes are missing here; ``body`` has those before. Reading again passes
                over what is behind the gap.
            ProtocolError: its chunks are not well formed.
        """
        while data := await self._piece(self._skips):
            if self._pieces is None or self._body.missing:
                continue
            room = limit - sum(map(len, self._pieces))
            self._pieces.append(data[:room])
            if len(data) > room:
                self._keep()
                if on_limit == "raise":
                    raise asyncio.LimitOverrunError(f"body is over {limit} bytes", limit)
        self._keep()
        return self.body

    def _keep(self) -> None:
        """What was read becomes ``body``; from here on nothing more is added."""
        if self._pieces is not None:
            self.body = b"".join(self._pieces)
            self._pieces = None

    async def _piece(self, skip: bool) -> bytes:
        try:
            data = await self._body.piece(skip=skip)
        except (FlowError, ProtocolError):
            self._keep()
            raise
        if data or self._body.size or self._body.chunked:
            self.end_time = max(self.end_time, self._body.end.time)
        return data

    def __aiter__(self) -> AsyncIterator[bytes | Gap]:
        """The body's bytes as they come; gaps as ``on_gap`` says."""
        return self

    async def __anext__(self) -> bytes | Gap:
        try:
            data = await self._piece(self._skips)
        except GapError as error:
            if not self._yields:
                raise
            return Gap(error.offset, error.length, error.cause)
        if not data:
            raise StopAsyncIteration
        return data


class Request(Message):
    """One request.

    Attributes:
        method: ``"GET"``, for example.
        target: as sent: a path with its query, a URL, ``host:port`` or ``*``.
        upgrade: whether it asks for another protocol on this connection: CONNECT, or Upgrade.
    """

    __slots__ = ("method", "target", "upgrade")

    def __init__(self, head: HeadParser, offset: int, time: float, skipped: int) -> None:
        super().__init__(head, offset, time, skipped)
        assert isinstance(head.parser, httptools.HttpRequestParser)
        self.method = head.parser.get_method().decode("latin-1")
        self.target = head.target.decode("latin-1")
        self.upgrade = self.method == "CONNECT" or head.parser.should_upgrade()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} offset={self.offset}>"


class Response(Message):
    """One response.

    Attributes:
        status: 200, for example.
        reason: reason phrase.
    """

    __slots__ = ("reason", "status")

    def __init__(self, head: HeadParser, offset: int, time: float, skipped: int) -> None:
        super().__init__(head, offset, time, skipped)
        assert isinstance(head.parser, httptools.HttpResponseParser)
        self.status = head.parser.get_status_code()
        self.reason = head.reason.decode("latin-1")

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} offset={self.offset}>"


M = TypeVar("M", Request, Response)


def _feed(head: HeadParser, data: bytes, by_line: bool) -> tuple[int, str]:
    """Gives a parser more of a head: how many bytes were all right, and what is wrong, or "".

    By line while looking for a start, so that it goes on behind the good lines: with each of
    them tried again, a stream made for it would take quadratic time.
    """
    if not by_line:
        wrong = head.feed(data)
        return (0 if wrong else len(data)), wrong
    good = 0
    while good < len(data):
        line = data[good : data.find(b"\n", good) + 1 or len(data)]
        if wrong := head.feed(line):
            return good, wrong
        good += len(line)
    return good, ""


class Messages(Generic[M]):
    """Messages of one end, each given when its head is whole.

    Behind a gap, or behind an error, it goes on at the next beginning of a message; that
    message's ``skipped`` says how much was passed over.

    Attributes:
        skipped: bytes never seen or not understood so far, between messages.
        upgraded: whether it ended because another protocol begins; the endpoint then stands at
            that protocol's first byte.
    """

    _start_line: re.Pattern[bytes]
    _kind: type[M]
    _parser: type[httptools.HttpRequestParser | httptools.HttpResponseParser]
    _mend: Callable[[bytes], bytes]

    def __init__(self, end: Endpoint, mode: GapMode, head_limit: int) -> None:
        self._end = end
        self._mode = mode
        self._head_limit = head_limit
        self._message: M | None = None
        self._followed = end.offset
        # Picked up in its middle: nobody knows whether a message begins here.
        self._lost = not end.syn_seen
        self.skipped = 0
        self.upgraded = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M | Gap:
        try:
            message = await self._next_head()
        except GapError as error:
            if self._mode != "yield":
                raise
            return Gap(error.offset, error.length, error.cause)
        if message is None:
            raise StopAsyncIteration
        self._begin_body(message)
        return message

    def _begin_body(self, message: M) -> None:
        raise NotImplementedError

    async def _leaves_http(self, message: M) -> bool:
        """Whether another protocol begins behind this message."""
        raise NotImplementedError

    async def _next_head(self) -> M | None:
        """The next message, its body not begun; None at the end.

        Raises:
            GapError: a gap in the rest of the message before, or between messages.
        """
        await self._pass_message()
        while not self.upgraded:
            quiet = self._lost
            if self._lost and not await self._find_start():
                break
            self._lost = False
            message = await self._head(quiet)
            if message is not None:
                self._message = message
                return message
            if not self._lost:
                break
        self._count_skipped()
        return None

    async def _pass_message(self) -> None:
        """Passes over what was not read of the body of the message given last."""
        message = self._message
        if message is None:
            return
        body = message._body
        try:
            while await message._piece(self._mode == "skip"):
                pass
        finally:
            if body.done:
                self._followed = self._end.offset
                self._lost = body.lost
                self._message = None
        self.upgraded = not self._lost and await self._leaves_http(message)

    def _count_skipped(self) -> int:
        skipped = self._end.offset - self._followed
        self._followed = self._end.offset
        self.skipped += skipped
        return skipped

    async def _head(self, quiet: bool) -> M | None:
        """Reads a head. None: the end, or (``_lost``) a message's start is to be looked for.

        Nothing is consumed before the head is whole, so that a reader may give up waiting.
        """
        end = self._end
        await self._skip_empty_lines()
        start = at = end.offset
        head = HeadParser(self._parser)
        tail = b""
        while data := await fresh(end, at):
            found = EMPTY_LINE.search(tail + data)
            length = found.end() - len(tail) if found else len(data)
            good, wrong = _feed(head, data[:length], quiet)
            at += good
            if not wrong and at - start > self._head_limit:
                wrong = f"a head of over {self._head_limit} bytes"
            elif not wrong and found and not (head.complete and await self._says_http(at - start)):
                wrong = "not HTTP/1"
            if wrong and (mended := await self._mended_head()):
                return await self._whole_head(*mended)
            if wrong:
                await self._no_head(wrong, at - start, quiet)
                return None
            if found:
                return await self._whole_head(head, at - start)
            tail = (tail + data)[-3:]
        await self._broken_head(at - start)
        return None

    async def _mended_head(self) -> tuple[HeadParser, int] | None:
        """A head that llhttp refuses for what others take; None if that is not the reason."""
        at = self._end.offset
        raw = b""
        while (data := await fresh(self._end, at)) and len(raw) <= self._head_limit:
            raw += data
            at += len(data)
            mended = self._mend(raw)
            if mended == raw or not self._start_line.match(mended):
                return None
            if found := EMPTY_LINE.search(raw):
                head = HeadParser(self._parser)
                wrong = head.feed(self._mend(raw[: found.end()]))
                return (head, found.end()) if head.complete and not wrong else None
        return None

    async def _says_http(self, length: int) -> bool:
        """llhttp takes RTSP and HTTP/0.9 as well, which have other rules."""
        return b"HTTP/1." in (await self._end.peek(length)).partition(b"\n")[0]

    async def _skip_empty_lines(self) -> None:
        """RFC 9112 section 2.2: a line end before a request line is ignored."""
        while data := await fresh(self._end, self._end.offset):
            empty = len(data) - len(data.lstrip(b"\r\n"))
            await drop(self._end, empty)
            self._followed += empty
            if empty < len(data):
                return

    async def _whole_head(self, head: HeadParser, length: int) -> M:
        offset, skipped = self._end.offset, self._count_skipped()
        await drop(self._end, 1)
        time = self._end.time
        await drop(self._end, length - 1)
        return self._kind(head, offset, time, skipped)

    async def _no_head(self, reason: str, understood: int, quiet: bool) -> None:
        """Bytes that begin no message: look for one behind what looked like a head's lines."""
        offset = self._end.offset
        await drop(self._end, max(understood, 1))
        self._lost = True
        if not quiet:
            raise ProtocolError("http", offset, reason)

    async def _broken_head(self, length: int) -> None:
        """A gap or the end came before the head was whole."""
        await drop(self._end, length)
        if self._end.at_eof():
            return await the_end(self._end)
        await self._at_gap()

    async def _at_gap(self) -> None:
        gap = await pass_gap(self._end)
        self._lost = True
        if self._mode != "skip":
            raise GapError(gap.offset, gap.length, gap.cause)

    async def _find_start(self) -> bool:
        """Drops everything before the next start line; False: there is none up to the end."""
        end = self._end
        while True:
            window = await fresh(end, end.offset)
            found = self._start_line.search(window)
            if found:
                await drop(end, found.start())
                return True
            # The start line may be cut here: its beginning stays.
            cut = max(window.rfind(b"\n") + 1, len(window) - _LINE_KEPT)
            await drop(end, cut)
            if await fresh(end, end.offset + len(window) - cut):
                continue
            await drop(end, len(window) - cut)
            if end.at_eof():
                await the_end(end)
                return False
            await self._at_gap()


class Requests(Messages[Request]):
    """Requests of a client; see :func:`aiomos.http.requests`."""

    _start_line = REQUEST_LINE
    _kind = Request
    _parser = httptools.HttpRequestParser
    _mend = staticmethod(mended_request)

    def _begin_body(self, message: Request) -> None:
        message._begin(body_of_request(self._end, message.headers), self._mode)

    async def _leaves_http(self, message: Request) -> bool:
        """The answer decides, and is not seen here; so what the client sends next does."""
        if not message.upgrade:
            return False
        first = await self._end.peek(8)
        return not _LIKE_A_METHOD.match(first) or first.startswith(b"PRI * ")


_LIKE_A_METHOD = re.compile(rb"[A-Z-]+(?: |\Z)")


class Responses(Messages[Response]):
    """Responses of a server; see :func:`aiomos.http.responses`."""

    _start_line = STATUS_LINE
    _kind = Response
    _parser = httptools.HttpResponseParser
    _mend = staticmethod(mended_response)

    def _begin_body(self, message: Response) -> None:
        self._begin_answer(message, None)

    def _begin_answer(self, message: Response, method: str | None) -> None:
        """``method``: of the request that it answers; None: unknown."""
        body = body_of_response(self._end, message.status, message.headers, method)
        body.may_be_absent = method is None
        message._begin(body, self._mode)

    async def _leaves_http(self, message: Response) -> bool:
        return message.status == 101
