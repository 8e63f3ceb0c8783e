"""Declarations of an app, one class for each decorator; what the engine is made from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from aiomos._flow import Flow
from aiomos._functions import name_of
from aiomos._options import check_limit, number_of
from aiomos._packet import Packet


class CallNext(Protocol):
    """What a middleware awaits to go on: the next middleware, at last the handler."""

    def __call__(self, flow: Flow, /) -> Awaitable[object]:
        """Runs it."""


FlowHandler: TypeAlias = Callable[[Flow], Awaitable[object]]
PacketHandler: TypeAlias = Callable[[Packet], object]
EventHandler: TypeAlias = Callable[..., object]
EveryHandler: TypeAlias = Callable[[], Awaitable[object]]
#: Takes the app.
Lifespan: TypeAlias = Callable[[Any], AsyncIterator[object]]
Middleware: TypeAlias = Callable[[Flow, CallNext], Awaitable[object]]


def _one_of(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    number_of(attribute.name, value)


def _limit(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_limit(value)


@attrs.frozen
class FlowRule:
    """One ``@app.tcp`` or ``@app.udp``: which flows, which handler, how it reads."""

    function: FlowHandler
    protocol: Literal["tcp", "udp"]
    filter: str | None = None
    start: str = attrs.field(default="established", validator=_one_of)
    sides: str = attrs.field(default="both", validator=_one_of)
    on_gap: str = attrs.field(default="raise", validator=_one_of)
    on_full: str = attrs.field(default="gap", validator=_one_of)
    limit: int = attrs.field(default=65536, validator=_limit)
    deliver: str = attrs.field(default="arrival", validator=_one_of)
    #: None: what the app says.
    overlap: str | None = attrs.field(default=None, validator=attrs.validators.optional(_one_of))
    #: None: what the engine's option says.
    urgent: str | None = attrs.field(default=None, validator=attrs.validators.optional(_one_of))
    #: Those of the mounts around, each judged on its own: after the word ``vlan`` in one, all that
    #: follows in the same expression would be read four bytes further on.
    within: tuple[str | None, ...] = ()

    @property
    def name(self) -> str:
        """Name of the handler, for people."""
        return name_of(self.function)


@attrs.frozen
class PacketRule:
    """One ``@app.packet``."""

    function: PacketHandler
    filter: str | None
    is_coroutine: bool


@attrs.frozen
class EventRule:
    """One ``@app.on``: kinds and hooks as the engine's bits."""

    function: EventHandler
    kinds: int
    hooks: int
    filter: str | None
    is_coroutine: bool


@attrs.frozen
class EveryRule:
    """One ``@app.every``; the period in seconds."""

    function: EveryHandler
    seconds: float
