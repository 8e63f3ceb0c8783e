import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Self, TypeVar, final

from aiomos._engine.taskface import TaskFace
from aiomos._engine.taskqueue import TaskQueue

_T_co = TypeVar("_T_co", covariant=True)

@final
class FlowTask(TaskFace[_T_co]):
    """A coroutine that the engine steps itself; to asyncio it looks like a task."""

    on_done: Callable[[Self], object] | None
    def __init__(
        self,
        coro: Coroutine[Any, Any, _T_co],
        queue: TaskQueue,
        *,
        name: object = None,
        context: Context | None = None,
        flow: object = None,
    ) -> None: ...
    @property
    def flow(self) -> Any: ...
    @property
    def _fut_waiter(self) -> asyncio.Future[Any] | None: ...
    def cancel(self, msg: object = None) -> bool: ...
    def cancelling(self) -> int: ...
    def step(self) -> int: ...
    def uncancel(self) -> int: ...

class Parking:
    """A place where at most one coroutine waits for the engine: ``await parking``."""

    def __init__(self, queue: TaskQueue) -> None: ...
    def __await__(self) -> Generator[Any]: ...
    def __next__(self) -> object: ...
    def waiting(self) -> bool: ...
    def wake(self) -> None: ...
