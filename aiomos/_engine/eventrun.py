"""The task behind a coroutine function of ``@app.on``: its events of one flow, one by one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Runner(Protocol):
    """Where the events come from, and who is told of failures (eventbridge.pyx)."""

    def take(self) -> Any:
        """The next event; None: there is none now, and the task ends."""

    def failed(self, error: Exception) -> None:
        """The function raised for an event; the next one comes all the same."""


async def run_events(
    runner: Runner, function: Callable[[Any, Any], Coroutine[Any, Any, object]], flow: Any
) -> None:
    """Gives the events at hand to the function, in order."""
    while (event := runner.take()) is not None:
        try:
            await function(flow, event)
        except Exception as error:
            runner.failed(error)
