"""Engines that serve now, and their handlers' tasks."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol


class Serving(Protocol):
    """An engine."""

    loop: asyncio.AbstractEventLoop | None

    def flow_tasks(self) -> list[asyncio.Task[Any]]:
        """Tasks of its handlers."""


#: Those that serve, of all loops.
serving: weakref.WeakSet[Serving] = weakref.WeakSet()


def flow_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """Tasks of handlers that have not ended, of all engines on a loop; by default the running one.

    :func:`asyncio.all_tasks` shows a flow task only once it has waited for something of asyncio's,
    or in debug mode: entering it there costs more than all the rest of its birth.

    Raises:
        RuntimeError: no loop is given, and none is running.
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    return {task for engine in serving if engine.loop is loop for task in engine.flow_tasks()}
