"""Resets of which the tap cannot say at once whether their receiver believed them.

A reset above a hole, or at an acknowledged number below data that the tap has seen, is exact for a
receiver that has other bytes than the tap. Whether it was, its receiver says: one that goes on
acknowledging was not reset. Both stood in recordings of two Linux kernels: a host that aborts sends
its reset at the highest number it used, whatever was lost before it; and a host whose socket is
gone answers with the number that was acknowledged to it, whatever it has sent since.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, FIN, RST, SECOND, SERVER


def test_established_rst_above_a_hole_that_is_filled_then_resets_behind_all(driver, talk):
    talk.s(b"one ")
    talk.skip(SERVER, 4)
    talk.s(b"three")
    talk.c(ack=4)
    talk.s(flags=RST)  # at 13: its receiver, who waits for 4, challenges
    talk.c(ack=4)
    talk.s(b"two ", at=4)  # sent before the reset, overtaken
    talk.c(ack=13)
    talk.s(flags=RST, at=4)  # answers the challenge: too late
    talk.s(flags=RST, at=13)
    (log,) = driver.flows
    assert log.data(SERVER) == b"one two three"
    assert not log.gap_list(SERVER)
    assert log.events[-1] == ("close", "RESET")


def test_established_rst_below_data_that_is_then_acknowledged_changes_nothing(driver, talk):
    talk.s(b"all that ")
    talk.s(flags=FIN | ACK, at=17)
    talk.s(flags=RST, at=0)  # answers the client's ACK of nothing: the socket is gone
    talk.c(ack=9)
    talk.s(b"there is", at=9)
    talk.c(ack=18)
    (log,) = driver.flows
    assert log.data(SERVER) == b"all that there is"
    assert log.eof[SERVER]
    assert not log.gap_list(SERVER)
    assert log.states[SERVER] != "CLOSED"


@pytest.mark.parametrize("at", [0, 13])
def test_established_doubtful_rst_nobody_speaks_again_resets(driver, talk, at):
    talk.s(b"one ")
    talk.skip(SERVER, 4)
    talk.s(b"three")
    talk.s(flags=RST, at=at)
    driver.tick(talk.now + 5 * SECOND)
    (log,) = driver.flows
    assert log.data(SERVER).startswith(b"one ")
    assert log.events[-1] == ("close", "RESET")


def test_established_doubtful_rst_its_receiver_acknowledges_beyond_it_goes_on(driver, talk):
    talk.s(b"0123456789")
    talk.s(flags=RST | ACK, at=0)
    talk.c(flags=ACK, ack=10)
    talk.s(b"abc")
    driver.tick(talk.now + 5 * SECOND)
    (log,) = driver.flows
    assert log.data(SERVER) == b"0123456789abc"
    assert log.states == ("ESTABLISHED", "ESTABLISHED")
