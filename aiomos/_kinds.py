"""Kinds of events: their classes, and the engine's bits for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from aiomos import events
from aiomos._engine import names
from aiomos._engine.errors import AppError, ConfigError

_COMMON = {"time", "side", "hook"}

#: Classes by number of the engine (eventmake.pxd): those of the core, then the bridge's own.
CLASSES: tuple[type[events.Event], ...] = (
    *(getattr(events, name) for name in names.EVENTS),
    events.TimerFired,
    events.EventsLost,
)

#: What the engine makes events of: classes with their own fields, states, close reasons.
WORDS: tuple[Any, ...] = (
    [(cls, [f.name for f in attrs.fields(cls) if f.name not in _COMMON]) for cls in CLASSES],
    list(events.State),
    [events.CloseReason(name) if name else "" for name in names.CLOSE_REASONS],
)

#: Hook of @app.on -> bits of HOOK_* (events.pxd); timers tell those who name no hook.
_HOOKS = {None: 7, "sender": 1, "receiver": 2}
_ASKED_FOR = CLASSES[:-1]  # EventsLost comes by itself


def kinds_of(wanted: Iterable[type[events.Event]], where: str) -> int:
    """A bit for every kind of event that is one of these classes, or below one of them.

    Raises:
        AppError: something is no class of events, or there is nothing.
        ConfigError: EventsLost, which cannot be asked for.
    """
    kinds = 0
    for cls in wanted:
        if not isinstance(cls, type) or not issubclass(cls, events.Event):
            raise AppError(f"{where}: {cls!r} is no class of events")
        if cls is events.EventsLost:
            raise ConfigError(f"{where}: EventsLost comes by itself, where events were lost")
        kinds |= sum(1 << i for i, c in enumerate(_ASKED_FOR) if issubclass(c, cls))
    if not kinds:
        raise AppError(f"{where}: no event is named")
    return kinds


def hooks_of(hook: str | None, where: str) -> int:
    """The engine's bits for a hook.

    Raises:
        ConfigError: there is no such hook.
    """
    if hook not in _HOOKS:
        raise ConfigError(f"{where}: hook={hook!r}: it is 'sender', 'receiver' or None")
    return _HOOKS[hook]
