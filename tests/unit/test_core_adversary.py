"""Segments found by the model test (property/test_receiver_model.py), each by itself.

A receiver keeps early segments with their FIN: a FIN is one more symbol at its place, of two copies
the first stays, and the stream ends where reading in order comes to a FIN.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    PSH,
    RST,
    SECOND,
    SERVER,
    SYN,
    Talk,
    assert_idle,
    mss,
    sack_permitted,
)


def test_established_early_bytes_come_again_in_order_the_first_copy_stays(driver, talk):
    talk.s(b"BCD", at=1)
    talk.s(b"abcdef", at=0)
    assert driver.flows[0].data(SERVER) == b"aBCDef"


def test_established_fin_below_an_early_fin_ends_the_stream(driver, talk):
    """A forged FIN ahead of the stream must not hide the real one."""
    talk.s(flags=FIN | ACK, at=100)
    talk.s(b"all", flags=FIN | ACK, at=0)
    talk.s(b"beyond the end", at=4)
    talk.c(ack=4)
    (log,) = driver.flows
    assert log.data(SERVER) == b"all"
    assert log.eof[SERVER]
    assert log.states == ("CLOSE_WAIT", "FIN_WAIT_2")


def test_established_fin_on_an_early_byte_is_not_an_end(driver, talk):
    talk.s(b"cdefgh", at=2)
    talk.s(flags=FIN | ACK, at=4)
    talk.s(b"ab", at=0)
    talk.c(ack=8)
    (log,) = driver.flows
    assert log.data(SERVER) == b"abcdefgh"
    assert not log.eof[SERVER]


def test_zero_window_fin_at_its_edge_what_follows_is_looked_at(driver):
    """Linux takes a FIN into a window of nothing; what its sender then offers still counts."""
    talk = Talk(driver.input)
    talk.ends[CLIENT].window = 4
    talk.ends[SERVER].window = 0
    talk.handshake()
    talk.s(b"1234", flags=FIN | ACK)
    talk.s(flags=ACK, window=50_000)
    talk.c(b"question", ack=4, window=0)
    assert driver.flows[0].items == ([b"question"], [b"1234"])


# ---- FINs that are none, or not the one that counts (docs/decisions/0038) --------------------------


def linux(isn=1000, options=(b"", b"")):
    """A connection whose ends are known for Linux."""
    driver = CoreDriver(policy="linux", listen=("Anomaly",))
    talk = Talk(driver.input, isn=(isn, 2**32 - 5))
    talk.handshake(options)
    return driver, talk


def test_established_bytes_in_order_over_an_early_fin_are_read_on(driver, talk):
    talk.s(flags=FIN | ACK, at=2)
    talk.s(b"abcd", at=0)
    talk.s(b"efgh", flags=FIN | ACK, at=4)
    talk.c(ack=9)
    (log,) = driver.flows
    assert log.data(SERVER) == b"abcdefgh"
    assert log.eof[SERVER]


def test_established_early_fin_in_the_place_of_a_byte_goes_on_at_speed(driver, talk):
    """The flow is open again: what follows a refuted FIN is no special case."""
    talk.s(flags=FIN | ACK, at=2)
    talk.s(b"abcd", at=0)
    assert "tcp_beyond_fin" in driver.counters()
    beyond = driver.counters()["tcp_beyond_fin"]
    talk.s(b"efgh", at=4)
    assert driver.flows[0].data(SERVER) == b"abcdefgh"
    assert driver.counters()["tcp_beyond_fin"] == beyond


def test_established_early_fin_acknowledged_beyond_is_none(driver, talk):
    """Its receiver had other bytes there, which the capture missed."""
    talk.s(b"ab")
    talk.s(flags=FIN | ACK, at=4)
    talk.s(b"ghij", at=6)
    talk.c(ack=10)
    talk.rest(5)
    driver.tick(talk.now)
    talk.s(b"klm", at=10)
    (log,) = driver.flows
    assert log.data(SERVER) == b"abghijklm"
    assert [gap[:2] for gap in log.gap_list(SERVER)] == [(2, 2), (4, 2)]
    assert not log.eof[SERVER]


def test_linux_fin_of_a_segment_that_begins_further_back_takes_the_place_of_a_byte():
    driver, talk = linux()
    talk.s(b"efgh", at=4)
    talk.s(b"bcd", flags=FIN | ACK, at=1)
    talk.s(b"a", at=0)
    assert driver.flows[0].data(SERVER) == b"abcd"
    assert driver.flows[0].eof[SERVER]
    assert_idle(driver)


def test_linux_bytes_that_begin_behind_the_segment_of_a_fin_leave_it():
    driver, talk = linux()
    talk.s(b"cdef", flags=FIN | ACK, at=2)
    talk.s(b"FGHI", at=5)
    talk.s(b"ab", at=0)
    assert driver.flows[0].data(SERVER) == b"abcdef"
    assert driver.flows[0].eof[SERVER]
    assert_idle(driver)


def test_acked_fin_in_order_is_not_contested():
    driver = CoreDriver(deliver="acked")
    talk = Talk(driver.input)
    talk.handshake()
    talk.s(b"abc", flags=FIN | ACK)
    talk.s(b"def", at=3)
    talk.c(ack=4)
    assert driver.flows[0].data(SERVER) == b"abc"
    assert driver.flows[0].eof[SERVER]
    assert_idle(driver)


def test_nobody_reads_fin_nearest_to_the_text_ends_the_side():
    driver = CoreDriver(sides=0)
    talk = Talk(driver.input)
    talk.handshake()
    talk.s(flags=FIN | ACK, at=100)
    talk.s(b"abc", flags=FIN | ACK, at=0)
    talk.c(ack=4)
    assert driver.flows[0].states == ("CLOSE_WAIT", "FIN_WAIT_2")
    assert_idle(driver)


# ---- resets that stacks take differently (docs/decisions/0039) --------------------------------------


ODD_RESETS = [RST | SYN, RST | FIN, RST | FIN | ACK, RST | SYN | FIN | PSH | ACK]


@pytest.mark.parametrize("flags", ODD_RESETS)
def test_linux_reset_with_other_flags_resets_at_once(flags):
    driver, talk = linux()
    talk.s(b"good")
    talk.s(b"evil", flags=flags, at=4)
    assert driver.flows[0].reason == "RESET"
    assert driver.flows[0].data(SERVER) == b"good"
    assert driver.anomalies() == ["invalid_flags"]
    assert_idle(driver)


@pytest.mark.parametrize("flags", ODD_RESETS)
@pytest.mark.parametrize("goes_on", [False, True])
def test_reset_with_other_flags_its_receiver_says_whether_it_was_one(driver, talk, flags, goes_on):
    talk.s(b"good")
    talk.s(b"evil", flags=flags, at=4)
    talk.s(b"more", at=4)
    if goes_on:
        talk.c(ack=8)
    driver.tick(talk.now + 5 * SECOND)
    assert (driver.flows[0].reason == "RESET") is not goes_on


def test_linux_reset_at_the_fin_resets():
    driver, talk = linux()
    talk.s(b"abc", flags=FIN | ACK)
    talk.s(flags=RST, at=3)
    assert driver.flows[0].reason == "RESET"
    assert_idle(driver)


@pytest.mark.parametrize(
    ("options", "reason"), [(mss() + sack_permitted(), "RESET"), (mss(), "")], ids=["sack", "none"]
)
def test_linux_reset_above_a_hole_resets_where_it_was_told_by_sack(options, reason):
    driver, talk = linux(options=(options, options))
    talk.s(b"good")
    talk.s(b"late", at=8)
    talk.s(flags=RST, at=12)
    driver.tick(talk.now + 5 * SECOND)
    assert driver.flows[0].reason == reason
    driver.close_all()
    assert_idle(driver)


# ---- segments that overrun the window (docs/decisions/0040) -----------------------------------------


def cramped(policy):
    driver = CoreDriver(policy=policy)
    talk = Talk(driver.input)
    talk.ends[CLIENT].window = 8
    talk.handshake()
    talk.s(b"abcd")
    talk.c(ack=4, window=4)
    return driver, talk


@pytest.mark.parametrize(
    ("ack", "expected"), [(12, b"abcdefghIJKL"), (8, b"abcdefgh"), (4, b"abcd")]
)
def test_linux_overrun_is_read_as_far_as_it_is_acknowledged(ack, expected):
    driver, talk = cramped("linux")
    talk.s(b"efghIJKL", at=4)
    assert driver.flows[0].data(SERVER) == b"abcd"
    talk.c(ack=ack, window=4)
    assert driver.flows[0].data(SERVER) == expected
    driver.close_all()
    assert_idle(driver)


def test_linux_overrun_refused_leaves_its_place_to_what_comes():
    driver, talk = cramped("linux")
    talk.s(b"EVILEVIL", at=4)
    talk.s(b"late", at=8)
    talk.c(ack=4, window=8)
    talk.s(b"good", at=4)
    assert driver.flows[0].data(SERVER).startswith(b"abcdgood")
    driver.close_all()
    assert_idle(driver)


def test_linux_early_overrun_that_was_taken_is_a_gap():
    driver, talk = cramped("linux")
    talk.s(b"ghIJKL", at=6)
    talk.s(b"ef", at=4)
    talk.c(ack=12, window=4)
    talk.s(b"mn", at=12)
    talk.rest(5)
    driver.tick(talk.now)
    (log,) = driver.flows
    assert log.data(SERVER) == b"abcdefmn"
    assert log.gap_list(SERVER) == [(6, 6, "acked_unseen")]
    assert_idle(driver)


def test_other_overrun_is_cut_at_the_edge():
    driver, talk = cramped("first")
    talk.s(b"efghIJKL", at=4)
    assert driver.flows[0].data(SERVER) == b"abcdefgh"
    assert_idle(driver)
