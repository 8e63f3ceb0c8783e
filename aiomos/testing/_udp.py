"""Datagrams of two ends as a script."""

from __future__ import annotations

from typing import Self, TypedDict, Unpack

import attrs

from aiomos.testing import frames
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


class DatagramFields(TypedDict, total=False):
    """What any datagram can be given; what is not given is right.

    Attributes:
        length, check: fields of the UDP header.
        ttl, ident: of the IP header.
        after: seconds behind the frame before it, in the place of the script's pace.
        fragment: bytes of payload in each IP fragment.
    """

    length: int
    check: int
    ttl: int
    ident: int
    after: float
    fragment: int


@attrs.define(kw_only=True, eq=False)
class Sent(Step):
    """One datagram."""

    side: int
    data: bytes
    fields: DatagramFields

    def render(self, player: Exchange) -> list[bytes]:
        (host, port), (other, other_port) = player.ends[self.side], player.ends[1 - self.side]
        fields = self.fields
        body = frames.udp(
            port,
            other_port,
            self.data,
            ends=(host, other),
            length=fields.get("length"),
            check=fields.get("check"),
        )
        player.packets += 1
        ident = fields.get("ident", player.packets & 0xFFFF)
        ttl = fields.get("ttl", 64)
        return player.wrap(self, body, (host, other), frames.UDP, ident, ttl)


class Exchange(Player):
    """Two addresses, while a script is played."""

    def __init__(self, script: Datagrams) -> None:
        super().__init__(script)
        self.ends = script.client, script.server
        self.packets = 0


class Datagrams(HostScript):
    """UDP between two ends, word by word.

    >>> from aiomos import testing
    >>> lookup = testing.Datagrams().data("client", b"who?").data("server", b"me", after=0.02)
    >>> [frame.time_ns - lookup.frames()[0].time_ns for frame in lookup]
    [0, 20000000]

    Args:
        client: address and port, IPv4 or IPv6.
        server: the same.
        vlan: tags of every frame, outermost first.
        start: capture time of the first frame, seconds since the epoch.
        pace: seconds between two frames.
    """

    def __init__(
        self,
        *,
        client: Address = ("10.0.0.1", 5000),
        server: Address = ("10.0.0.2", 53),
        vlan: Vlan = (),
        start: float = START,
        pace: float = PACE,
    ) -> None:
        super().__init__(client, server, vlan, start, pace)

    def player(self) -> Exchange:
        """Both ends before their first word."""
        return Exchange(self)

    def data(self, side: Side, data: Data, **fields: Unpack[DatagramFields]) -> Self:
        """One datagram, or what has ``__bytes__``; see :class:`DatagramFields`.

        Raises:
            ConfigError: no such side.
            TypeError: the data are no bytes.
        """
        step = Sent(
            side=side_number(side),
            data=as_bytes(data),
            fields=fields,
            after=fields.get("after"),
            fragment=fields.get("fragment", 0),
        )
        return self.then(step)
