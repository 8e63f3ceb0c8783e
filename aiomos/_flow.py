"""A connection in a handler's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs

from aiomos._community_id import community_id
from aiomos._engine.view import FlowBase
from aiomos._stats import FlowStats, flow_stats
from aiomos._tunnel import Tunnel
from aiomos.events import CloseReason, Datagram

if TYPE_CHECKING:
    from aiomos._endpoint import Endpoint

_SENDERS = ("client", "server")


@attrs.frozen
class FlowKey:
    """What tells one flow from all others at one time: addresses as text, ports, protocol."""

    client: str
    client_port: int
    server: str
    server_port: int
    protocol: str


class Flow(FlowBase):
    """One connection, as one handler sees it.

    ``client`` is the first SYN's sender, else the best guess; ``client`` and ``server`` are
    :class:`Endpoint` objects. ``context`` is yours.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        client: Endpoint
        server: Endpoint

    @property
    def key(self) -> FlowKey:
        """Addresses, ports and protocol."""
        return FlowKey(
            self.client.address,
            self.client.port,
            self.server.address,
            self.server.port,
            self.protocol,
        )

    @property
    def community_id(self) -> str:
        """Community ID, version 1: the name that other tools give this connection too."""
        source, destination, sport, dport, protocol = self._key
        seed = self._community_seed
        return community_id(source, destination, sport, dport, protocol, seed)

    @property
    def stats(self) -> FlowStats:
        """Statistics of the flow and of both ends, as they are now."""
        return flow_stats(self)

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the flow ended; None while it has not."""
        return CloseReason(self._reason) if self._reason else None

    @property
    def tunnel(self) -> tuple[Tunnel, ...]:
        """What is around the connection's packets, outermost first, as its first packet had it.

        VLAN tags are in ``vlan``.
        """
        return tuple(Tunnel(*fields) for fields in self._tunnels)

    async def established(self) -> None:
        """Wait until both SYNs were acknowledged; at once if they were, or the flow is over."""
        while not self.is_established and not self.is_closed:
            await self._wait()

    async def closed(self) -> CloseReason:
        """Wait for the flow to end, and say why. Unread bytes can still be read after it."""
        while not self.is_closed:
            await self._wait()
        return CloseReason(self._reason)

    def __aiter__(self) -> AsyncIterator[Datagram]:
        """Datagrams of a UDP flow, of both ends in order of arrival.

        Raises:
            TypeError: the flow is TCP: read ``flow.client`` and ``flow.server``.
        """
        if self.protocol != "udp":
            raise TypeError("only UDP flows give datagrams; read flow.client and flow.server")
        return self

    async def __anext__(self) -> Datagram:
        while (found := self._datagram()) is None:
            if self.is_closed or self.client._stopped:
                raise StopAsyncIteration
            await self.client._wait()
        data, time, sender = found
        return Datagram(data, time, _SENDERS[sender])

    def accept(self) -> None:
        """Let the flow pass. On a tap it passes anyway."""

    def __repr__(self) -> str:
        ends = (self.client, self.server)
        names = [
            f"[{e.address}]:{e.port}" if ":" in e.address else f"{e.address}:{e.port}" for e in ends
        ]
        return f"<Flow {self.id} {self.protocol} {names[0]} > {names[1]}>"
