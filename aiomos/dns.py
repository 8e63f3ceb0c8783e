"""DNS messages of a flow, over UDP or TCP, and which answers which.

Parsed by dnspython: ``pip install 'aiomos[dns]'``.

>>> import aiomos
>>> app = aiomos.App()
>>> @app.udp("port 53")
... async def log(flow: aiomos.Flow) -> None:
...     async for exchange in aiomos.dns.exchanges(flow):
...         print(exchange.name, exchange.rdtype, exchange.seconds)

What cannot be parsed is given as :class:`Malformed`, among the messages: anybody can send that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

import attrs

from aiomos._endpoint import Endpoint
from aiomos._engine.errors import GapError, ProtocolError
from aiomos._flow import Flow
from aiomos._optional import missing
from aiomos._streaming import drop, either, gap_mode, pass_gap, the_end

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rdata
    import dns.rdatatype
except ModuleNotFoundError as error:
    raise missing("dns", error) from None

# Else the first record of each type would be the one whose parser is read from disk, in a handler.
dns.rdata.load_all_types(disable_dynamic_load=False)  # type: ignore[no-untyped-call]  # dnspython's

__all__ = ["Exchange", "Malformed", "Message", "exchanges", "messages", "parse"]

#: Queries of one flow that wait for an answer, at most; the oldest is given up.
WAITING_LIMIT = 1024

_TRANSFERS = ("AXFR", "IXFR")


@attrs.frozen
class Message:
    """One DNS message.

    Attributes:
        message: as dnspython has it: ``question``, ``answer``, ``rcode()``, ``to_text()``.
        time: capture time of its (last) packet, seconds since the epoch.
        sender: ``"client"`` or ``"server"``.
        size: bytes.
        offset: over TCP, the 64-bit stream offset of its length field; over UDP 0.
        has_junk: bytes stand behind its last record.
    """

    message: dns.message.Message
    time: float
    sender: str
    size: int
    offset: int = 0
    has_junk: bool = False

    @property
    def is_response(self) -> bool:
        """Whether it says that it is a response (QR)."""
        return bool(self.message.flags & dns.flags.QR)

    @property
    def name(self) -> str:
        """The name that it asks for, in lower case; "" without a question."""
        question = self.message.question
        return question[0].name.to_text(omit_final_dot=True).lower() if question else ""

    @property
    def rdtype(self) -> str:
        """The type that it asks for, ``"AAAA"`` for example; "" without a question."""
        question = self.message.question
        return dns.rdatatype.to_text(question[0].rdtype) if question else ""


@attrs.frozen
class Malformed:
    """What cannot be parsed as a DNS message, or was lost in part.

    Attributes:
        error: what is wrong with it, and over TCP where.
        data: its bytes, as far as there are any.
        time: capture time of its (last) packet, seconds since the epoch.
        sender: ``"client"`` or ``"server"``.
    """

    error: ProtocolError
    data: bytes
    time: float
    sender: str


Item: TypeAlias = Message | Malformed


@attrs.frozen
class Exchange:
    """A query and the response to it.

    Attributes:
        query: None: it was not seen.
        response: None: none came. A zone transfer gives an exchange for each of its responses.
    """

    query: Message | None
    response: Message | None

    @property
    def name(self) -> str:
        """The name that was asked for, in lower case."""
        return self._either.name

    @property
    def rdtype(self) -> str:
        """The type that was asked for, ``"AAAA"`` for example."""
        return self._either.rdtype

    @property
    def seconds(self) -> float | None:
        """From query to response; None if one of them is missing."""
        if self.query is None or self.response is None:
            return None
        return self.response.time - self.query.time

    @property
    def _either(self) -> Message:
        found = self.query or self.response
        assert found is not None
        return found


def parse(data: bytes, offset: int = 0, *, allow_junk: bool = False) -> dns.message.Message:
    """A DNS message from its bytes; signatures are not checked.

    Raises:
        ProtocolError: it is none; or, unless allowed, bytes stand behind its last record.
    """
    try:
        return dns.message.from_wire(data, keyring=False, ignore_trailing=allow_junk)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise ProtocolError("dns", offset, reason.partition("\n")[0]) from error


def _item(data: bytes, time: float, sender: str, offset: int = 0) -> Item:
    """A message, as strictly as it can be parsed."""
    try:
        try:
            return Message(parse(data, offset), time, sender, len(data), offset)
        except ProtocolError as error:
            if not isinstance(error.__cause__, dns.message.TrailingJunk):
                raise
            message = parse(data, offset, allow_junk=True)
            return Message(message, time, sender, len(data), offset, has_junk=True)
    except ProtocolError as error:
        return Malformed(error, data, time, sender)


def messages(flow: Flow) -> AsyncIterator[Item]:
    """DNS messages of a flow, both directions, in order of their times.

    Over TCP each message stands behind its length (RFC 1035 section 4.2.2). A gap inside a
    message costs that message; behind any other gap nobody knows where the next one begins, and
    nothing more of that side is read. Gaps raise as the endpoint's ``on_gap`` says;
    ``"yield"`` and ``"skip"`` give :class:`Malformed`.

    Raises:
        GapError: a gap, over TCP and with ``on_gap="raise"``; iterating ends there.
    """
    return _datagrams(flow) if flow.protocol == "udp" else _stream_messages(flow)


async def exchanges(flow: Flow) -> AsyncGenerator[Exchange | Malformed, None]:
    """Queries of a flow with the responses to them, each when the response has come.

    A response answers the query with its id, name and type; a query that is sent again counts
    once. Queries without an answer are given at the end, or when too many wait. Raises as
    :func:`messages` does.
    """
    queries = _Queries()
    async for item in messages(flow):
        if isinstance(item, Malformed):
            yield item
        elif item.is_response:
            yield Exchange(queries.answered_by(item), item)
        elif (given_up := queries.add(item)) is not None:
            yield Exchange(given_up, None)
    for query in queries.unanswered():
        yield Exchange(query, None)


class _Queries:
    """Queries of a flow that wait for their response, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[object, ...], Message] = {}
        #: Transfers that were answered: more responses may follow (RFC 5936 section 2.2).
        self._transfers: dict[tuple[object, ...], Message] = {}

    def add(self, query: Message) -> Message | None:
        """Remembers a query; one that is given up for it."""
        self._waiting.setdefault(_key(query, query.sender), query)
        if len(self._waiting) <= WAITING_LIMIT:
            return None
        return self._waiting.pop(next(iter(self._waiting)))

    def answered_by(self, response: Message) -> Message | None:
        """The query that a response answers; None: it was not seen."""
        asker = "server" if response.sender == "client" else "client"
        key = _key(response, asker)
        if not response.message.question:  # an error may leave it out
            key = next((k for k in self._waiting if k[:2] == key[:2]), key)
        query = self._waiting.pop(key, None)
        if query is None:
            return self._transfers.get(key)
        if query.rdtype in _TRANSFERS and len(self._transfers) < WAITING_LIMIT:
            self._transfers[key] = query
        return query

    def unanswered(self) -> list[Message]:
        """What still waits."""
        return list(self._waiting.values())


def _key(message: Message, asker: str) -> tuple[object, ...]:
    return asker, message.message.id, message.name, message.rdtype


async def _datagrams(flow: Flow) -> AsyncIterator[Item]:
    async for datagram in flow:
        yield _item(datagram.data, datagram.time, datagram.sender)


async def _stream_messages(flow: Flow) -> AsyncIterator[Item]:
    sides = [_Side(flow.client, "client"), _Side(flow.server, "server")]
    while True:
        for side in sides:
            await side.look()
        if found := [side for side in sides if side.item is not None]:
            item = min(found, key=lambda side: side.item.time if side.item else 0.0).give()
            yield item
            continue
        open_sides = [side for side in sides if not side.over]
        if not open_sides:
            return
        looked = await either(*((side.end, side.want) for side in open_sides))
        for side, data in zip(open_sides, looked, strict=True):
            if data is not None and len(data) < side.want:
                await side.cut(len(data))


class _Side:
    """One side of a TCP flow, one message looked ahead."""

    def __init__(self, end: Endpoint, name: str) -> None:
        self.end = end
        self.name = name
        self.item: Item | None = None
        self.over = False
        #: Bytes that the next step needs: a length, a message with it, or what is to be dropped.
        self.want = 2
        self.lost = 0

    def give(self) -> Item:
        """The message looked at."""
        item, self.item = self.item, None
        assert item is not None
        return item

    async def look(self) -> None:
        """Takes a message if all of it is here; never waits."""
        while self.item is None and not self.over:
            if self.lost and not await self._drop_lost():
                return
            data = await self.end.peek(min(self.want, self.end.buffered))
            if len(data) < self.want:
                return
            if self.want == 2:
                self.want = 2 + int.from_bytes(data, "big")
                if self.want == 2:
                    await self._take()
            else:
                await self._take()

    async def _drop_lost(self) -> bool:
        """Drops what is here of a message with a gap in it; whether that was the rest of it."""
        data = await self.end.peek(min(self.lost, self.end.buffered))
        await drop(self.end, len(data))
        self.lost -= len(data)
        self.want = 1 if self.lost else 2
        return not self.lost

    async def _take(self) -> None:
        offset = self.end.offset
        data = (await self.end.readexactly(self.want))[2:]
        self.want = 2
        self.item = _item(data, self.end.time, self.name, offset)

    async def cut(self, here: int) -> None:
        """A gap or the end stands behind ``here`` bytes of what is wanted."""
        offset = self.end.offset
        data = await self.end.readexactly(here)
        if self.end.at_eof():
            if not data:
                self.over = True
                return await the_end(self.end)
            self.want = 2
            return self._malformed(offset, "the stream ends inside a message", data)
        gap = await pass_gap(self.end)
        rest = (self.lost or self.want) - here - gap.length
        if self.want == 2 or rest < 0:
            self.over = True
            self._malformed(offset, "behind a gap nobody knows where a message begins", data)
        else:
            if not self.lost:
                self._malformed(offset, "lost in part", data)
            self.lost = rest
            self.want = 1 if rest else 2
        if gap_mode(self.end, None) == "raise":
            raise GapError(gap.offset, gap.length, gap.cause)

    def _malformed(self, offset: int, reason: str, data: bytes) -> None:
        error = ProtocolError("dns", offset, reason)
        self.item = Malformed(error, data, self.end.time, self.name)
