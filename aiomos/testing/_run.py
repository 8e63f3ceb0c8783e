"""A whole run at once, on capture time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from aiomos._app import App
from aiomos._engine.errors import ConfigError
from aiomos._engine.source import MemorySource
from aiomos._replay_loop import ReplayLoop
from aiomos._rules import FlowHandler
from aiomos.events import Event
from aiomos.testing._impair import Impair
from aiomos.testing._observed import ObservedEngine
from aiomos.testing._result import Result
from aiomos.testing._traffic import Traffic, frames_of

#: What becomes of errors that functions of the app raised.
Failures: TypeAlias = Literal["raise", "keep"]


def check_failures(failures: str) -> None:
    """Refuse what is neither.

    Raises:
        ConfigError: it is not ``"raise"`` or ``"keep"``.
    """
    if failures not in ("raise", "keep"):
        raise ConfigError(f"failures={failures!r}: it is 'raise' or 'keep'")


def run(
    app: App | FlowHandler,
    *traffic: Traffic,
    impair: Impair | None = None,
    failures: Failures = "raise",
    events: Iterable[type[Event]] = (Event,),
    io_patience: float = 5.0,
    **options: Any,
) -> Result:
    """Run an app, or one handler, over traffic, on capture time, and say what it came to.

    The same traffic gives the same result. Not for use inside a running loop: there is
    :func:`aiomos.testing.engine`.

    Args:
        app: what is tested.
        traffic: scripts, paths of captures, frames; all at the same time, by their times.
        impair: what a network does to the traffic.
        failures: ``"raise"`` what a handler raised, or ``"keep"`` it in the result.
        events: classes of those that the result has; for large captures not all of them.
        io_patience: see :func:`aiomos.run`.
        options: those of :class:`aiomos.Engine`.

    Raises:
        ConfigError: an option has no such value, or a loop is running.
        SourceError: a capture cannot be read.
        Exception: what a handler raised; several in an ``ExceptionGroup``.
    """
    __tracebackhide__ = True
    check_failures(failures)
    _check_no_loop()
    if impair is None and len(traffic) == 1 and isinstance(traffic[0], str | os.PathLike):
        source: Any = traffic[0]  # read as it is, however large
    else:
        source, options = _in_memory(traffic, impair, options)
    with contextlib.closing(ObservedEngine(source, events=events, **options)) as engine:
        with asyncio.Runner(loop_factory=lambda: ReplayLoop(io_patience=io_patience)) as runner:
            runner.run(engine.serve(app))
        result = engine.result()
    if failures == "raise":
        result.raise_failures()
    return result


def _check_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        "testing.run() brings a loop of its own; inside a coroutine write "
        "'async with testing.engine(app) as engine: await engine.play(...)'"
    )


def _in_memory(
    traffic: tuple[Traffic, ...], impair: Impair | None, options: dict[str, Any]
) -> tuple[MemorySource, dict[str, Any]]:
    if impair is None:
        return MemorySource(frames_of(traffic)), options
    spoiler = impair.spoiler()
    frames = frames_of(traffic, spoiler)
    source = MemorySource(frames, segment_seed=spoiler.segment_seed())
    return source, {"burst": spoiler.burst(), **options}
