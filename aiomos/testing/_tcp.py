"""A TCP connection as a script: sequence numbers, acknowledgements and options keep themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Self, TypedDict, Unpack

import attrs

from aiomos._engine.errors import ConfigError
from aiomos.testing import frames
from aiomos.testing._ends import End
from aiomos.testing._script import (
    PACE,
    START,
    Address,
    Data,
    HostScript,
    Player,
    Side,
    Step,
    Vlan,
    as_bytes,
    side_number,
)
from aiomos.testing.frames import ACK, FIN, PSH, RST, SYN, URG

_MTU_PAYLOAD = 1460  # bytes, where no MSS was announced
_SACK_BLOCKS = 3  # beside a timestamp (RFC 2018 section 3)


class Fields(TypedDict, total=False):
    """What any segment can be given; what is not given is right.

    Attributes:
        at: stream offset of the first byte (0: the first behind the SYN).
        acks: stream offset of the other end up to which it acknowledges.
        seq, ack: the same as raw header fields, for numbers that no offset gives.
        window: the header field, not shifted.
        urgent: the urgent pointer; sets URG.
        options: all options, in the place of those that would be there.
        check: the checksum.
        ttl, ident: of the IP header.
        after: seconds behind the frame before it, in the place of the script's pace.
        fragment: bytes of payload in each IP fragment.
    """

    at: int
    acks: int
    seq: int
    ack: int
    window: int
    urgent: int
    options: bytes
    check: int
    ttl: int
    ident: int
    after: float
    fragment: int


@attrs.define(kw_only=True, eq=False)
class Segments(Step):
    """One end says something, in as many segments as it takes."""

    side: int
    flags: int
    data: bytes = b""
    cut: tuple[int, ...] = ()  # bytes in the first segments
    fields: Fields = attrs.field(factory=Fields)

    def render(self, player: Connection) -> list[bytes]:
        return [
            frame
            for at, piece, flags in player.pieces(self)
            for frame in player.segment(self, at, piece, flags)
        ]


@attrs.define(kw_only=True, eq=False)
class Unseen(Step):
    """One end says so many bytes that nobody captures."""

    side: int
    length: int

    def render(self, player: Connection) -> list[bytes]:
        sender, receiver = player.ends[self.side], player.ends[1 - self.side]
        receiver.received.add(sender.sent, sender.sent + self.length)
        sender.sent += self.length
        return []


class Connection(Player):
    """Both ends, while a script is played."""

    def __init__(self, script: Conversation) -> None:
        super().__init__(script)
        self.script = script
        window = script.window
        self.ends = (
            End(*script.client, script.isn[0], window),
            End(*script.server, script.isn[1], window),
        )

    # -- borders of segments --

    def pieces(self, step: Segments) -> Iterator[tuple[int, bytes, int]]:
        """Offset, bytes and flags of each segment; only the last one says PSH and FIN."""
        at = self._offset(step)
        sizes = chain(step.cut, repeat(0))
        data, first = step.data, True
        while first or data:
            most = len(data) if step.flags & SYN else min(len(data), self._most(step))
            size = min(next(sizes) or self._cut(most), most)
            piece, data = data[:size], data[size:]
            last_only = PSH | FIN
            yield at, piece, step.flags & ~last_only if data else step.flags
            at += size
            first = False

    def _offset(self, step: Segments) -> int:
        if "at" in step.fields:
            return step.fields["at"]
        return -1 if step.flags & SYN else self.ends[step.side].sent

    def _most(self, step: Segments) -> int:
        options = frames.padded(self._options(step.side, step.flags))
        return (self.script.mss or _MTU_PAYLOAD) - len(options)

    def _cut(self, most: int) -> int:
        return most if self.cut is None else max(1, self.cut(most))

    # -- one segment --

    def segment(self, step: Segments, at: int, data: bytes, flags: int) -> list[bytes]:
        """The frames of a segment, after which both ends know of it."""
        sender, receiver = self.ends[step.side], self.ends[1 - step.side]
        fields, hosts = step.fields, (sender.host, receiver.host)
        acks = receiver.number(fields.get("acks", sender.received.next)) if flags & ACK else 0
        body = frames.tcp(
            sender.port,
            receiver.port,
            fields.get("seq", sender.number(at)),
            fields.get("ack", acks),
            flags,
            data,
            window=fields.get("window", sender.window),
            options=fields.get("options", self._options(step.side, flags)),
            ends=hosts,
            urgent=fields.get("urgent", 0),
            check=fields.get("check"),
        )
        self._told(step, at, len(data), flags)
        ident = fields.get("ident", sender.next_ident())
        ttl = fields.get("ttl", 64)
        return self.wrap(step, body, hosts, frames.TCP, ident, ttl)

    def _told(self, step: Segments, at: int, length: int, flags: int) -> None:
        """What the segment does to its sender and, if it got it, to its receiver."""
        if flags & RST:
            return
        sender, receiver = self.ends[step.side], self.ends[1 - step.side]
        start = at + bool(flags & SYN)
        end = start + length + bool(flags & FIN)
        sender.sent = max(sender.sent, end)
        if step.received:
            if start <= receiver.received.next:  # RFC 7323 section 4.3
                receiver.echo = max(receiver.echo, self._stamp())
            receiver.received.add(start, end)

    # -- options --

    def _options(self, side: int, flags: int) -> bytes:
        if flags & SYN:
            return self._of_syn(side, flags)
        script, end = self.script, self.ends[side]
        out = b""
        if script.timestamps and not flags & RST:
            out = b"\x01\x01" + frames.timestamp(self._stamp(), end.echo)
        if script.sack and flags & ACK and end.received.blocks:
            other = self.ends[1 - side]
            blocks = end.received.blocks[:_SACK_BLOCKS]
            numbers = [(other.number(start), other.number(stop)) for start, stop in blocks]
            out += b"\x01\x01" + frames.sack(*numbers)
        return out

    def _of_syn(self, side: int, flags: int) -> bytes:
        script = self.script
        out = b"" if script.mss is None else frames.mss(script.mss)
        if script.sack:
            out += frames.sack_permitted()
        if script.timestamps:
            out += frames.timestamp(self._stamp(), self.ends[side].echo if flags & ACK else 0)
        if script.window_scale is not None:
            out += frames.window_scale(script.window_scale)
        return out

    def _stamp(self) -> int:
        """Milliseconds, as most hosts count them."""
        return self.next_ns // 1_000_000 & 0xFFFFFFFF


class Conversation(HostScript):
    """A TCP connection, word by word.

    >>> from aiomos import testing
    >>> talk = testing.Conversation().handshake().data("client", b"hello").close()
    >>> len(talk.frames())
    7

    What the ends do not know they do not say: an end acknowledges what it got, and puts blocks
    into a SACK option for what it got behind a hole. Any field can be given; see :class:`Fields`.
    ``at=`` is the stream offset of the first byte, so that holes, retransmissions and overlaps
    are said by where they are.

    Args:
        client: address and port, IPv4 or IPv6.
        server: the same.
        isn: initial sequence numbers of client and server.
        mss: bytes that a segment holds at most, with its options; None: not announced.
        window: window field of every segment.
        window_scale: by how many bits both shift it; None: no scaling.
        timestamps: whether both send timestamps (RFC 7323).
        sack: whether both allow selective acknowledgements (RFC 2018).
        vlan: tags of every frame, outermost first.
        start: capture time of the first frame, seconds since the epoch.
        pace: seconds between two frames.
    """

    def __init__(
        self,
        *,
        client: Address = ("10.0.0.1", 40000),
        server: Address = ("10.0.0.2", 80),
        isn: tuple[int, int] = (1000, 500_000),
        mss: int | None = 1460,
        window: int = 65535,
        window_scale: int | None = 7,
        timestamps: bool = True,
        sack: bool = True,
        vlan: Vlan = (),
        start: float = START,
        pace: float = PACE,
    ) -> None:
        super().__init__(client, server, vlan, start, pace)
        self.isn = isn
        self.mss = mss
        self.window = window
        self.window_scale = window_scale
        self.timestamps = timestamps
        self.sack = sack

    def player(self) -> Connection:
        """Both ends before their first word."""
        return Connection(self)

    # -- any segment --

    def segment(
        self,
        side: Side,
        flags: int,
        data: Data = b"",
        *,
        cut: int | Iterable[int] = (),
        **fields: Unpack[Fields],
    ) -> Self:
        """One end says something: what all other words are made of.

        Args:
            side: who says it.
            flags: of :mod:`aiomos.testing.frames`: ``SYN``, ``ACK``, ...
            data: payload, in as many segments as it takes.
            cut: bytes in each segment, or in the first ones; at most what the MSS allows.
            fields: see :class:`Fields`.

        Raises:
            ConfigError: no such side, or segments of less than one byte.
            TypeError: the data are no bytes.
        """
        number, data = side_number(side), as_bytes(data)
        sizes = _sizes(cut, len(data))
        step = Segments(
            side=number,
            flags=flags | (URG if "urgent" in fields else 0),
            data=data,
            cut=sizes,
            fields=fields,
            after=fields.get("after"),
            fragment=fields.get("fragment", 0),
        )
        return self.then(step)

    # -- the usual words --

    def syn(self, side: Side = "client", data: Data = b"", **fields: Unpack[Fields]) -> Self:
        """A SYN, with data for TCP Fast Open (RFC 7413)."""
        return self.segment(side, SYN, data, **fields)

    def syn_ack(self, side: Side = "server", data: Data = b"", **fields: Unpack[Fields]) -> Self:
        """The answer to a SYN."""
        return self.segment(side, SYN | ACK, data, **fields)

    def ack(self, side: Side = "client", **fields: Unpack[Fields]) -> Self:
        """An end acknowledges what it got."""
        return self.segment(side, ACK, **fields)

    def handshake(self) -> Self:
        """SYN, SYN-ACK, ACK."""
        return self.syn().syn_ack().ack()

    def data(
        self,
        side: Side,
        data: Data,
        *,
        cut: int | Iterable[int] = (),
        **fields: Unpack[Fields],
    ) -> Self:
        """Bytes, in segments of at most the MSS or as ``cut`` says.

        ``at=`` gives their stream offset: before what was sent they are a retransmission or an
        overlap, behind it they leave a hole.
        """
        return self.segment(side, PSH | ACK, data, cut=cut, **fields)

    def gap(self, side: Side, length: int) -> Self:
        """Bytes that the other end gets, and no frame of which was captured."""
        return self.then(Unseen(side=side_number(side), length=length))

    def keep_alive(self, side: Side = "client", **fields: Unpack[Fields]) -> Self:
        """A probe of one number before the next (RFC 9293 section 3.8.4)."""
        return self.then(Probe(side=side_number(side), flags=ACK, fields=fields))

    def fin(self, side: Side, data: Data = b"", **fields: Unpack[Fields]) -> Self:
        """An end has no more to say, perhaps with its last bytes."""
        return self.segment(side, FIN | ACK, data, **fields)

    def close(self, first: Side = "client") -> Self:
        """FIN of both ends, the one that is named first, and the last ACK."""
        other: Side = "client" if first == "server" else "server"
        return self.fin(first).fin(other).ack(first)

    def rst(self, side: Side, **fields: Unpack[Fields]) -> Self:
        """An end resets the connection, at the number that it would use next."""
        return self.segment(side, RST | ACK, **fields)


def _sizes(cut: int | Iterable[int], length: int) -> tuple[int, ...]:
    sizes = tuple(repeat(cut, length)) if isinstance(cut, int) else tuple(cut)
    if any(size < 1 for size in sizes):
        raise ConfigError(f"cut={cut!r}: a segment of data has at least one byte")
    return sizes


@attrs.define(kw_only=True, eq=False)
class Probe(Segments):
    """A keep-alive: where it stands is known when it is said."""

    def render(self, player: Connection) -> list[bytes]:
        at = self.fields.get("at", player.ends[self.side].sent - 1)
        return player.segment(self, at, b"", self.flags)
