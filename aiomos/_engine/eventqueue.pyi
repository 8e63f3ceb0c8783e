"""A bounded queue of events."""

from collections.abc import Awaitable
from typing import Any

class EventQueue:
    ended: bool
    def take(self) -> Any: ...
    def wait(self) -> Awaitable[None]: ...
    def __len__(self) -> int: ...
