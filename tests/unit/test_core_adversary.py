"""Segments found by the model test (property/test_receiver_model.py), each by itself.

A receiver keeps early segments with their FIN: a FIN is one more symbol at its place, of two copies
the first stays, and the stream ends where reading in order comes to a FIN.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testing import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, SERVER, Talk, assert_idle


@pytest.fixture
def driver():
    driver = CoreDriver()
    yield driver
    assert_idle(driver)


@pytest.fixture(params=[1000, 2**32 - 8])
def talk(driver, request):
    talk = Talk(driver.input, isn=(request.param, 2**32 - 5))
    talk.handshake()
    return talk


def test_established_early_bytes_come_again_in_order_the_first_copy_stays(driver, talk):
    talk.s(b"BCD", at=1)
    talk.s(b"abcdef", at=0)
    assert driver.flows[0].data(SERVER) == b"aBCDef"


@pytest.mark.xfail(strict=True, reason="tcp: the first FIN seen ends the stream, not the first met")
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


@pytest.mark.xfail(strict=True, reason="tcp: a FIN in the midst of early bytes cuts them off")
def test_established_fin_on_an_early_byte_is_not_an_end(driver, talk):
    talk.s(b"cdefgh", at=2)
    talk.s(flags=FIN | ACK, at=4)
    talk.s(b"ab", at=0)
    talk.c(ack=8)
    (log,) = driver.flows
    assert log.data(SERVER) == b"abcdefgh"
    assert not log.eof[SERVER]


@pytest.mark.xfail(strict=True, reason="tcp: behind a FIN at the window's edge nothing is accepted")
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
