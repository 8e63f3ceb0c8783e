"""What an app and the apps mounted in it come to: one list of each kind of declaration."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import attrs

from aiomos._app import App
from aiomos._engine.errors import AppError
from aiomos._flow import Flow
from aiomos._rules import (
    EventRule,
    EveryRule,
    FlowHandler,
    FlowRule,
    Lifespan,
    Middleware,
    PacketRule,
)


@attrs.frozen
class Declarations:
    """What is run: an app's own declarations, then those of each app mounted in it."""

    flow_rules: list[FlowRule] = attrs.field(factory=list)
    packet_rules: list[PacketRule] = attrs.field(factory=list)
    event_rules: list[EventRule] = attrs.field(factory=list)
    every_rules: list[EveryRule] = attrs.field(factory=list)
    lifespans: list[tuple[App, Lifespan]] = attrs.field(factory=list)
    #: All apps, the one that is run first.
    apps: list[App] = attrs.field(factory=list)

    @property
    def statistics(self) -> bool:
        """Whether any of the apps asks for extended statistics."""
        return any(app.statistics for app in self.apps)


def declared(app: App) -> Declarations:
    """Collect the declarations of an app, with filters and middlewares put together.

    Raises:
        AppError: an app is mounted in itself.
    """
    found = Declarations()
    _collect(found, app, (), (), ())
    return found


def _collect(
    found: Declarations,
    app: App,
    outer: tuple[str | None, ...],
    around: tuple[Middleware, ...],
    within: tuple[App, ...],
) -> None:
    if app in within:
        raise AppError("an app is mounted in itself")
    around = (*around, *app.middlewares)
    found.apps.append(app)
    for rule in app.flow_rules:
        function = _wrapped(rule.function, around)
        overlap = rule.overlap or (app.overlap if within and app.overlap != "first" else None)
        found.flow_rules.append(
            attrs.evolve(rule, function=function, within=outer, overlap=overlap)
        )
    for packets in app.packet_rules:
        found.packet_rules.append(attrs.evolve(packets, filter=both(*outer, packets.filter)))
    for events in app.event_rules:
        found.event_rules.append(attrs.evolve(events, filter=both(*outer, events.filter)))
    found.every_rules.extend(app.every_rules)
    found.lifespans.extend((app, lifespan) for lifespan in app.lifespans)
    for filter, other in app.mounts:
        _collect(found, other, (*outer, filter), around, (*within, app))


def both(*filters: str | None) -> str | None:
    """A BPF expression for frames that pass all of these; None passes everything."""
    found = [filter for filter in filters if filter is not None]
    if len(found) < 2:
        return found[0] if found else None
    return " and ".join(f"({filter})" for filter in found)


def _wrapped(handler: FlowHandler, around: Iterable[Middleware]) -> FlowHandler:
    for middleware in reversed(tuple(around)):
        handler = _layer(middleware, handler)
    return handler


def _layer(middleware: Middleware, inner: FlowHandler) -> FlowHandler:
    @functools.wraps(inner)
    async def call(flow: Flow) -> object:
        return await middleware(flow, inner)

    return call
