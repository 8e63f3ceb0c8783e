"""Whether a run gave back what it took: flows, tasks, buffers, frames."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Iterator
from typing import Any

from aiomos._endpoint import Endpoint
from aiomos._engine.pump import Pump
from aiomos._flow import Flow
from aiomos._runner import Engine

#: What :meth:`Core.usage` says that must be 0 when all is idle.
_HELD = ("flows", "timers", "datagrams", "early_bytes", "fragment_bytes")
#: The same, but for what objects keep that the test still has: a flow's entry and description.
_KEPT = ("flow_entries", "blocks", "buffer_bytes", "reader_bytes")
_TWO_HOURS = 2 * 3600 * 10**9  # longer than any closed flow is remembered


def held(engine: Engine) -> dict[str, int]:
    """What an engine that has served still holds, once closed flows are forgotten; {} is right."""
    if engine._pump is None:
        return {}
    if found := _counts(engine, engine._pump):
        gc.collect()  # the traceback of what a handler raised is a cycle, with the flow in it
        found = _counts(engine, engine._pump)
    if 0 < found.get("flow_entries", 0) <= _kept_objects():
        found = {name: count for name, count in found.items() if name not in _KEPT}
    return found


def _counts(engine: Engine, pump: Pump) -> dict[str, int]:
    end_ns = pump.now_ns() + _TWO_HOURS
    while pump.now_ns() < end_ns:
        pump.idle(end_ns)
    usage = engine.core.usage()
    counts = {name: usage[name] for name in (*_HELD, *_KEPT)}
    counts["tasks"] = pump.queue.alive + len(engine._spawned)
    if not engine.source.closed:
        counts["frames"] = engine.source.stats().outstanding
    return {name: count for name, count in counts.items() if count}


def _kept_objects() -> int:
    """How many flows and ends somebody still has."""
    return sum(isinstance(found, Flow | Endpoint) for found in gc.get_objects())


@contextlib.contextmanager
def no_leaks() -> Iterator[None]:
    """Every engine that serves to its end inside the block must hold nothing at the block's end.

    Raises:
        AssertionError: one does; the message says what and how much.
    """
    __tracebackhide__ = True
    served: list[Engine] = []
    serve = Engine.serve

    @functools.wraps(serve)
    async def noting(engine: Engine, app: Any) -> Any:
        summary = await serve(engine, app)
        served.append(engine)
        return summary

    setattr(Engine, "serve", noting)  # noqa: B010 - for all engines of the block, whoever makes them
    try:
        yield
    finally:
        setattr(Engine, "serve", serve)  # noqa: B010 - as it was
    leaks = [found for engine in served if (found := held(engine))]
    assert not leaks, f"held after the end of the run: {leaks}"
