"""An engine that gets its traffic word by word, inside a test that is a coroutine.

The test's loop is the loop of replays (:class:`ReplayLoop`), so test, handlers and engine share one
clock, and time passes only when nothing else is left to do. `Stepper` is what moves that clock:
frames that were handed over first; then whoever waits for all to be still; then time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from aiomos._app import App
from aiomos._drivers import Driver, Replaying
from aiomos._engine.errors import ConfigError
from aiomos._engine.pump import Cycle, Pump
from aiomos._engine.source import MemorySource
from aiomos._engine.source import RawFrame as Frame
from aiomos._replay_loop import ReplayLoop
from aiomos._rules import FlowHandler
from aiomos.events import Event
from aiomos.testing._impair import Impair, Spoiler
from aiomos.testing._observed import ObservedEngine
from aiomos.testing._result import Failure, Result, raise_all
from aiomos.testing._run import Failures, check_failures
from aiomos.testing._script import START, Player, Script, ns
from aiomos.testing._traffic import Traffic, frames_of, read

log = logging.getLogger("aiomos.testing")

NO_CLOCK = (
    "the running loop has the machine's clock. Let the test ask for the fixture aiomos_engine, or "
    "mark it with pytest.mark.aiomos (pytest-asyncio 1.4 or newer); elsewhere run it by "
    "asyncio.Runner(loop_factory=aiomos.testing.new_event_loop)"
)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop whose clock is virtual: it moves on when nothing is left to do, and never waits."""
    return ReplayLoop()


class Stepper(Replaying):
    """Moves the clock of the test's loop; see :class:`aiomos._replay_loop.CaptureDriver`."""

    def __init__(self, pump: Pump, loop: ReplayLoop, stop: asyncio.Event, linger: float) -> None:
        pump.set_now(ns(START))
        super().__init__(pump, loop, stop, linger)
        loop.on_exhausted = None  # nothing to do is not yet the end
        loop.driver = self
        self._waiting: list[asyncio.Future[None]] = []

    def close(self) -> None:
        super().close()
        self.loop.driver = None

    def still(self) -> asyncio.Future[None]:
        """Done when every frame was processed and nobody has anything to do at this time."""
        future = self.loop.create_future()
        self._waiting.append(future)
        return future

    # -- what the loop asks --

    def now_ns(self) -> int:
        """Engine time."""
        return self.pump.now_ns()

    def set_now(self, now_ns: int) -> None:
        """After the end of the traffic."""
        self.pump.set_now(now_ns)

    def fire_next(self, limit_ns: int | None) -> bool:
        """After the end of the traffic."""
        return self.pump.fire_next(limit_ns)

    def foreign_waiters(self) -> int:
        """Flow tasks that wait for futures which are not the engine's."""
        return self.pump.foreign_waiters()

    def advance(self, limit_ns: int | None) -> bool:
        """One thing at a time, and back to the loop."""
        came_to = self.pump.turn(limit_ns)
        if came_to == Cycle.CYCLE_END:
            self._end.set()
            return False
        if came_to != Cycle.CYCLE_EMPTY:
            return True
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return bool(waiting) or self.pump.idle(limit_ns)


class _Serving(ObservedEngine):
    """An observed engine that a Stepper drives."""

    stepper: Stepper
    began: asyncio.Future[None]

    def _make_driver(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event
    ) -> Driver:
        assert isinstance(loop, ReplayLoop)
        self.stepper = Stepper(pump, loop, stop, self._linger)
        loop.call_soon(self.began.set_result, None)
        return self.stepper


class SteppedEngine:
    """What ``async with testing.engine(app) as engine`` gives."""

    def __init__(
        self,
        app: App | FlowHandler,
        impair: Impair | None,
        failures: Failures,
        events: Iterable[type[Event]],
        options: dict[str, Any],
    ) -> None:
        check_failures(failures)
        self._app = app
        self._spoiler = None if impair is None else impair.spoiler()
        self._source = MemorySource(segment_seed=_pieces(self._spoiler))
        if self._spoiler is not None:
            options = {"burst": self._spoiler.burst(), **options}
        self._engine = _Serving(self._source, events=events, **options)
        self._failures = failures
        self._raised = 0  # failures that the test was told of
        self._scripts: dict[int, tuple[Script, Player, int]] = {}
        self._serving: asyncio.Task[Any] | None = None

    # -- begin and end --

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, ReplayLoop):
            raise ConfigError(NO_CLOCK)
        if isinstance(loop.driver, Stepper):
            raise ConfigError("one engine at a time: the clock of a loop follows one")
        self._engine.began = loop.create_future()
        self._serving = loop.create_task(self._engine.serve(self._app), name="aiomos engine")
        await self._until(self._engine.began)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        assert self._serving is not None
        if exc is not None:
            self._engine.stop()
        self._source.finish()
        await asyncio.wait([self._serving])
        if exc is None:
            self._serving.result()
            self._raise_failures()
        elif not self._serving.cancelled() and (error := self._serving.exception()) is not None:
            log.error("the engine failed after the test did", exc_info=error)

    # -- the two verbs --

    async def play(self, *traffic: Traffic) -> None:
        """Hand traffic over, and wait until all that follows from it has been done.

        Of a script that was played before, only what was added since. It begins now; so does a
        capture, and so do frames whose times are past: what lies between them stays.

        Raises:
            SourceError: a capture cannot be read.
            Exception: what a handler raised meanwhile.
        """
        __tracebackhide__ = True
        for frame in frames_of([self._new(one) for one in traffic], self._spoiler):
            self._source.push(
                frame.data,
                frame.time_ns,
                link_type=frame.link_type,
                wire_len=frame.wire_len,
            )
        await self._still()

    async def wait(self, seconds: float) -> None:
        """Let time go by: timers and time-outs of engine, loop and handlers fire in their order.

        Raises:
            ConfigError: time does not go back.
            Exception: what a handler raised meanwhile.
        """
        __tracebackhide__ = True
        if not seconds >= 0:
            raise ConfigError(f"wait({seconds!r}): a number of seconds from 0 up")
        await self._still()
        await asyncio.sleep(seconds)
        await self._still()

    # -- what can be seen --

    @property
    def time(self) -> float:
        """Capture time now, seconds since the epoch."""
        return self._now_ns / 1e9

    @property
    def result(self) -> Result:
        """What it came to so far; its flows are those that have ended."""
        return self._engine.result()

    # -- inside --

    @property
    def _now_ns(self) -> int:
        return self._engine.stepper.now_ns()

    def _new(self, one: Traffic) -> list[Frame]:
        """Frames that were not played yet, from now on."""
        if not isinstance(one, Script):
            frames = read(one)
            late_ns = max(0, self._now_ns - frames[0].time_ns) if frames else 0
            return [frame._replace(time_ns=frame.time_ns + late_ns) for frame in frames]
        _, player, played = self._scripts.get(id(one)) or (one, one.player(), 0)
        player.cut = None if self._spoiler is None else self._spoiler.cut
        player.next_ns = max(player.next_ns, self._now_ns)
        self._scripts[id(one)] = (one, player, len(one.steps))
        return player.play(one.steps[played:])

    async def _still(self) -> None:
        __tracebackhide__ = True
        await self._until(self._engine.stepper.still())
        self._raise_failures()

    async def _until(self, future: asyncio.Future[None]) -> None:
        """Until then, unless the engine breaks off."""
        assert self._serving is not None
        await asyncio.wait([future, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            self._serving.result()
            raise ConfigError("the engine was stopped")

    def _raise_failures(self) -> None:
        __tracebackhide__ = True
        new: list[Failure] = self._engine.notes.failures[self._raised :]
        self._raised += len(new)
        if self._failures == "raise":
            raise_all(new)


def _pieces(spoiler: Spoiler | None) -> int:
    return 0 if spoiler is None else spoiler.segment_seed()


def engine(
    app: App | FlowHandler,
    *,
    impair: Impair | None = None,
    failures: Failures = "raise",
    events: Iterable[type[Event]] = (Event,),
    **options: Any,
) -> SteppedEngine:
    """An engine inside a running test, which gets traffic step by step, on a virtual clock.

    ``async with testing.engine(app) as engine: await engine.play(talk.handshake())``

    At the end of the block the traffic ends, as a capture does. The loop must have a virtual
    clock, as :func:`new_event_loop` makes it; tests with the fixture ``aiomos_engine`` or the
    mark ``aiomos`` have one.

    Args:
        app: what is tested.
        impair: what a network does to the traffic.
        failures: ``"raise"`` what a handler raised, at the next word, or ``"keep"`` it in the
            result.
        events: classes of those that the result has.
        options: those of :class:`aiomos.Engine`.

    Raises:
        ConfigError: an option has no such value, or the running loop has another clock.
    """
    return SteppedEngine(app, impair, failures, events, options)
