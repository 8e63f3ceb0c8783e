"""Events of one flow, as a coroutine takes them; timers of one flow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from aiomos.events import Event

if TYPE_CHECKING:
    from aiomos._engine.eventqueue import EventQueue
    from aiomos._engine.flowview import FlowBase
    from aiomos._engine.task import Parking


def _as_it_is(parking: Parking) -> Parking:
    return parking


class EventStream:
    """Events of one flow from the moment it was made, to the flow's end: ``async for``.

    Bounded: what does not fit is counted, and :class:`EventsLost` stands in its place. It stops
    listening when it is closed or no longer referred to.
    """

    __slots__ = ("_flow", "_queue")

    def __init__(self, flow: FlowBase, queue: EventQueue | None) -> None:
        self._flow = flow
        self._queue = queue

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None: the flow has ended, and all were taken.

        Raises:
            TimeoutError: none came within ``timeout`` seconds of the engine's clock.
        """
        if timeout is not None:
            with self._flow._deadline(timeout) as deadline:
                return await self._next(deadline.of)
        return await self._next(_as_it_is)

    async def _next(self, waiting: Callable[[Parking], Parking]) -> Event | None:
        queue = self._queue
        while queue is not None:
            event: Event | None = queue.take()
            if event is not None or queue.ended:
                return event
            await waiting(queue.wait())
        return None

    def __len__(self) -> int:
        """Events that can be taken without waiting."""
        return 0 if self._queue is None else len(self._queue)

    def close(self) -> None:
        """Listen no more. What was queued can still be taken."""
        if self._queue is not None and not self._queue.ended and self._flow._events is not None:
            self._flow._events.unsubscribe(self._flow, self._queue, 0xFFFFFFFF)

    async def aclose(self) -> None:
        """The same, for :func:`contextlib.aclosing`."""
        self.close()

    def __del__(self) -> None:
        self.close()


class Timer:
    """A timer of one flow, made by ``flow.after``."""

    __slots__ = ("_entry", "_flow")

    def __init__(self, flow: FlowBase, entry: list[Any] | None) -> None:
        self._flow = flow
        self._entry = entry

    def cancel(self) -> bool:
        """Forget it; False: it fired or was cancelled before, or the flow is over."""
        bridge = self._flow._events
        if self._entry is None or bridge is None:
            return False
        return bridge.cancel(self._flow, self._entry)
