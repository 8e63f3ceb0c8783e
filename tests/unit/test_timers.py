"""The timer wheel: nothing early, nothing later than one tick, in order of ticks."""

from __future__ import annotations

import pytest

from aiomos._engine._teststorage import WheelHook

TICK = 1 << 20
SECOND = 1_000_000_000
DAY = 86400 * SECOND
T0 = 1_700_000_000 * SECOND


def wheel_at(now: int = T0, n: int = 16) -> WheelHook:
    wheel = WheelHook(n)
    wheel.start(now)
    return wheel


def fired(wheel, now):
    return list(iter(lambda: wheel.pop(now), 0))


def test_fresh_next_time_is_now_so_that_somebody_starts_it():
    assert WheelHook(1).next_ns == 0


def test_empty_pop_gives_nothing_and_never_is_next():
    wheel = wheel_at()
    assert fired(wheel, T0 + 100 * DAY) == []
    assert wheel.next_ns > T0 + 100 * 365 * DAY


@pytest.mark.parametrize(
    "wait",
    [
        1,
        TICK,
        255 * TICK,
        256 * TICK,
        257 * TICK,
        65535 * TICK,
        65536 * TICK,
        16777215 * TICK,
        16777216 * TICK,
        20 * DAY,
    ],
)
@pytest.mark.parametrize("start", [T0, T0 + 255 * TICK, T0 // TICK * TICK, 0])
def test_armed_fires_at_its_time_and_within_one_tick(start, wait):
    wheel = wheel_at(start)
    due = start + wait
    wheel.arm(1, due)
    assert wheel.next_ns <= due + TICK
    assert fired(wheel, due - 1) == []
    assert fired(wheel, due + TICK) == [1]
    assert wheel.armed == 0


def test_armed_in_the_past_fires_at_once():
    wheel = wheel_at()
    wheel.arm(1, T0 - DAY)
    assert fired(wheel, T0) == [1]


@pytest.mark.parametrize("boundary", [1 << 16, 1 << 24])
def test_slots_of_two_levels_that_begin_together_both_fire(boundary):
    """A level's slot is spread when the wheel reaches it; so must be the lower one there."""
    turn = (T0 // TICK // boundary + 1) * boundary
    wheel = wheel_at((turn - boundary * 3 // 4) * TICK)
    wheel.arm(1, (turn + 5) * TICK)
    wheel.arm(2, (turn + boundary // 2) * TICK)
    assert fired(wheel, (turn + 6) * TICK) == [1]
    assert fired(wheel, (turn + boundary) * TICK) == [2]


def test_armed_several_fire_in_order_of_their_ticks():
    wheel = wheel_at(n=100)
    waits = [(i * 7919 % 100 + 1) * 37 * SECOND for i in range(100)]
    for i, wait in enumerate(waits, 1):
        wheel.arm(i, T0 + wait)
    order = fired(wheel, T0 + 4000 * SECOND)
    assert [waits[i - 1] for i in order] == sorted(waits)


def test_armed_again_fires_once_at_the_new_time():
    wheel = wheel_at()
    wheel.arm(1, T0 + SECOND)
    wheel.arm(1, T0 + 5 * SECOND)
    assert fired(wheel, T0 + 4 * SECOND) == []
    assert fired(wheel, T0 + 6 * SECOND) == [1]
    assert fired(wheel, T0 + DAY) == []


def test_disarmed_never_fires():
    wheel = wheel_at()
    wheel.arm(1, T0 + SECOND)
    wheel.disarm(1)
    wheel.disarm(1)
    assert wheel.armed == 0
    assert fired(wheel, T0 + DAY) == []


def test_firing_disarm_of_another_due_one_takes_it_out():
    wheel = wheel_at()
    for i in range(1, 5):
        wheel.arm(i, T0 + SECOND)
    first = wheel.pop(T0 + 2 * SECOND)
    others = {1, 2, 3, 4} - {first}
    gone = others.pop()
    wheel.disarm(gone)
    assert set(fired(wheel, T0 + 2 * SECOND)) == others


def test_firing_arm_again_with_a_due_time_fires_again():
    wheel = wheel_at()
    wheel.arm(1, T0 + SECOND)
    assert wheel.pop(T0 + 2 * SECOND) == 1
    wheel.arm(1, T0 + SECOND)
    assert fired(wheel, T0 + 2 * SECOND) == [1]


def test_firing_stopped_half_way_goes_on_at_the_next_call():
    wheel = wheel_at()
    for i in range(1, 9):
        wheel.arm(i, T0 + SECOND)
    first = [wheel.pop(T0 + 2 * SECOND) for _ in range(3)]
    assert wheel.next_ns <= T0 + 2 * SECOND
    assert sorted(first + fired(wheel, T0 + 2 * SECOND)) == list(range(1, 9))


def test_armed_ten_years_ahead_is_looked_at_before_and_never_after():
    wheel = wheel_at()
    due = T0 + 3650 * DAY
    now = T0
    wheel.arm(1, due)
    looks = 0
    while now < due:
        now = wheel.next_ns
        looks += 1
        if wheel.pop(now):
            wheel.arm(1, due)
    assert due <= now <= due + TICK
    assert looks < 2000


def test_jump_of_ten_years_fires_everything():
    wheel = wheel_at(n=50)
    for i in range(1, 51):
        wheel.arm(i, T0 + i * i * SECOND)
    assert fired(wheel, T0 + 3650 * DAY) == list(range(1, 51))
    wheel.arm(7, T0 + 3650 * DAY + SECOND)
    assert fired(wheel, T0 + 3651 * DAY) == [7]


def test_start_never_goes_back():
    wheel = wheel_at()
    wheel.start(T0 - DAY)
    wheel.arm(1, T0 - DAY + SECOND)
    assert fired(wheel, T0) == [1]
