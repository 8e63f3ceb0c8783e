"""ReplayLoop: capture time, timers, turns, exhaustion, signals, over a driver of plain frames."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiomos._replay_loop import TURN_LIMIT, ReplayLoop

SECOND = 1_000_000_000  # ns
EPOCH = 1_700_000_000 * SECOND  # where the captures of these tests begin

pytestmark = pytest.mark.usefixtures("deadline")


class FrameDriver:
    """A capture as a list of (seconds after `EPOCH`, callback), played by the documented rules."""

    def __init__(self, *frames: tuple[float, Callable[[], object]], burst: int = 64) -> None:
        self.frames = deque((EPOCH + round(at * SECOND), call) for at, call in frames)
        self.burst = burst
        self.now = EPOCH
        self.played = 0
        self.loop: ReplayLoop

    def now_ns(self) -> int:
        return self.now

    def fire_next(self, limit_ns: int | None) -> bool:
        return False

    def set_now(self, ns: int) -> None:
        assert ns >= self.now
        self.now = ns

    def foreign_waiters(self) -> int:
        return 0

    def advance(self, limit_ns: int | None) -> bool:
        bursts = 0
        while self.frames:
            due_ns = self.loop.next_due_ns()
            if not self._play_burst(due_ns):
                assert due_ns is not None
                self.set_now(due_ns)
                return True
            bursts += 1
            if self.loop.has_ready() or (bursts % 16 == 0 and self.loop.should_yield()):
                return True
        return bursts > 0

    def _play_burst(self, due_ns: int | None) -> bool:
        for index in range(self.burst):
            if not self.frames or (due_ns is not None and self.frames[0][0] >= due_ns):
                return index > 0
            ns, call = self.frames.popleft()
            self.set_now(ns)
            self.played += 1
            call()
        return True

    @property
    def seconds(self) -> float:
        return (self.now - EPOCH) / SECOND


Main = Callable[[ReplayLoop], Coroutine[Any, Any, Any]]


def run(main: Main, driver: FrameDriver | None = None, *, debug: bool = False) -> Any:
    """Run `main(loop)` over the driver's frames."""

    def make() -> ReplayLoop:
        loop = ReplayLoop()
        if driver is not None:
            driver.loop = loop
            loop.driver = driver
        return loop

    with asyncio.Runner(loop_factory=make, debug=debug) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ReplayLoop)
        return runner.run(main(loop))


def nothing() -> None:
    pass


# -- time and timers


def test_no_driver_sleep_jumps_from_zero() -> None:
    async def main(loop: ReplayLoop) -> list[float]:
        start = loop.time()
        await asyncio.sleep(3600)
        return [start, loop.time()]

    assert run(main) == [0.0, 3600.0]


def test_idle_sleep_an_hour_ends_at_the_exact_nanosecond() -> None:
    driver = FrameDriver((0.25, nothing), (9000.0, nothing))

    async def main(loop: ReplayLoop) -> int:
        await asyncio.sleep(3600)
        return driver.now - EPOCH

    assert run(main, driver) == 3600 * SECOND
    assert driver.played == 1  # the frame behind the timer was not touched


def test_driver_replaced_time_goes_on() -> None:
    async def main(loop: ReplayLoop) -> list[float]:
        await asyncio.sleep(5)
        late = FrameDriver()
        late.loop, late.now = loop, 77 * SECOND
        loop.driver = late
        before = loop.time()
        await asyncio.sleep(2)
        return [before, loop.time(), late.now / SECOND]

    assert run(main, FrameDriver()) == [5.0, 7.0, 79.0]


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_frames_and_timers_interleave_in_order_of_time(burst: int) -> None:
    seen: list[str] = []
    frames = [(at / 10, lambda at=at: seen.append(f"frame {at / 10}")) for at in range(10)]
    driver = FrameDriver(*frames, burst=burst)

    async def main(loop: ReplayLoop) -> None:
        for delay in (0.25, 0.5, 0.75, 5.0):
            loop.call_later(delay, lambda: seen.append(f"timer {loop.time()}"))
        await asyncio.sleep(6)

    run(main, driver)
    expected = [f"frame {at / 10}" for at in range(10)]
    expected.insert(3, "timer 0.25")
    expected.insert(6, "timer 0.5")  # due at the stamp of a frame: before it
    expected.insert(10, "timer 0.75")
    assert seen == [*expected, "timer 5.0"]


def test_timers_due_together_fire_in_order_of_creation() -> None:
    order: list[int] = []

    async def main(loop: ReplayLoop) -> None:
        base = loop.time()
        for index in range(100):  # 0.1 + 0.2 and 0.3 are the same nanosecond
            loop.call_at(base + (0.1 + 0.2 if index % 2 == 0 else 0.3), order.append, index)
        loop.call_at(base + 0.3 - 1e-9, order.append, -1)
        loop.call_at(base + 0.3 + 1e-9, order.append, 100)
        await asyncio.sleep(1)

    run(main, FrameDriver())
    assert order == list(range(-1, 101))


def test_timer_one_nanosecond_later_does_not_fire_early() -> None:
    fired: list[int] = []
    driver = FrameDriver()

    async def main(loop: ReplayLoop) -> None:
        for ns in (300_000_000, 300_000_001, 300_000_002):
            loop.call_at(ns / SECOND, lambda: fired.append(driver.now - EPOCH))
        await asyncio.sleep(1)

    run(main, driver)
    assert fired == [300_000_000, 300_000_001, 300_000_002]


def test_far_from_the_start_timer_of_a_microsecond_fires_within_the_grain_of_floats() -> None:
    driver = FrameDriver()

    async def main(loop: ReplayLoop) -> int:
        await asyncio.sleep(1e9)
        before = driver.now
        done = loop.create_future()
        loop.call_later(1e-6, done.set_result, None)
        await done
        return driver.now - before

    assert abs(run(main, driver) - 1000) <= 240  # at 1e9 s floats are 119 ns apart
    assert driver.seconds >= 1e9


@pytest.mark.parametrize("offset", [0, 1, 1e3, 1e6, 4.2e6, 8.4e6, 1.7e7, 1e8, 1e9])
def test_any_offset_random_timers_fire_once_in_order_and_do_not_spin(offset: float) -> None:
    draw = random.Random(offset)
    driver = FrameDriver()
    fired: list[float] = []

    async def main(loop: ReplayLoop) -> list[float]:
        await asyncio.sleep(offset)
        whens = [
            loop.time() + draw.choice([1e-9, 1e-6, 1e-3, 1]) * draw.random() for _ in range(300)
        ]
        for when in whens:
            loop.call_at(when, fired.append, when)
        before = loop.stats.advances
        await asyncio.sleep(2)
        assert loop.stats.advances - before <= 2 * len(whens) + 2
        return whens

    whens = run(main, driver)
    grain = 1e-9 + 4 * (2.0**-52) * offset
    assert sorted(fired) == sorted(whens)
    assert all(later >= earlier - grain for earlier, later in itertools.pairwise(fired))


def test_timer_in_the_past_and_timer_at_infinity_at_once_and_never() -> None:
    fired: list[str] = []

    async def main(loop: ReplayLoop) -> None:
        loop.call_at(float("inf"), fired.append, "infinity")
        loop.call_at(-5.0, fired.append, "past")
        await asyncio.sleep(1e6)

    run(main, FrameDriver())
    assert fired == ["past"]


def test_timeout_around_a_wait_expires_at_its_capture_time() -> None:
    driver = FrameDriver((1.0, nothing), (10.0, nothing))

    async def main(loop: ReplayLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await asyncio.Event().wait()
        return loop.time()

    assert run(main, driver) == 2.5


def test_timeout_frame_comes_first_does_not_expire() -> None:
    event = asyncio.Event()
    driver = FrameDriver((2.0, event.set), (10.0, nothing))

    async def main(loop: ReplayLoop) -> float:
        async with asyncio.timeout(2.5):
            await event.wait()
        return loop.time()

    assert run(main, driver) == 2.0


def test_timer_made_by_a_frame_stops_the_capture_at_its_time() -> None:
    seen: list[float] = []
    driver = FrameDriver(burst=1)

    def frame() -> None:  # what a stepped flow task may do
        driver.loop.call_later(0.15, lambda: seen.append(driver.seconds))

    driver.frames.extend(
        (EPOCH + SECOND * at // 10, frame if at == 1 else nothing) for at in range(9)
    )
    run(lambda loop: asyncio.sleep(2), driver)
    assert seen == [0.25]


@pytest.mark.parametrize("debug", [False, True])
def test_task_group_children_run_in_the_same_order_every_time(debug: bool) -> None:
    def once() -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []
        draw = random.Random(1)

        async def child(loop: ReplayLoop, index: int) -> None:
            for _ in range(5):
                await asyncio.sleep(draw.choice([0, 0.1, 0.1, 0.2]))
                seen.append((loop.time(), index))

        async def main(loop: ReplayLoop) -> None:
            async with asyncio.TaskGroup() as group:
                for index in range(20):
                    group.create_task(child(loop, index))

        run(main, FrameDriver(*((at / 10, nothing) for at in range(20))), debug=debug)
        return seen

    first = once()
    assert len(first) == 100
    assert first == once()
    assert [at for at, _ in first] == sorted(at for at, _ in first)


# -- turns


def test_woken_tasks_run_to_the_end_of_their_turn_before_the_next_burst() -> None:
    event = asyncio.Event()
    driver = FrameDriver((1.0, event.set), (2.0, nothing), burst=1)

    async def main(loop: ReplayLoop) -> None:
        await event.wait()
        for _ in range(3):
            for _ in range(TURN_LIMIT // 2):
                await asyncio.sleep(0)
            assert driver.played == 1
            await asyncio.sleep(0.1)
        assert loop.stats.turn_limit == 0

    run(main, driver)


def test_task_that_never_waits_turn_is_cut_and_counted() -> None:
    event = asyncio.Event()
    driver = FrameDriver((1.0, nothing), (2.0, nothing), (3.0, event.set), burst=1)

    async def main(loop: ReplayLoop) -> int:
        while not event.is_set():
            await asyncio.sleep(0)
        return loop.stats.turn_limit

    assert run(main, driver) == 3  # one burst each


def test_task_that_never_waits_after_the_end_timers_still_fire() -> None:
    async def main(loop: ReplayLoop) -> float:
        timer = asyncio.create_task(asyncio.sleep(5))
        while not timer.done():
            await asyncio.sleep(0)
        return loop.time()

    assert run(main, FrameDriver()) == 5.0


def test_timers_made_and_cancelled_during_one_advance_are_swept() -> None:
    most = 0

    def churn() -> None:
        nonlocal most
        most = max(most, len(driver.loop._scheduled))
        for _ in range(100):
            driver.loop.call_later(3600, nothing).cancel()

    driver = FrameDriver(*((at / 1e3, churn) for at in range(1000)), burst=1)
    run(lambda loop: asyncio.sleep(2), driver)
    assert 100 < most < 10_000  # of 100 000


# -- the end of a capture


def test_exhausted_hook_is_called_once_and_timers_run_on() -> None:
    seen: list[tuple[str, float]] = []
    driver = FrameDriver((1.0, nothing))

    async def main(loop: ReplayLoop) -> None:
        loop.on_exhausted = lambda: seen.append(("exhausted", loop.time()))
        assert not loop.exhausted
        for _ in range(3):
            await asyncio.sleep(2)
            seen.append(("timer", loop.time()))
        assert loop.exhausted

    run(main, driver)
    assert seen == [("exhausted", 1.0), ("timer", 2.0), ("timer", 4.0), ("timer", 6.0)]


def test_exhausted_driver_that_made_work_but_returned_false_no_jump_before_that_work() -> None:
    seen: list[float] = []
    driver = FrameDriver()
    plain = driver.advance

    def advance(limit_ns: int | None) -> bool:  # a flow task that goes on after the last frame
        if driver.loop.exhausted and not seen:
            driver.loop.call_soon(lambda: seen.append(driver.seconds))
        return plain(limit_ns)

    driver.advance = advance  # type: ignore[method-assign]
    run(lambda loop: asyncio.sleep(1), driver)
    assert seen == [0.0]


def test_exhausted_timer_at_infinity_blocks() -> None:
    async def main(loop: ReplayLoop) -> float:
        loop.call_at(float("inf"), nothing)
        done = loop.create_future()
        threading.Timer(0.1, loop.call_soon_threadsafe, [done.set_result, None]).start()
        await done
        return loop.time()

    assert run(main, FrameDriver()) == 0.0


def test_exhausted_thread_wakes_the_loop_which_does_not_spin() -> None:
    async def main(loop: ReplayLoop) -> None:
        done = loop.create_future()
        threading.Timer(0.2, loop.call_soon_threadsafe, [done.set_result, None]).start()
        before = loop.stats
        await done
        assert loop.stats.blocks - before.blocks <= 3
        assert loop.stats.advances - before.advances <= 5
        assert loop.time() == 0.5

    run(main, FrameDriver((0.5, nothing)))


# -- signals


@pytest.mark.parametrize("at", [0, 1, 100, 5000])
def test_advancing_signal_is_handled_before_the_capture_ends(at: int) -> None:
    handled: list[int] = []
    frames = [(i / 1e3, lambda: None) for i in range(10_000)]
    frames[at] = (at / 1e3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    driver = FrameDriver(*frames, burst=4)

    async def main(loop: ReplayLoop) -> None:
        loop.add_signal_handler(signal.SIGUSR1, lambda: handled.append(driver.played))
        await asyncio.sleep(20)

    run(main, driver)
    assert len(handled) == 1
    assert at < handled[0] <= at + 100  # the driver asks every 16 bursts of 4


def test_jumping_between_timers_signal_is_handled_soon() -> None:
    handled: list[int] = []

    async def main(loop: ReplayLoop) -> None:
        ticks = 0
        loop.add_signal_handler(signal.SIGUSR1, lambda: handled.append(ticks))
        os.kill(os.getpid(), signal.SIGUSR1)
        for ticks in range(1000):  # noqa: B007 (the handler reads it)
            await asyncio.sleep(1)

    run(main, FrameDriver())
    assert len(handled) == 1
    assert handled[0] < 50


def test_interrupt_under_runner_cancels_the_main_task() -> None:
    frames = [(i / 1e3, lambda: None) for i in range(10_000)]
    frames[100] = (0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    driver = FrameDriver(*frames, burst=4)
    with pytest.raises(KeyboardInterrupt):
        run(lambda loop: asyncio.sleep(3600), driver)
    assert driver.played < 1000


def test_blocked_after_the_end_signal_wakes_the_loop() -> None:
    async def main(loop: ReplayLoop) -> None:
        event = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, event.set)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        await event.wait()
        assert loop.stats.blocks >= 1

    run(main, FrameDriver())
