"""A connection in a handler's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from aiomos._community_id import community_id
from aiomos._engine.flowview import FlowBase
from aiomos._eventstream import EventStream, Timer
from aiomos._functions import must_take_events
from aiomos._kinds import hooks_of, kinds_of
from aiomos._messages import Conversation
from aiomos._options import check_limit
from aiomos._scope import FlowScope
from aiomos._stats import FlowStats, flow_stats
from aiomos._tunnel import Tunnel
from aiomos._verdicts import FlowVerdicts
from aiomos.events import CloseReason, Datagram, Event, Gap, Message

if TYPE_CHECKING:
    from aiomos._endpoint import Endpoint

_SENDERS = ("client", "server")
_LONGEST = 1e9  # seconds

Classes: TypeAlias = type[Event] | Iterable[type[Event]]
Hook: TypeAlias = Literal["sender", "receiver"] | None


def _classes(wanted: Classes) -> Iterable[type[Event]]:
    return (wanted,) if isinstance(wanted, type) else wanted


@attrs.frozen
class FlowKey:
    """What tells one flow from all others at one time: addresses as text, ports, protocol."""

    client: str
    client_port: int
    server: str
    server_port: int
    protocol: str


class Flow(FlowVerdicts, FlowBase):
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

    async def established(self, *, timeout: float | None = None) -> None:
        """Wait until both SYNs were acknowledged; at once if they were, or the flow is over.

        Raises:
            TimeoutError: it took longer than ``timeout`` seconds.
        """
        await self._until(lambda: self.is_established or self.is_closed, timeout)

    async def closed(self, *, timeout: float | None = None) -> CloseReason:
        """Wait for the flow to end, and say why. Unread bytes can still be read after it.

        Raises:
            TimeoutError: it took longer than ``timeout`` seconds.
        """
        await self._until(lambda: self.is_closed, timeout)
        return CloseReason(self._reason)

    async def _until(self, reached: Callable[[], bool], timeout: float | None) -> None:
        if timeout is None:
            while not reached():
                await self._wait()
            return
        with self._deadline(timeout) as deadline:
            while not reached():
                await deadline.of(self._wait())

    async def sleep(self, seconds: float) -> None:
        """Sleep on the engine's clock: capture time in a replay, whatever loop it runs on."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with self._deadline(seconds) as deadline:
            await deadline.of(self._nap())

    def scope(self, *, linger: float = 1.0) -> FlowScope:
        """A :class:`asyncio.TaskGroup` that ends with the flow.

        When the flow has ended, what still runs in the ``async with`` has ``linger`` seconds of
        the engine's clock to read what is left; then it is cancelled, and the block is left as
        if it had come to its end.

        Raises:
            ValueError: ``linger`` is no number of seconds from 0 up.
        """
        if not 0 <= linger < _LONGEST:
            raise ValueError(f"scope(linger={linger!r}): a number of seconds from 0 up")
        return FlowScope(self, linger)

    def messages(
        self, *, limit: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[Message | Gap]:
        """What both ends said, in the order in which it was received, as turns.

        A turn is what one end said until the other spoke: a request, its response, the next
        request. It is given when the other has spoken, or both sides have ended; or in pieces, with
        ``more``, after ``limit`` bytes (by default the handler's), at a gap, or after ``timeout``
        seconds of silence. Reads both cursors; gaps as ``on_gap`` says.

        Raises:
            TimeoutError: neither end said anything for ``timeout`` seconds.
            TypeError: the flow is UDP.
        """
        if self.protocol == "udp":
            raise TypeError("a UDP flow gives datagrams: async for datagram in flow")
        most = self.handler.limit if limit is None else check_limit(limit)
        return Conversation(self, most, timeout)

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

    # -- events --

    def subscribe(
        self,
        wanted: Classes,
        function: Callable[..., object],
        *,
        hook: Hook = None,
        filter: str | None = None,
    ) -> None:
        """Call a function with events of this flow, until :meth:`unsubscribe` or the flow's end.

        The function is one as for :meth:`App.on`; several may be subscribed to one event, and
        are told in order of subscription, behind the app's. It is given this flow object.

        Raises:
            AppError: ``wanted`` is no class of events, or the function takes other arguments.
            ConfigError: there is no such hook.
            FilterError: the expression does not compile.
        """
        kinds = kinds_of(_classes(wanted), "subscribe")
        is_coroutine = must_take_events(function, "subscribe")
        if self._events is not None:
            hooks = hooks_of(hook, "subscribe")
            self._events.subscribe(self, kinds, hooks, function, is_coroutine, filter)

    def unsubscribe(self, wanted: Classes, function: Callable[..., object]) -> bool:
        """Take a function back: it is told of these no more. False: it was not subscribed."""
        kinds = kinds_of(_classes(wanted), "unsubscribe")
        return self._events is not None and self._events.unsubscribe(self, function, kinds) > 0

    def events(
        self,
        *wanted: type[Event],
        hook: Hook = None,
        limit: int = 1024,
    ) -> EventStream:
        """Events of this flow from now on, as an asynchronous iterator that ends with the flow.

        Without classes, all of them. At most ``limit`` wait for the reader; in the place of more
        it gets :class:`EventsLost`. The end of the connection is never lost.
        """
        return self._listen(wanted or (Event,), hook, check_limit(limit), once=False)

    async def wait(
        self, *wanted: type[Event], hook: Hook = None, timeout: float | None = None
    ) -> Event | None:
        """Wait for the next such event of this flow (without classes: any); None: it has ended.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
        """
        stream = self._listen(wanted or (Event,), hook, 1, once=True)
        try:
            return await stream.next(timeout)
        finally:
            stream.close()

    def _listen(
        self, wanted: Iterable[type[Event]], hook: str | None, limit: int, *, once: bool
    ) -> EventStream:
        kinds, hooks = kinds_of(wanted, "events"), hooks_of(hook, "events")
        if self._events is None:
            return EventStream(self, None)
        return EventStream(self, self._events.open_queue(self, kinds, hooks, limit, once))

    def after(
        self,
        seconds: float,
        function: Callable[..., object] | None = None,
        *,
        value: object = None,
    ) -> Timer:
        """Raise :class:`TimerFired` for this flow in so many seconds of capture time.

        ``def function(flow, event, packet)``, if given, is called with it first; ``value`` is the
        event's. Timers of a flow that has ended do not fire.

        Raises:
            ValueError: ``seconds`` is no number of seconds from 0 up.
        """
        if not 0 <= seconds < _LONGEST:
            raise ValueError(f"after({seconds!r}): a number of seconds from 0 up")
        if self._events is None:
            return Timer(self, None)
        return Timer(self, self._events.after(self, seconds, function, value))

    def accept(self) -> None:
        """Let the flow pass. On a tap it passes anyway."""

    def __repr__(self) -> str:
        ends = (self.client, self.server)
        names = [
            f"[{e.address}]:{e.port}" if ":" in e.address else f"{e.address}:{e.port}" for e in ends
        ]
        return f"<Flow {self.id} {self.protocol} {names[0]} > {names[1]}>"
