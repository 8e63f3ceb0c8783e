"""What apps declare, as the pump takes it: numbers in the place of words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiomos._app import App
from aiomos._engine.filters import FrameFilter
from aiomos._engine.handler import Handler
from aiomos._options import number_of
from aiomos._packet import Packet
from aiomos._rules import EventRule, FlowRule, PacketRule


def packet_tuples(rules: Iterable[PacketRule]) -> list[tuple[Any, ...]]:
    """Rules for packets, as the pump takes them.

    Raises:
        FilterError: an expression does not compile.
    """
    return [
        (FrameFilter(r.filter) if r.filter else None, r.function, r.is_coroutine, Packet)
        for r in rules
    ]


def event_tuples(rules: Iterable[EventRule]) -> list[tuple[Any, ...]]:
    """Rules for events, as the pump takes them."""
    return [(r.kinds, r.hooks, r.function, r.is_coroutine, r.filter) for r in rules]


def handler_of(app: App, rule: FlowRule) -> Handler:
    """A rule for flows, as the pump takes it."""
    # Datagrams of both ends wait in one queue, that of the client's side (udp.pxd).
    sides = "client" if rule.protocol == "udp" else rule.sides
    return Handler(
        rule.function,
        rule.name,
        number_of("protocol", rule.protocol),
        number_of("start", rule.start),
        number_of("sides", sides),
        number_of("on_gap", rule.on_gap),
        rule.limit,
        number_of("on_full", rule.on_full),
        _policy(app, rule),
        bool(app.prefixes) and rule.overlap is None,
    )


def _policy(app: App, rule: FlowRule) -> int:
    """How it wants bytes kept, as Core.ask() takes it."""
    urgent = 0 if rule.urgent is None else number_of("urgent", rule.urgent) + 1
    overlap = number_of("overlap", rule.overlap or app.overlap)
    return overlap | number_of("deliver", rule.deliver) | urgent << 4
