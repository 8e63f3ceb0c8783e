"""Events of the engine to functions and coroutines."""

from collections.abc import Callable
from typing import Any

from aiomos._engine.eventqueue import EventQueue
from aiomos._engine.flowview import FlowBase

class EventBridge:
    def subscribe(
        self,
        view: FlowBase,
        kinds: int,
        hooks: int,
        function: Callable[..., Any],
        is_async: bool,
        expression: str | None,
    ) -> None: ...
    def open_queue(
        self, view: FlowBase, kinds: int, hooks: int, limit: int, once: bool
    ) -> EventQueue: ...
    def unsubscribe(self, view: FlowBase, what: object, kinds: int) -> int: ...
    def after(
        self,
        view: FlowBase,
        seconds: float,
        function: Callable[..., Any] | None,
        value: object,
    ) -> list[Any] | None: ...
    def cancel(self, view: FlowBase, entry: list[Any]) -> bool: ...
    def detach(self) -> None: ...
