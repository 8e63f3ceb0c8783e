"""Real work in flight holds the capture clock of ReplayLoop; all other waiting does not.

The driver is a capture of many frames that plays in a few milliseconds when nothing holds it, and
real work takes longer than that: a clock that is not held is seen at the end of the capture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiomos._replay_loop import ReplayLoop

FRAMES = 2000  # one a millisecond of capture time
SLOW = 0.05  # seconds of real time that a piece of work takes: longer than the whole capture


class Ticks:
    """A capture of `FRAMES` frames that wake nobody, except those in `calls`, by number."""

    def __init__(self) -> None:
        self.loop: ReplayLoop
        self.now = 0
        self.played = 0
        self.waiters = 0
        self.calls: dict[int, Callable[[], object]] = {}

    def now_ns(self) -> int:
        return self.now

    def fire_next(self, limit_ns: int | None) -> bool:
        return False

    def set_now(self, ns: int) -> None:
        self.now = ns

    def foreign_waiters(self) -> int:
        return self.waiters

    def advance(self, limit_ns: int | None) -> bool:
        start = self.played
        while self.played < FRAMES and not (self.played > start and self.loop.has_ready()):
            next_ns = (self.played + 1) * 1_000_000
            due_ns = self.loop.next_due_ns()
            if due_ns is not None and due_ns <= next_ns:
                self.now = due_ns
                return True
            self.now = next_ns
            self.played += 1
            self.calls.pop(self.played, lambda: None)()
        return self.played > start


def run(
    main: Callable[[ReplayLoop, Ticks], Coroutine[Any, Any, Any]], *, patience: float = 30.0
) -> Any:
    driver = Ticks()

    def make() -> ReplayLoop:
        driver.loop = ReplayLoop(driver, io_patience=patience)
        return driver.loop

    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(main(runner.get_loop(), driver))  # type: ignore[arg-type]  # made by make()


def assert_held(main: Callable[[ReplayLoop], Coroutine[Any, Any, Any]]) -> None:
    """Run `main`: it does real work, during which capture time must stand still."""

    async def outer(loop: ReplayLoop, driver: Ticks) -> None:
        await asyncio.sleep(0.1)
        before = driver.now
        await main(loop)
        assert driver.now == before
        assert driver.played < FRAMES
        assert loop.stats.patience_expired == 0
        await asyncio.sleep(0.1)
        assert driver.now == before + 100_000_000  # nothing holds any more
        assert loop.in_flight.held_for(lambda: True) is None

    run(outer)


def assert_free(
    main: Callable[[ReplayLoop], Coroutine[Any, Any, list[Callable[[], object]]]],
) -> None:
    """Run `main`, then the capture to its end without a wait; then call what `main` returned."""

    async def outer(loop: ReplayLoop, driver: Ticks) -> None:
        cleanup = await main(loop)
        await asyncio.sleep(0.1)
        end = loop.create_future()
        driver.calls[FRAMES] = lambda: end.done() or end.set_result(None)
        blocks = loop.stats.blocks
        await end
        assert loop.stats.blocks == blocks
        assert loop.stats.patience_expired == 0
        for call in cleanup:
            call()
        await asyncio.sleep(0.1)

    run(outer)
