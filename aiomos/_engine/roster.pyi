"""The handlers of an engine, each with its bit in the masks of flows."""

from collections.abc import Iterable

from aiomos._engine.core import Core
from aiomos._engine.flowfilters import FilterSet
from aiomos._engine.handler import Handler

class Roster:
    by_bit: list[Handler | None]
    started: int
    def __init__(self, core: Core) -> None: ...
    def free_bits(self) -> list[int]: ...
    def take(self, handlers: Iterable[Handler], filters: FilterSet) -> None: ...
    def awaits(self, handlers: Iterable[Handler]) -> bool: ...
