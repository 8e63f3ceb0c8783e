"""Engine time from stamps: semantics.md section 4."""

from __future__ import annotations

import pytest

from aiomos._engine._teststorage import ClockHook

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
T0 = 1_700_000_000 * SECOND


@pytest.fixture
def clock():
    clock = ClockHook()
    clock.step(T0)
    return clock


def test_fresh_first_stamp_is_the_time():
    clock = ClockHook()
    assert not clock.needs_next(T0)
    assert clock.step(T0) == T0
    assert clock.counts == (0, 0)


def test_running_forward_stamps_are_the_time(clock):
    for step in (1, 1000, SECOND, HOUR):
        assert not clock.needs_next(T0 + step)
        assert clock.step(T0 + step) == T0 + step
    assert clock.counts == (0, 0)


def test_running_equal_stamps_stand_still_uncounted(clock):
    assert [clock.step(T0) for _ in range(3)] == [T0] * 3
    assert clock.counts == (0, 0)


def test_running_step_back_stands_still_and_is_counted(clock):
    assert clock.step(T0 - 5) == T0
    assert clock.step(T0 - 3) == T0
    assert clock.step(T0 + 2) == T0 + 2
    assert clock.counts == (1, 0)


def test_running_step_back_of_an_hour_stands_still(clock):
    assert clock.step(T0 - HOUR) == T0
    assert clock.counts == (1, 0)


def test_running_step_back_of_more_than_an_hour_is_a_jump(clock):
    assert not clock.needs_next(T0 - HOUR - 1)
    assert clock.step(T0 - HOUR - 1) == T0 + 1000
    assert clock.step(T0 - HOUR - 1 + SECOND) == T0 + 1000 + SECOND
    assert clock.counts == (0, 1)


def test_running_forward_spike_taken_back_moves_time_by_two_steps(clock):
    spike = T0 + 48 * 365 * 24 * HOUR
    assert clock.needs_next(spike)
    assert clock.step(spike, T0 + 10) == T0 + 1000
    assert clock.step(T0 + 10) == T0 + 2000
    assert clock.step(T0 + 10 + SECOND) == T0 + 2000 + SECOND
    assert clock.counts == (0, 2)


def test_running_forward_step_that_stays_is_believed(clock):
    later = T0 + 10 * HOUR
    assert clock.step(later, later + 1) == later
    assert clock.counts == (0, 0)


def test_running_forward_step_at_the_end_is_believed(clock):
    assert clock.step(T0 + 10 * HOUR) == T0 + 10 * HOUR


def test_running_forward_step_half_taken_back_is_believed(clock):
    later = T0 + 10 * HOUR
    assert clock.step(later, later - 5 * HOUR) == later
    assert clock.counts == (0, 0)


def test_running_thirty_days_forward_are_believed(clock):
    later = T0 + 30 * 24 * HOUR
    assert clock.step(later, later + 5) == later


@pytest.mark.parametrize("days", [31, 3650])
def test_running_months_or_years_forward_are_a_jump(clock, days):
    """Captures were joined, or a stamp is missing: nothing expires in between."""
    later = T0 + days * 24 * HOUR
    assert clock.step(later, later + 5) == T0 + 1000
    assert clock.step(later + SECOND, later + SECOND) == T0 + 1000 + SECOND
    assert clock.counts == (0, 1)


@pytest.mark.parametrize("year_second", [2**31 - 1, 2**31, 2**32 - 1])
def test_around_2038_and_2106_stamps_are_the_time(year_second):
    clock = ClockHook()
    stamp = year_second * SECOND
    assert clock.step(stamp) == stamp
    assert clock.step(stamp + SECOND) == stamp + SECOND


def test_from_the_epoch_stamps_are_the_time():
    clock = ClockHook()
    assert clock.step(0) == 0
    assert clock.step(SECOND) == SECOND


def test_any_order_time_never_goes_back(clock):
    last = T0
    for i in range(1000):
        stamp = T0 + (i * 7919 % 1000) * HOUR // 50 - (i % 13) * HOUR
        now = clock.step(stamp, stamp + 1)
        assert now >= last
        last = now
