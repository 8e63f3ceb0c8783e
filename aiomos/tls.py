"""TLS hellos on the streams of a flow: names, versions, fingerprints.

>>> import aiomos
>>> app = aiomos.App()
>>> @app.tcp("port 443")
... async def log(flow: aiomos.Flow) -> None:
...     hello = await aiomos.tls.client_hello(flow.client)
...     print(hello.server_name, hello.ja4)

Both functions look at what comes next on a side and consume nothing. A hello may be spread over
any number of segments and records. Needs no other package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn, TypeVar

from aiomos import _tlshello as wire
from aiomos._endpoint import Endpoint
from aiomos._engine.errors import ProtocolError
from aiomos._streaming import the_end
from aiomos._tlshello import ClientHello, ServerHello

__all__ = ["Alert", "ClientHello", "ServerHello", "client_hello", "server_hello"]

#: Longest hello, in bytes.
HELLO_LIMIT = 65536

_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE = 20, 21, 22
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
#: Longest record: 2**14 bytes; some implementations of old added up to 2048 (RFC 5246 6.2.3).
_RECORD_LIMIT = (1 << 14) + 2048
_RECORD_HEADER = 5

_H = TypeVar("_H", ClientHello, ServerHello)


class Alert(ProtocolError):
    """An alert came where a hello was to be read: a TLS end that refuses.

    ``level`` is 1 (warning) or 2 (fatal), ``description`` its number (RFC 8446 section 6), 40 for
    handshake_failure.
    """

    def __init__(self, offset: int, level: int, description: int) -> None:
        super().__init__("tls", offset, f"alert {description} instead of a hello")
        self.level = level
        self.description = description

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.offset, self.level, self.description)


async def client_hello(
    end: Endpoint, *, retried: bool = False, limit: int = HELLO_LIMIT
) -> ClientHello:
    """The ClientHello that comes next on a side; nothing is consumed.

    Args:
        end: ``flow.client``.
        retried: the second one, which a client sends when the server asks for it
            (:attr:`ServerHello.is_retry_request`).
        limit: longest hello, in bytes of the stream.

    Raises:
        ProtocolError: what comes is no ClientHello, or too long; as soon as that is certain.
        Alert: an alert came instead.
        asyncio.IncompleteReadError: the end, or a gap, came first.
    """
    return await _hello(end, _CLIENT_HELLO, wire.client_hello, retried, limit)


async def server_hello(
    end: Endpoint, *, retried: bool = False, limit: int = HELLO_LIMIT
) -> ServerHello:
    """The ServerHello that comes next on a side; nothing is consumed.

    It may be a request for another ClientHello: see ``is_retry_request``. With ``retried`` the
    one behind that request is given.

    Raises:
        ProtocolError: what comes is no ServerHello, or too long; as soon as that is certain.
        Alert: an alert came instead: the server refuses.
        asyncio.IncompleteReadError: the end, or a gap, came first.
    """
    return await _hello(end, _SERVER_HELLO, wire.server_hello, retried, limit)


async def _hello(
    end: Endpoint, kind: int, parse: Callable[[bytes, int], _H], retried: bool, limit: int
) -> _H:
    records = _Records(end, limit)
    if retried:
        await records.message(kind)
    offset, body = await records.message(kind)
    try:
        return parse(body, offset)
    except wire.Malformed as error:
        raise ProtocolError("tls", offset, str(error)) from None


class _Records:
    """Handshake messages from records, looked at and not consumed.

    Waits for no byte more than a message has: behind a ServerHello, in the same record, stands a
    certificate, which may be cut off.
    """

    def __init__(self, end: Endpoint, limit: int) -> None:
        self.end = end
        self.limit = limit
        #: Next byte to look at, and how many follow in its record.
        self.at = end.offset
        self.left = 0
        #: Where the message at work begins.
        self.start = self.at

    async def message(self, kind: int) -> tuple[int, bytes]:
        """The next handshake message: where its first record begins, and its content."""
        self.start = self.at
        found = (await self._take(1))[0]
        if found != kind:
            self._wrong(f"handshake message of type {found} where {kind} is expected")
        length = int.from_bytes(await self._take(3), "big")
        if length > self.limit:
            self._wrong(f"a hello of {length} bytes, over the limit of {self.limit}")
        return self.start, await self._take(length)

    async def _take(self, n: int) -> bytes:
        """The next n bytes of handshake messages, from as many records as they are spread over."""
        parts = []
        while n:
            if not self.left:
                await self._next_record()
                continue
            data = await self._look(min(n, self.left))
            self.at += len(data)
            self.left -= len(data)
            n -= len(data)
            parts.append(data)
        return b"".join(parts)

    async def _next_record(self) -> None:
        """Goes to the content of the next handshake record."""
        if self.at - self.start > self.limit:
            self._wrong(f"no whole hello in {self.limit} bytes")
        first = (await self._look(1))[0]
        if first not in (_HANDSHAKE, _CHANGE_CIPHER_SPEC, _ALERT):
            old = ", an SSLv2 hello perhaps" if first & 0x80 else ""
            self._wrong(f"no TLS handshake: its first byte is 0x{first:02x}{old}")
        if (await self._look(2))[1] != 3:
            self._wrong("no TLS handshake: its second byte is no version")
        length = int.from_bytes((await self._look(_RECORD_HEADER))[3:], "big")
        if not 0 < length <= _RECORD_LIMIT:
            self._wrong(f"a record of {length} bytes")
        if first == _ALERT:
            raise Alert(self.at, *(await self._look(_RECORD_HEADER + 2))[_RECORD_HEADER:])
        self.at += _RECORD_HEADER
        if first == _HANDSHAKE:
            self.left = length
        else:  # ChangeCipherSpec, for middleboxes (RFC 8446 appendix D.4)
            self.at += length

    async def _look(self, n: int) -> bytes:
        """The next n bytes, not consumed."""
        data = await self.end.peek(n, self.at)
        if len(data) < n:
            if not data and self.at == self.end.offset and self.end.at_eof():
                await the_end(self.end)
            raise asyncio.IncompleteReadError(data, n)
        return data

    def _wrong(self, reason: str) -> NoReturn:
        raise ProtocolError("tls", self.start, reason)
