"""Who drives the pump: the project's own replay loop, or a callback on somebody else's."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from aiomos._engine import names
from aiomos._engine.pump import Cycle, Pump
from aiomos._flow import Flow
from aiomos._functions import name_of
from aiomos._replay_loop import ReplayLoop
from aiomos._reports import report_failure
from aiomos._rules import EveryRule

log = logging.getLogger("aiomos")

IDLE_POLL = 0.002  # seconds between looks at a live source that has no descriptor
MOST_BURSTS = 16  # of a live source in a row, where no handler had anything to do
LINGER_POLL = 0.01  # seconds between looks whether handlers have ended
HEARTBEAT = 0.25  # seconds that engine time may stay behind while handlers wait and nothing comes


class Driver:
    """What replay loops and other loops have in common."""

    def __init__(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, linger: float
    ) -> None:
        self.pump = pump
        self.loop = loop
        self.stop = stop
        self.linger_seconds = linger
        self.failed = 0  # times that an every handler raised
        self.alive: Callable[[], int] = lambda: pump.queue.alive  # handlers that have not ended
        self.on_failure: Callable[[Flow | None, BaseException, str], None] = report_failure
        pump.queue.on_runnable = self._runnable

    def look(self) -> None:
        """See soon whether there is something to do."""

    def finish(self) -> None:
        """The source is over as soon as it has nothing."""
        self.pump.finishing = True
        self.look()

    def close(self) -> None:
        """Lets go of loop and pump."""
        self.pump.queue.on_runnable = None

    def _runnable(self) -> None:
        self.loop.call_soon(self.pump.step_tasks)

    def ticker(self, rule: EveryRule) -> asyncio.Task[Any]:
        """The task behind one ``@app.every``."""
        return self.loop.create_task(self._tick(rule), name=f"every {rule.seconds:g} s")

    async def _tick(self, rule: EveryRule) -> None:
        due = self.now()
        while True:
            due = max(due + rule.seconds, self.now())
            await self.sleep_until(due)
            try:
                await rule.function()
            except Exception as error:
                self.failed += 1
                self.on_failure(None, error, name_of(rule.function))

    def now(self) -> float:
        raise NotImplementedError

    async def sleep_until(self, when: float) -> None:
        raise NotImplementedError

    async def until_end(self) -> None:
        raise NotImplementedError

    async def _close_flows(self) -> None:
        """From a callback of the loop: inside a task, no flow task could be stepped."""
        closed = self.loop.create_future()

        def close() -> None:
            try:
                self._last_frames()
                self.pump.close_flows(names.CLOSE_REASONS.index("SHUTDOWN"))
            except BaseException as error:  # else who waits would wait for ever
                closed.set_exception(error)
            else:
                closed.set_result(None)

        self.loop.call_soon(close)
        await closed

    def _last_frames(self) -> None:
        """Before a run is stopped."""

    async def linger(self, alive: Callable[[], int]) -> None:
        """Up to linger seconds for handlers to end by themselves."""
        deadline = self.loop.time() + self.linger_seconds
        while alive() and (left := deadline - self.loop.time()) > 0:
            self._lingering()
            await asyncio.sleep(min(left, LINGER_POLL))

    def _lingering(self) -> None:
        """Once in a while during linger()."""


def driver_of(
    pump: Pump,
    loop: asyncio.AbstractEventLoop,
    stop: asyncio.Event,
    linger: float,
    busy_poll: bool = False,
) -> Driver:
    if pump.source.live:
        return Live(pump, loop, stop, linger, busy_poll)
    if isinstance(loop, ReplayLoop):
        return Replaying(pump, loop, stop, linger)
    return Attached(pump, loop, stop, linger)


class Replaying(Driver):
    """On the project's own loop, which asks the pump for work when it has none (capture time)."""

    loop: ReplayLoop

    def __init__(self, pump: Pump, loop: ReplayLoop, stop: asyncio.Event, linger: float) -> None:
        super().__init__(pump, loop, stop, linger)
        self._end = asyncio.Event()
        loop.on_exhausted = self._end.set
        loop.driver = pump

    def close(self) -> None:
        super().close()
        self.loop.on_exhausted = None

    def now(self) -> float:
        return self.loop.time()

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(when - self.loop.time())

    async def until_end(self) -> None:
        ends = [self.loop.create_task(e.wait()) for e in (self._end, self.stop)]
        ours: set[asyncio.Task[Any]] = {*ends}
        if (mine := asyncio.current_task(self.loop)) is not None:
            ours.add(mine)
        self.loop.own_tasks |= ours  # our waiting holds no capture time
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.loop.own_tasks -= ours
            for task in ends:
                task.cancel()
        if not self._end.is_set():
            await self._close_flows()

    async def linger(self, alive: Callable[[], int]) -> None:
        """When somebody has stopped the run, at most so many real seconds, too: work in flight
        would hold the clock."""
        if not self.stop.is_set():
            await super().linger(alive)
            return
        over = asyncio.Event()
        timer = threading.Timer(
            self.linger_seconds, self.loop.call_soon_threadsafe, args=(over.set,)
        )
        timer.start()
        ends = {self.loop.create_task(w) for w in (super().linger(alive), over.wait())}
        self.loop.own_tasks |= ends
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self.loop.own_tasks -= ends
            for task in ends:
                task.cancel()


class Attached(Driver):
    """On somebody else's loop: a callback a burst; engine timers run on capture time."""

    def __init__(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, linger: float
    ) -> None:
        super().__init__(pump, loop, stop, linger)
        self._end: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.Handle | None = None
        self._warn = not pump.source.live

    def close(self) -> None:
        super().close()
        if self._timer is not None:
            self._timer.cancel()

    def now(self) -> float:
        return self.pump.now_ns() / 1e9

    async def sleep_until(self, when: float) -> None:
        woken = self.loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        entry = self.pump.call_at(round(when * 1e9), wake)
        try:
            await woken
        finally:
            self.pump.cancel_call(entry)

    async def linger(self, alive: Callable[[], int]) -> None:
        """The capture's clock runs on first, from timer to timer; then handlers get real time."""
        deadline_ns = self.pump.now_ns() + round(self.linger_seconds * 1e9)
        while alive() and await self._fire_next(deadline_ns):
            await asyncio.sleep(0)
        await super().linger(alive)

    async def _fire_next(self, deadline_ns: int) -> bool:
        """From a callback of the loop: inside a task, no flow task could be stepped."""
        fired: asyncio.Future[bool] = self.loop.create_future()
        self.loop.call_soon(lambda: fired.set_result(self.pump.fire_next(deadline_ns)))
        return await fired

    def _turn(self) -> None:
        """One cycle, then the loop's turn."""
        try:
            came_to = self.pump.turn()
        except BaseException as error:
            self._finish(error)
            return
        if self.stop.is_set():
            self.pump.close_flows(names.CLOSE_REASONS.index("SHUTDOWN"))
            self._finish(None)
        elif came_to == Cycle.CYCLE_END:
            self._finish(None)
        elif came_to == Cycle.CYCLE_EMPTY:
            self._timer = self.loop.call_later(IDLE_POLL, self._turn)
        else:
            self._timer = self.loop.call_soon(self._turn)
        if self._warn and self.pump.queue.foreign_waiters:
            self._warn = False
            log.warning(
                "a handler waits for asyncio while a capture is replayed on a loop with its own "
                "clock: the replay goes on meanwhile; aiomos.replay() keeps capture time"
            )

    def _finish(self, error: BaseException | None) -> None:
        self._timer = None
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    async def until_end(self) -> None:
        self._timer = self.loop.call_soon(self._turn)  # behind the first step of the tickers
        await self._end


class Live(Driver):
    """On any loop, with frames that come when they come: sleeps until some do, or a timer is due.

    Engine time is that of the frames and, between them, of the machine's clock, by which they are
    stamped. A burst is followed by one iteration of the loop (semantics.md 1).
    """

    def __init__(
        self,
        pump: Pump,
        loop: asyncio.AbstractEventLoop,
        stop: asyncio.Event,
        linger: float,
        busy_poll: bool,
    ) -> None:
        super().__init__(pump, loop, stop, linger)
        self._busy_poll = busy_poll
        self._end: asyncio.Future[None] = loop.create_future()
        self._soon: asyncio.Handle | None = None  # the next look, if it does not wait
        self._timer: asyncio.TimerHandle | None = None  # ... or the latest time of it
        self._fd = pump.source.fileno()
        self._watching = False  # from until_end() to its end
        pump.on_call = self._look_soon  # what is due next may be due sooner now
        self._idle()

    def close(self) -> None:
        super().close()
        self._pause()

    def _pause(self) -> None:
        """No look any more."""
        self._watching = False
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        if self._fd >= 0:
            self.loop.remove_reader(self._fd)
            self._fd = -1

    def now(self) -> float:
        return self.loop.time()

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(when - self.loop.time())

    async def until_end(self) -> None:
        if self._fd >= 0:
            self.loop.add_reader(self._fd, self._readable)
        self._watching = True
        self._look_soon()
        stopped = self.loop.create_task(self.stop.wait())
        ends: list[asyncio.Future[Any]] = [self._end, stopped]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            self._pause()
        if self._end.done():
            self._end.result()
        await self._close_flows()

    def _last_frames(self) -> None:
        """What was received is processed, so that the sums are right."""
        for _ in range(MOST_BURSTS):
            if self.pump.unprocessed:
                self.pump.turn()

    def _lingering(self) -> None:
        self._runnable()

    # ---- a look ------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._soon is None:
            self._look()

    def look(self) -> None:
        self._look_soon()

    def _look_soon(self) -> None:
        if self._watching and self._soon is None and not self._end.done():
            self._soon = self.loop.call_soon(self._look)

    def _runnable(self) -> None:
        """A handler was woken by something else than traffic."""
        self.loop.call_soon(self._idle_and_step)

    def _idle_and_step(self) -> None:
        if self._soon is None:  # else time goes on with the frames
            self._idle()
        self.pump.step_tasks()
        self._look_soon()  # for what they wait for now

    def _look(self) -> None:
        """One cycle; then at once another, or none until something comes."""
        self._soon = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            came_to = self.pump.turns(MOST_BURSTS)
            if came_to == Cycle.CYCLE_END:
                self._end.set_result(None)
            elif came_to != Cycle.CYCLE_EMPTY:
                self._look_soon()
            else:
                self._wait(self._idle())
        except BaseException as error:
            if not self._end.done():
                self._end.set_exception(error)

    def _idle(self) -> float | None:
        """Moves engine time on; seconds until something is due, None: nothing is."""
        due_ns = self.pump.idle_until(time.time_ns())
        return None if due_ns is None else due_ns / 1e9

    def _wait(self, seconds: float | None) -> None:
        if self._busy_poll:
            self._look_soon()
            return
        waits = [] if seconds is None else [seconds]
        if self._fd < 0:
            waits.append(IDLE_POLL)
        elif self.alive():
            waits.append(HEARTBEAT)
        if waits:
            self._timer = self.loop.call_later(min(waits), self._look)
