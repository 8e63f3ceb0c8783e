"""Structured concurrency of one flow: tasks that do not outlive it."""

from __future__ import annotations

import asyncio
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

_T = TypeVar("_T")


class _Flow(Protocol):
    async def closed(self) -> object: ...
    async def sleep(self, seconds: float) -> None: ...


class FlowScope(asyncio.TaskGroup):
    """What :meth:`Flow.scope` gives: a task group whose tasks are cancelled after the flow."""

    def __init__(self, flow: _Flow, linger: float) -> None:
        super().__init__()
        self._flow = flow
        self._linger = linger
        self._children: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._body: asyncio.Task[Any] | None = None  # while it is inside the block
        self._cancelling = 0  # requests that it had when it entered, which are others' business
        self._cancelled_body = False

    async def __aenter__(self) -> FlowScope:
        await super().__aenter__()
        self._body = asyncio.current_task()
        assert self._body is not None  # the task group has refused to be entered outside of one
        self._cancelling = self._body.cancelling()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(  # type: ignore[override]  # True where the flow's end ended the block
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        ended = self._flow_ended_body(kind)
        try:
            await super().__aexit__(*(None, None, None) if ended else (kind, error, trace))
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None
        return ended

    def _flow_ended_body(self, kind: type[BaseException] | None) -> bool:
        """Whether the block was left for no other reason than that the flow is over."""
        body, self._body = self._body, None
        if not self._cancelled_body or body is None or body.uncancel() > self._cancelling:
            return False
        return kind is not None and issubclass(kind, asyncio.CancelledError)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        """Start a task of this scope, as :meth:`asyncio.TaskGroup.create_task`."""
        task = super().create_task(coro, name=name, context=context)
        self._children.add(task)
        task.add_done_callback(self._children.discard)
        return task

    async def _watch(self) -> None:
        """When the flow is over, and its time to linger too, everything inside is cancelled."""
        await self._flow.closed()
        await self._flow.sleep(self._linger)
        for task in self._children:
            task.cancel()
        if self._body is not None:
            self._cancelled_body = True
            self._body.cancel()
