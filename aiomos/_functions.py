"""What users' functions are, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from aiomos._engine.errors import AppError


def is_coroutine_function(function: object) -> bool:
    """Whether calling it gives a coroutine (also objects whose ``__call__`` is ``async``)."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - its value is looked at
    )


def name_of(function: object) -> str:
    """Name of a function, for people."""
    return getattr(function, "__qualname__", repr(function))


def must_take_events(function: Callable[..., object], where: str) -> bool:
    """Whether a function for events is a coroutine function.

    Raises:
        AppError: it cannot be called as one.
    """
    is_coroutine = is_coroutine_function(function)
    wanted = ("flow", "event") if is_coroutine else ("flow", "event", "packet")
    name = name_of(function)
    try:
        inspect.signature(function).bind(*wanted)
    except ValueError:  # a builtin that does not say
        return is_coroutine
    except TypeError:
        kind = "async def" if is_coroutine else "def"
        raise AppError(f"{where}: write '{kind} {name}({', '.join(wanted)})'") from None
    return is_coroutine
