"""SYNs that contradict each other: what the other end acknowledges counts, with its options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, SERVER, SYN, Talk, assert_idle, timestamp, window_scale

from aiomos._engine._testcore import CoreDriver

MD5 = b"\x13\x12" + bytes(16) + b"\1\1"
WIDE = b"\1" + window_scale(7)
OPTIONS = {"md5": MD5, "wide": WIDE, "bare": b"", "stamps": b"\1\1" + timestamp(2**31)}
PLACES = [-100_000, 100, 100_000]

with_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@pytest.fixture
def driver():
    driver = CoreDriver(listen=("Anomaly",))
    yield driver
    assert_idle(driver)


@pytest.fixture
def talk(driver):
    return Talk(driver.input)


def decoy(talk, side, away, options, flags=SYN):
    """A SYN of another ISN, that much away, which the other end never answers."""
    end = talk.ends[side]
    end.isn += away
    talk.say(side, flags, at=-1, ack=0, options=options)
    end.isn -= away


def exchange(driver, talk):
    """More than an unscaled window, both ways, on the one connection."""
    for end in talk.ends:
        end.window = 500
    talk.c()
    for at in range(0, 3000, 1000):
        talk.c(b"%04d" % at * 250)
        talk.s()
        talk.s(b"%04d" % at * 250)
        talk.c()
    (log,) = driver.flows
    for side in (CLIENT, SERVER):
        assert log.data(side) == b"".join(b"%04d" % at * 250 for at in (0, 1000, 2000))


@with_options
@pytest.mark.parametrize("away", PLACES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_syn_sent_decoys_behind_the_syn_hide_nothing(driver, talk, options, away, count):
    talk.c(flags=SYN, options=WIDE)
    for number in range(1, count + 1):
        decoy(talk, CLIENT, number * away, options)
    talk.s(flags=SYN | ACK, options=WIDE)
    exchange(driver, talk)


@with_options
@pytest.mark.parametrize("away", PLACES)
@pytest.mark.parametrize("count", [1, 2])
def test_syn_sent_decoys_before_the_syn_hide_nothing(driver, talk, options, away, count):
    for number in range(1, count + 1):
        decoy(talk, CLIENT, number * away, options)
    talk.c(flags=SYN, options=WIDE)
    talk.s(flags=SYN | ACK, options=WIDE)
    exchange(driver, talk)


@with_options
@pytest.mark.parametrize("away", PLACES)
@pytest.mark.parametrize("count", [1, 2])
def test_syn_received_decoys_behind_the_answer_are_challenged(driver, talk, options, away, count):
    talk.c(flags=SYN, options=WIDE)
    talk.s(flags=SYN | ACK, options=WIDE)
    for number in range(1, count + 1):
        decoy(talk, CLIENT, number * away, options)
    exchange(driver, talk)
    assert driver.anomalies() == ["challenged_syn"] * count
    assert driver.flows[0].half[CLIENT]["isn"] == 1000


@with_options
@pytest.mark.parametrize("away", [-1_000_000, 1_000_000])
@pytest.mark.parametrize("count", [1, 2])
def test_syn_received_decoy_answers_hide_nothing(driver, talk, options, away, count):
    talk.c(flags=SYN, options=WIDE)
    talk.s(flags=SYN | ACK, options=WIDE)
    for number in range(1, count + 1):
        decoy(talk, SERVER, number * away, options, SYN | ACK)
    exchange(driver, talk)


@with_options
@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_picked_up_syn_that_comes_when_the_end_has_gone_on_is_nobodys(driver, talk, options, side):
    talk.c(b"abc", window=500)
    talk.s(b"def", window=500)
    talk.rest(1)
    talk.say(side, SYN | ACK if side else SYN, at=-1, ack=0, options=options)
    for _ in range(3):
        talk.c(b"x" * 1000, window=500)
        talk.s(b"y" * 1000, window=500)
    talk.c(window=500)
    assert [len(driver.flows[0].data(end)) for end in (CLIENT, SERVER)] == [3003, 3003]
    assert driver.anomalies() == ["challenged_syn"]
