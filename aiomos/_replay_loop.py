"""The event loop of replays: an asyncio loop whose clock is capture time.

`BaseEventLoop._run_once` asks the selector how long to sleep at exactly one place, and sleeping is
what a replay must not do. So the selector of `ReplayLoop` hands that question back to the loop:

* timeout 0, the loop is busy: let it run. Real descriptors are polled now and then. After
  `TURN_LIMIT` busy iterations in a row the turn is cut: the driver gets one burst anyway.
* otherwise the loop is idle, and the first of these that applies is done:

  1. real descriptors that are ready are served;
  2. real work in flight holds the clock (`_inflight`): sleep in the real ``select``;
  3. `CaptureDriver.advance` moves the capture on, at most to the loop's earliest timer;
  4. no frames are left: the clock jumps to the earliest timer;
  5. no timers either: sleep in the real ``select`` (signals, results of threads).

Neither tasks nor callbacks run inside ``select``: the driver only steps what is not asyncio's.

**Who counts as waiting.** Work in flight holds the clock while some task waits for more than a
timer: the driver has such flow tasks (`CaptureDriver.foreign_waiters`), or an ordinary task, not in
`ReplayLoop.own_tasks`, is suspended elsewhere than in ``asyncio.sleep``. At an idle moment every
task is suspended, so its innermost coroutine tells; what that one waits for is not looked at. A
parent that waits for sleeping children therefore counts: this errs towards holding, which costs
real time only. Libraries that bring descriptors of their own by ``add_reader`` are not counted;
``loop.in_flight.hold("...")`` counts any block of code.

**Timers** are due at the nearest nanosecond, and fire in order of (due time, creation): asyncio's
heap keeps no order among equal times, which are rare on a real clock and common on this one.
"""

from __future__ import annotations

import asyncio
import collections
import math
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, TypeVarTuple

import attrs

from ._inflight import InFlight, WorkingLoop

__all__ = ["CaptureDriver", "ReplayLoop", "ReplayLoopStats"]

TURN_LIMIT = 1_000  # busy iterations in a row before the capture moves on regardless
POLL_EVERY = 32  # selects between polls of real descriptors, where only signals can be pending
SWEEP_AFTER = 4_096  # timers made during one advance before asyncio must sweep the cancelled ones
LONGEST_BLOCK = 3_600.0  # real seconds; epoll takes no infinity, which a patience may be
NEVER_NS = 4 * 10**18  # 126 years after the start: later timers (infinity too) never fire
COARSE_NS = 2**22 * 10**9  # 48 days: from here on a float of seconds does not hold half a ns
_TICK = 1e-9  # seconds
_HALF_NS = 0.5e-9  # seconds; the loop fires timers up to this much early: the nearest nanosecond

_Ts = TypeVarTuple("_Ts")
_Events = list[tuple[selectors.SelectorKey, int]]


class CaptureDriver(Protocol):
    """What moves capture time; engine times are integer nanoseconds and never go back."""

    def now_ns(self) -> int:
        """Engine time. Its value when the driver is attached becomes the loop's origin."""

    def set_now(self, ns: int) -> None:
        """Move engine time forward to `ns`; called only after `advance` returned False."""

    def fire_next(self, limit_ns: int | None) -> bool:
        """Move on to the driver's own next timer, if due by `limit_ns`, and fire it.

        Called only after `advance` returned False. Return whether there was one.
        """

    def advance(self, limit_ns: int | None) -> bool:
        """Process bursts; called when the loop is idle, and once when a turn is cut.

        Process at least one burst or timer, and return True as soon as, at the end of a burst,
        ``loop.has_ready()`` is true; or a flow task newly waits for a foreign future (so that the
        loop can see whether that is real work); or ``loop.should_yield()``, asked every few
        bursts, is true; or every frame before `limit_ns`, the due time of the earliest loop timer,
        is processed and the clock stands exactly there. Tasks stepped here may make earlier timers:
        compare with ``loop.next_due_ns()`` before each burst. Return False, without moving the
        clock to `limit_ns`, when nothing was processed because nothing is left.
        """

    def foreign_waiters(self) -> int:
        """How many flow tasks are suspended on futures that are not the engine's."""


class _NoDriver:
    """Stands in until a driver is attached: no frames, and a clock that only jumps."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def set_now(self, ns: int) -> None:
        self._now_ns = ns

    def fire_next(self, limit_ns: int | None) -> bool:
        return False

    def advance(self, limit_ns: int | None) -> bool:
        return False

    def foreign_waiters(self) -> int:
        return 0


@attrs.frozen
class ReplayLoopStats:
    """Counters of a `ReplayLoop` since its creation."""

    turn_limit: int  # turns cut after `TURN_LIMIT` busy iterations
    patience_expired: int  # operations that outlasted their patience
    advances: int  # calls of the driver
    polls: int  # real selects that did not wait
    blocks: int  # real selects that waited


class _Due(float):
    """When a timer is due: seconds for asyncio; for its heap, (nanoseconds, creation)."""

    __slots__ = ("created", "ns")
    ns: int  # since the loop's origin
    created: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Due):
            return self.ns < other.ns or (self.ns == other.ns and self.created < other.created)
        return super().__lt__(other)


def _due(when: float, created: int) -> _Due:
    """The time of a timer, at the nearest nanosecond.

    Where floats are too coarse for asyncio's tolerance the seconds are one step early, or asyncio
    would find the timer not yet due at its own due time, and ask again for ever.
    """
    ns = round(min(max(when, 0.0), NEVER_NS / 1e9) * 1e9)
    due = _Due(ns / 1e9 if ns < COARSE_NS else math.nextafter(ns / 1e9, 0.0))
    due.ns = ns
    due.created = created
    return due


class _CaptureSelector(selectors.DefaultSelector):
    """The platform's selector, whose ``select`` asks the loop first."""

    control: Callable[[float | None], _Events]

    def select(self, timeout: float | None = None) -> _Events:
        return self.control(timeout)

    def real_select(self, timeout: float | None) -> _Events:
        return super().select(timeout)


class ReplayLoop(WorkingLoop):
    """asyncio on capture time; see the module's text.

    Args:
        driver: moves capture time; may also be set later, by the attribute `driver`.
        io_patience: for how many real seconds one operation may hold the clock.

    Attributes:
        has_ready: whether the loop has something to run (a number, for truth). A built-in method
            without a Python frame, because the driver calls it after every burst.
        exhausted: whether the driver said that nothing is left; timers run on after that.
        on_exhausted: called once, as a callback of the loop, when that happens.
        own_tasks: tasks of the runner's, whose waiting holds nothing.
    """

    # asyncio's own, unchanged in every supported version; read here, never written.
    _ready: collections.deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, driver: CaptureDriver | None = None, io_patience: float = 5.0) -> None:
        self.in_flight = InFlight(io_patience, self._work_began)
        self._nobody = _NoDriver()
        self._driver: CaptureDriver = self._nobody
        self._now_ns = self._driver.now_ns
        self._origin_ns = 0
        self._real = _CaptureSelector()
        self._real.control = self._select
        super().__init__(self._real)
        self._clock_resolution = _HALF_NS
        self.has_ready: Callable[[], int] = self._ready.__len__
        self.on_exhausted: Callable[[], object] | None = None
        self.own_tasks: set[asyncio.Task[Any]] = set()
        self._advancing = self._poll_now = self.exhausted = False
        self._created = self._turn = self._selects = self._sweep_at = 0
        self._cut = self._advances = self._polls = self._blocks = 0
        if driver is not None:
            self.driver = driver

    @property
    def driver(self) -> CaptureDriver | None:
        """What moves the capture; None: only timers move the clock.

        A new one goes on at the loop time that the old one reached.
        """
        return None if self._driver is self._nobody else self._driver

    @driver.setter
    def driver(self, driver: CaptureDriver | None) -> None:
        passed_ns = self._now_ns() - self._origin_ns
        self._driver = self._nobody if driver is None else driver
        self._now_ns = self._driver.now_ns
        self._origin_ns = self._now_ns() - passed_ns
        self.exhausted = False

    @property
    def stats(self) -> ReplayLoopStats:
        """The counters as they are now."""
        expired = self.in_flight.expired
        return ReplayLoopStats(self._cut, expired, self._advances, self._polls, self._blocks)

    # -- time and timers

    def time(self) -> float:
        """Capture time in seconds since the driver's first time."""
        return (self._now_ns() - self._origin_ns) / 1e9

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As in asyncio; every timer of the loop comes through here."""
        self._created += 1
        if when > (now := self.time()):
            # Later by less than a ns is later all the same: time goes on to it, or whoever sleeps
            # up to a deadline would find it not yet reached for ever.
            when = max(when, now + _TICK)
        return super().call_at(_due(when, self._created), callback, *args, context=context)

    def next_due_ns(self) -> int | None:
        """Engine time of the earliest timer; it may be one that was cancelled a moment ago."""
        if not self._scheduled:
            return None
        due = self._scheduled[0].when()
        assert isinstance(due, _Due)
        return None if due.ns >= NEVER_NS else self._origin_ns + due.ns

    # -- what the driver asks

    def should_yield(self) -> bool:
        """Whether the driver must return though nothing is ready; to be asked every 16 bursts.

        True when a descriptor is ready (signals write to one), or when so many timers were made
        that asyncio must have a chance to sweep the cancelled ones.
        """
        self._polls += 1
        self._poll_now = bool(self._real.real_select(0))
        return self._poll_now or bool(self._ready) or len(self._scheduled) > self._sweep_at

    def _work_began(self) -> None:
        """Make the driver return, so that the loop can hold the clock."""
        if self._advancing:
            self.call_soon(self.has_ready)  # any callback does

    # -- the place of select

    def _select(self, timeout: float | None) -> _Events:
        if timeout is not None and timeout <= 0:
            return self._busy()
        self._turn = 0
        return self._idle()

    def _busy(self) -> _Events:
        self._turn += 1
        if self._turn >= TURN_LIMIT:
            self._cut_turn()
        return self._poll_sometimes()

    def _cut_turn(self) -> None:
        self._turn = 0
        if self._held_for() is None:
            self._cut += 1
            self._move()

    def _idle(self) -> _Events:
        if events := self._poll_sometimes():
            return events
        if (left := self._held_for()) is not None:
            return self._block(left)
        if self._move():
            return self._poll() if self._poll_now else []
        return self._block(None)

    def _move(self) -> bool:
        """Move the capture on by a stretch; False if neither frames nor timers are left."""
        if self._advance() or self._end_of_capture():
            return True
        due_ns = self.next_due_ns()
        if self._driver.fire_next(due_ns):
            return True
        if due_ns is not None:
            self._driver.set_now(due_ns)
        return due_ns is not None

    def _advance(self) -> bool:
        """Call the driver; whether it did anything."""
        before = len(self._ready)
        self._advances += 1
        self._sweep_at = len(self._scheduled) + SWEEP_AFTER
        self._advancing = True
        try:
            return self._driver.advance(self.next_due_ns()) or len(self._ready) > before
        finally:
            self._advancing = False

    def _end_of_capture(self) -> bool:
        """Note that the driver has nothing left; whether that is news."""
        if self.exhausted or self._driver is self._nobody:
            return False
        self.exhausted = True
        if self.on_exhausted is not None:
            self.call_soon(self.on_exhausted)
        return True

    def _held_for(self) -> float | None:
        return self.in_flight.held_for(self._someone_waits)

    def _someone_waits(self) -> bool:
        if self._driver.foreign_waiters() > 0:
            return True
        tasks = asyncio.all_tasks(self) - self.own_tasks
        return any(isinstance(task, asyncio.Task) and not _sleeps(task) for task in tasks)

    # -- real descriptors

    def _poll_sometimes(self) -> _Events:
        """Poll if there are descriptors besides the self-pipe, else now and then for signals."""
        self._selects += 1
        if self._selects % POLL_EVERY == 0 or len(self._real.get_map()) > 1:
            return self._poll()
        return []

    def _poll(self) -> _Events:
        self._polls += 1
        self._poll_now = False
        return self._note_received(self._real.real_select(0))

    def _block(self, seconds: float | None) -> _Events:
        self._blocks += 1
        limit = None if seconds is None else min(seconds, LONGEST_BLOCK)
        return self._note_received(self._real.real_select(limit))

    def _note_received(self, events: _Events) -> _Events:
        for key, mask in events:
            if mask & selectors.EVENT_READ:
                self.in_flight.received(key.fd)
        return events


def _sleeps(task: asyncio.Task[Any]) -> bool:
    """Whether a suspended task waits for ``asyncio.sleep``: its innermost coroutine is that."""
    coroutine: object = task.get_coro()
    while hasattr(inner := getattr(coroutine, "cr_await", None), "cr_code"):
        coroutine = inner
    return getattr(coroutine, "cr_code", None) is asyncio.sleep.__code__
