"""A bounded queue of events."""

from typing import Any

from aiomos._engine.task import Parking

class EventQueue:
    ended: bool
    def take(self) -> Any: ...
    def wait(self) -> Parking: ...
    def __len__(self) -> int: ...
