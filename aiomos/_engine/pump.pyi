"""One core's engine and its coroutines on one thread."""

import enum
from collections.abc import Callable, Iterable
from typing import Any

from aiomos._engine.core import Core
from aiomos._engine.filters import FrameFilter
from aiomos._engine.flowfilters import FilterSet
from aiomos._engine.handler import Handler
from aiomos._engine.ledger import Ledger
from aiomos._engine.roster import Roster
from aiomos._engine.source import Source
from aiomos._engine.taskqueue import TaskQueue
from aiomos._engine.writer import Writer

class Cycle(enum.IntEnum):
    CYCLE_WORKED = 0
    CYCLE_DUE = 1
    CYCLE_EMPTY = 2
    CYCLE_END = 3

class Pump:
    core: Core
    roster: Roster
    queue: TaskQueue
    source: Source
    received: int
    filtered: int
    unprocessed: int
    ledger: Ledger | None
    finishing: bool
    budget_spent: int
    handler_errors: int
    flow_endings: int
    on_call: Callable[[], object] | None
    def __init__(
        self,
        core: Core,
        source: Source,
        queue: TaskQueue,
        *,
        handlers: Iterable[Handler],
        filters: FilterSet,
        flow_class: type,
        endpoint_class: type,
        frame_filter: FrameFilter | None = None,
        writer: Writer | None = None,
        spawn: Callable[..., Any] | None = None,
        on_failure: Callable[..., None] | None = None,
        packet_handlers: Iterable[tuple[FrameFilter | None, Callable[..., Any], bool, type]] = (),
        packet_class: type | None = None,
        event_rules: Iterable[tuple[int, int, Callable[..., Any], bool, str | None]] = (),
        event_words: tuple[Any, ...],
        burst: int = 64,
        stop_after: int = 0,
        budget: int | None = None,
    ) -> None: ...
    def replace(
        self,
        handlers: Iterable[Handler],
        filters: FilterSet,
        *,
        packet_handlers: Iterable[tuple[FrameFilter | None, Callable[..., Any], bool, type]] = (),
        event_rules: Iterable[tuple[int, int, Callable[..., Any], bool, str | None]] = (),
    ) -> None: ...
    def detach(self) -> None: ...
    def call_at(self, due_ns: int, function: Callable[[], object]) -> list[Any]: ...
    def cancel_call(self, entry: list[Any]) -> None: ...
    def now_ns(self) -> int: ...
    def set_now(self, ns: int) -> None: ...
    def fire_next(self, limit_ns: int | None) -> bool: ...
    def foreign_waiters(self) -> int: ...
    def advance(self, limit_ns: int | None) -> bool: ...
    def turn(self, limit_ns: int | None = None) -> Cycle: ...
    def turns(self, most: int) -> Cycle: ...
    def idle_until(self, wall_ns: int) -> int | None: ...
    def next_due_ns(self) -> int | None: ...
    def idle(self, limit_ns: int | None = None) -> bool: ...
    def step_tasks(self) -> None: ...
    def close_flows(self, reason: int) -> None: ...
    def drop_frames(self) -> None: ...
    @property
    def is_closed(self) -> bool: ...
