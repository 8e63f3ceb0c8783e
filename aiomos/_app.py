"""App: filters bound to handlers, and nothing that runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from aiomos._engine.errors import AppError, ConfigError
from aiomos._functions import is_coroutine_function, must_take_events, name_of
from aiomos._kinds import hooks_of, kinds_of
from aiomos._options import (
    Deliver,
    OnFull,
    OnGap,
    Overlap,
    Sides,
    Start,
    Urgent,
    number_of,
    prefixes_of,
)
from aiomos._rules import (
    EventHandler,
    EventRule,
    EveryHandler,
    EveryRule,
    FlowHandler,
    FlowRule,
    Lifespan,
    Middleware,
    PacketHandler,
    PacketRule,
)
from aiomos.events import Event

_F = TypeVar("_F", bound=FlowHandler)
_P = TypeVar("_P", bound=PacketHandler)
_E = TypeVar("_E", bound=EveryHandler)
_O = TypeVar("_O", bound=EventHandler)
_L = TypeVar("_L", bound=Lifespan)
_M = TypeVar("_M", bound=Middleware)


def _must_be_coroutine(function: object, where: str) -> None:
    if not is_coroutine_function(function):
        name = name_of(function)
        raise AppError(f"{where}: {name} is no coroutine function; write 'async def {name}(...)'")


def _must_be_generator(function: object) -> None:
    if not inspect.isasyncgenfunction(function):
        name = name_of(function)
        raise AppError(
            f"@app.lifespan: {name} is no async generator; write 'async def' with one yield"
        )


class App:
    """Filters bound to handlers.

    >>> import aiomos
    >>> app = aiomos.App()
    >>> @app.tcp("port 80")
    ... async def log_lines(flow: aiomos.Flow) -> None:
    ...     async for line in flow.client.lines():
    ...         print(flow.client.address, line)

    An app holds declarations only. ``aiomos run``, :func:`aiomos.run`, :func:`aiomos.replay`
    and :meth:`aiomos.Engine.serve` run it; one app can be run several times.

    Args:
        overlap: of differing copies of a byte, which one the receiver kept: one policy for all,
            or a table of prefixes in which the *receiver's* address is looked up, the longest
            prefix first (``{"10.0.0.0/8": "linux", "10.1.0.0/16": "windows"}``; ``"first"``
            where none matches).
        statistics: count everything that :class:`EndpointStats` names, not the basic fields
            only; 512 bytes a flow and some time a packet.
    """

    def __init__(
        self,
        *,
        overlap: Overlap | Mapping[str, Overlap] = "first",
        statistics: bool = False,
    ) -> None:
        if isinstance(overlap, str):
            number_of("overlap", overlap)
        #: The app's own policy, and receivers that have another.
        self.overlap: str = overlap if isinstance(overlap, str) else "first"
        self.prefixes = [] if isinstance(overlap, str) else prefixes_of(overlap)
        self.statistics = statistics
        self.flow_rules: list[FlowRule] = []
        self.packet_rules: list[PacketRule] = []
        self.event_rules: list[EventRule] = []
        self.every_rules: list[EveryRule] = []
        self.lifespans: list[Lifespan] = []
        self.middlewares: list[Middleware] = []
        self.mounts: list[tuple[str | None, App]] = []
        #: What the lifespan yielded, while the app runs.
        self.state: Any = None

    def tcp(
        self,
        filter: str | None = None,
        *,
        start: Start = "established",
        sides: Sides = "both",
        on_gap: OnGap = "raise",
        deliver: Deliver = "arrival",
        overlap: Overlap | None = None,
        urgent: Urgent | None = None,
        limit: int = 65536,
        on_full: OnFull = "gap",
        inline: Literal[False] = False,
        hold: None = None,
    ) -> Callable[[_F], _F]:
        """Run ``async def handler(flow)`` for every TCP connection that passes the filter.

        >>> import aiomos
        >>> app = aiomos.App()
        >>> @app.tcp("port 80", sides="client")
        ... async def first_line(flow: aiomos.Flow) -> None:
        ...     print((await flow.client.readline()).decode().strip())
        >>> summary = aiomos.run(app, capture, count=10)
        GET / HTTP/1.1

        Args:
            filter: a BPF expression, judged once a connection, from client to server; None
                takes all.
            start: when the handler begins: at the first SYN, when both SYNs are acknowledged
                (or the connection is picked up in its middle), or with the first payload.
            sides: whose bytes it reads. The other side is followed by numbers only.
            on_gap: what missing bytes do to a reader: raise :class:`GapError`, give a
                :class:`Gap` while iterating, or be passed over and counted.
            deliver: ``"arrival"``: bytes are handed out when seen in order; ``"acked"``: when,
                besides, their receiver acknowledged them, so that until then copies compete.
            overlap: of differing copies of a byte, which one is kept: ``"first"``, ``"last"``,
                or as a system does (``"linux"``, ``"windows"``, ...); None: as the app says.
            urgent: what becomes of a byte that the sender announces as urgent: it stays in its
                place (``"inline"``), is no part of the stream (``"oob"``), becomes a
                :class:`Gap` (``"gap"``), or its whole segment does (``"drop"``); None: as the
                engine's option of that name says, ``"inline"`` by default.
            limit: bytes kept a side while the handler does not read, as in asyncio.
            on_full: beyond the limit, one gap (``"gap"``), or the side is read no more
                (``"stop"``, ``"detach"``).
            inline: handlers on a tap cannot hold or change traffic; True is refused here.
            hold: goes with ``inline``.

        Raises:
            AppError: the handler is no coroutine function.
            ConfigError: an option has no such value.
        """
        _must_be_filter(filter, "tcp")
        if inline or hold is not None:
            raise ConfigError(
                "inline= and hold= need inline ports, which this version does not have: leave them "
                "out; the handler then watches, and flow.bypass() ends its interest"
            )

        def declare(function: _F) -> _F:
            _must_be_coroutine(function, "@app.tcp")
            self.flow_rules.append(
                FlowRule(
                    *(function, "tcp", filter, start, sides, on_gap, on_full, limit),
                    deliver=deliver,
                    overlap=overlap,
                    urgent=urgent,
                )
            )
            return function

        return declare

    def udp(self, filter: str | None = None) -> Callable[[_F], _F]:
        """Run ``async def handler(flow)`` for every UDP flow that passes the filter.

        ``async for datagram in flow`` gives its datagrams, both directions, until no more
        came for its idle time.

        >>> import aiomos
        >>> app = aiomos.App()
        >>> @app.udp("port 53")
        ... async def sizes(flow: aiomos.Flow) -> None:
        ...     async for datagram in flow:
        ...         print(datagram.time, datagram.sender, len(datagram.data), "bytes")

        Raises:
            AppError: the handler is no coroutine function.
            ConfigError: the filter is no string.
        """
        _must_be_filter(filter, "udp")

        def declare(function: _F) -> _F:
            _must_be_coroutine(function, "@app.udp")
            self.flow_rules.append(FlowRule(function, "udp", filter, "data"))
            return function

        return declare

    def packet(self, filter: str | None = None) -> Callable[[_P], _P]:
        """Call a function with every frame that passes the filter (whole tcpdump language).

        ``def handler(packet)`` runs inside packet processing and borrows the packet;
        ``async def handler(packet)`` runs after the burst, with a copy.

        >>> import aiomos
        >>> app, sizes = aiomos.App(), []
        >>> @app.packet("tcp[tcpflags] & tcp-syn != 0")
        ... def count(packet: aiomos.Packet) -> None:
        ...     sizes.append(len(bytes(packet)))
        >>> summary = aiomos.run(app, capture)
        >>> max(sizes)
        74

        Raises:
            ConfigError: the filter is no string.
        """
        _must_be_filter(filter, "packet")

        def declare(function: _P) -> _P:
            self.packet_rules.append(PacketRule(function, filter, is_coroutine_function(function)))
            return function

        return declare

    def on(
        self,
        *wanted: type[Event],
        hook: Literal["sender", "receiver"] | None = None,
        filter: str | None = None,
    ) -> Callable[[_O], _O]:
        """Call a function with events of all flows; see :mod:`aiomos.events` for the classes.

        ``def handler(flow, event, packet)`` runs inside packet processing, at the moment the
        engine's emulated stack comes to it; ``packet`` is borrowed, and None where a timer
        tells. ``async def handler(flow, event)`` runs after the burst: one event of a flow after
        the other, at most 1024 of them waiting, :class:`EventsLost` in the place of more.

        ``flow`` is one object for all functions of a flow, None for an :class:`Orphan`.

        >>> import aiomos
        >>> app = aiomos.App()
        >>> @app.on(aiomos.ConnectionEnd)
        ... def ended(flow: aiomos.Flow, event: aiomos.ConnectionEnd, packet: object) -> None:
        ...     print(flow.key.server_port, event.reason)
        >>> summary = aiomos.run(app, capture, count=12)
        80 CAPTURE_END

        Args:
            wanted: classes of events; :class:`Event` for all of them.
            hook: only what the stack of a packet's sender, or of its receiver, tells; None takes
                both, and what timers tell.
            filter: a BPF expression on the event's packet, whole tcpdump language. An event that
                a timer tells is judged by its flow; it does not pass where a flow cannot answer.

        Raises:
            AppError: an argument is no class of events, or the function takes others.
            ConfigError: there is no such hook.
        """
        kinds, hooks = kinds_of(wanted, "@app.on"), hooks_of(hook, "@app.on")
        _must_be_filter(filter, "on")

        def declare(function: _O) -> _O:
            is_coroutine = must_take_events(function, "@app.on")
            self.event_rules.append(EventRule(function, kinds, hooks, filter, is_coroutine))
            return function

        return declare

    def every(self, seconds: float) -> Callable[[_E], _E]:
        """Run ``async def handler()`` every so many seconds, never overlapping itself.

        In a replay these are seconds of capture time.

        >>> import aiomos
        >>> app = aiomos.App()
        >>> @app.every(10)
        ... async def report() -> None:
        ...     print(len(aiomos.flow_tasks()), "handlers run")

        Raises:
            AppError: it is no coroutine function.
            ConfigError: the period is not more than 0 seconds.
        """
        if not seconds > 0:
            raise ConfigError(f"every({seconds!r}): the period is more than 0 seconds")

        def declare(function: _E) -> _E:
            _must_be_coroutine(function, "@app.every")
            self.every_rules.append(EveryRule(function, seconds))
            return function

        return declare

    def lifespan(self, function: _L) -> _L:
        """Enter ``async def handler(app)``, an async generator, once before traffic.

        What it yields becomes :attr:`state`; what stands behind the ``yield`` runs at the end.

        >>> import aiomos
        >>> from collections import Counter
        >>> app = aiomos.App()
        >>> @app.lifespan
        ... async def ports(app: aiomos.App):
        ...     counter = Counter()
        ...     yield counter
        ...     print(counter.most_common(1)[0][0])
        >>> @app.tcp()
        ... async def count(flow: aiomos.Flow) -> None:
        ...     app.state[flow.server.port] += 1
        >>> summary = aiomos.run(app, capture)
        80

        Raises:
            AppError: it is no async generator function.
        """
        _must_be_generator(function)
        self.lifespans.append(function)
        return function

    def middleware(self, function: _M) -> _M:
        """Run ``async def middleware(flow, call_next)`` around every handler of flows.

        ``await call_next(flow)`` runs what is inside: the next middleware, at last the handler.
        The first declared is the outermost; those of an app stand around the handlers of the
        apps mounted in it too.

        >>> import time
        >>> import aiomos
        >>> app = aiomos.App()
        >>> @app.middleware
        ... async def timed(flow: aiomos.Flow, call_next: aiomos.CallNext) -> None:
        ...     began = time.perf_counter()
        ...     try:
        ...         await call_next(flow)
        ...     finally:
        ...         print(flow.key, time.perf_counter() - began)

        Raises:
            AppError: it is no coroutine function, or takes other arguments.
        """
        _must_be_coroutine(function, "@app.middleware")
        _must_take(function, "flow", "call_next")
        self.middlewares.append(function)
        return function

    def mount(self, filter: str | None, other: App) -> None:
        """Run another app's handlers too, on what passes both this filter and theirs.

        Its middlewares stand around its own handlers, inside this app's; its lifespans are entered
        behind this app's, with the other app as their argument. What is declared in it later counts
        as well.

        >>> import aiomos
        >>> web, app = aiomos.App(), aiomos.App()
        >>> @web.tcp("port 80")
        ... async def requests(flow: aiomos.Flow) -> None: ...
        >>> app.mount("net 10.0.0.0/8", web)

        Raises:
            AppError: it is no app.
            ConfigError: it has a table of overlap policies by prefix: those belong to the app that
                is run.
        """
        _must_be_filter(filter, "mount")
        if not isinstance(other, App):
            raise AppError(f"mount: {name_of(other)} is no aiomos.App; wrap a handler in one")
        if other.prefixes:
            raise ConfigError("mount: give App(overlap={prefix: policy}) to the app that is run")
        self.mounts.append((filter, other))


def _must_take(function: Callable[..., object], *names: str) -> None:
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        name = name_of(function)
        raise AppError(f"write 'async def {name}({', '.join(names)})'") from None


def _must_be_filter(filter: object, name: str) -> None:
    """Says what to do when a decorator was used without parentheses."""
    if callable(filter):
        raise AppError(f"write @app.{name}() with parentheses: its argument is a filter")
    if filter is not None and not isinstance(filter, str):
        raise ConfigError(f"@app.{name}: a filter is a string, not {filter!r}")


def as_app(thing: object) -> App:
    """An app as it is; a plain ``async def handler(flow)`` as an app for all TCP connections.

    Raises:
        AppError: it is neither.
    """
    if isinstance(thing, App):
        return thing
    if is_coroutine_function(thing):
        app = App()
        app.tcp()(thing)  # type: ignore[type-var]  # a coroutine function: just checked
        return app
    name = name_of(thing)
    raise AppError(
        f"{name} is neither an aiomos.App nor a coroutine function; write 'async def {name}(flow)'"
    )
