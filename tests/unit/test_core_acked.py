"""deliver="acked": bytes are handed out when the receiver acknowledged them (semantics.md 5)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, SECOND, SERVER, SYN, Talk, assert_idle, window_scale

ISNS = [1000, 0xFFFFFFF8]
MEBIBYTE = 1 << 20


@pytest.fixture(params=ISNS)
def isn(request):
    return request.param


def made(isn=1000, **options):
    driver = CoreDriver(**{"deliver": "acked", **options})
    talk = Talk(driver.input, isn=(7, isn))
    talk.handshake()
    return driver, talk


def got(driver):
    return driver.flows[0].data(SERVER)


@pytest.mark.parametrize(
    ("policy", "bytes_read"),
    [("first", b"GOOD"), ("bsd", b"GOOD"), ("linux", b"GOOD"), ("old-linux", b"EVIL"),
     ("last", b"EVIL")],
)  # fmt: skip
def test_established_two_copies_before_the_ack_compete(isn, policy, bytes_read):
    driver, talk = made(isn, policy=policy)
    talk.s(b"GOOD")
    talk.s(b"EVIL", at=0)
    assert got(driver) == b""
    talk.c()
    assert got(driver) == bytes_read
    assert_idle(driver)


def test_established_copy_after_the_ack_comes_too_late(isn):
    driver, talk = made(isn, policy="last")
    talk.s(b"GOOD")
    talk.c()
    talk.s(b"EVIL", at=0)
    talk.c()
    assert got(driver) == b"GOOD"
    assert_idle(driver)


def test_established_ack_in_the_middle_hands_out_up_to_there(isn):
    driver, talk = made(isn, policy="last")
    talk.s(b"abcdef")
    talk.c(ack=2)
    assert got(driver) == b"ab"
    talk.s(b"ABCDEF", at=0)
    talk.c(ack=4)
    assert got(driver) == b"abCD"
    talk.c()
    assert got(driver) == b"abCDEF"
    assert_idle(driver)


def test_established_segment_that_was_acknowledged_before_it_was_seen_is_handed_out(isn):
    driver, talk = made(isn)
    talk.skip(SERVER, 6)
    talk.c()
    talk.s(b"abcdef", at=0)
    assert got(driver) == b"abcdef"
    assert_idle(driver)


def test_established_hole_acknowledged_is_a_gap_and_what_follows_waits_for_its_ack(isn):
    driver, talk = made(isn)
    talk.s(b"def", at=3)
    talk.s(b"ghi")
    talk.c(ack=6)
    assert got(driver) == b""
    driver.tick(talk.now + SECOND)
    assert driver.flows[0].items[SERVER] == [(0, 3, "acked_unseen"), b"def"]
    talk.now += SECOND
    talk.c()
    assert got(driver) == b"defghi"
    assert_idle(driver)


def test_established_fin_acknowledged_is_the_end_behind_all_bytes(isn):
    driver, talk = made(isn)
    talk.s(b"abc", flags=FIN | ACK)
    assert (got(driver), driver.flows[0].eof[SERVER]) == (b"", False)
    talk.c(flags=FIN | ACK)
    assert (got(driver), driver.flows[0].eof[SERVER]) == (b"abc", True)
    talk.s()
    assert driver.flows[0].reason == "FIN"
    assert_idle(driver)


def test_established_fin_below_bytes_that_wait_is_no_end(isn):
    """Its number is not the one that the receiver expects: old to it, acknowledged or not."""
    driver, talk = made(isn)
    talk.s(b"abcdef")
    talk.say(SERVER, FIN | ACK, at=3)
    talk.c()
    talk.s(b"ghi", at=6)
    talk.c(ack=9)
    assert got(driver) == b"abcdefghi"
    assert_idle(driver)


def test_established_reset_hands_out_what_waits(isn):
    driver, talk = made(isn)
    talk.s(b"abc")
    talk.s(flags=RST)
    assert got(driver) == b"abc"
    assert driver.flows[0].gap_list(SERVER) == []
    assert driver.flows[0].reason == "RESET"
    assert_idle(driver)


def test_one_sided_bytes_are_due_a_second_after_they_came():
    driver = CoreDriver(deliver="acked", policy="last")
    talk = Talk(driver.input)
    talk.s(b"abc")
    talk.s(b"ABC", at=0)
    assert got(driver) == b""
    driver.tick(talk.now + 2 * SECOND)
    assert got(driver) == b"ABC"
    talk.now += 3 * SECOND
    talk.s(b"def")
    talk.s(b"jkl", at=9)
    driver.tick(talk.now + 2 * SECOND)
    assert driver.flows[0].items[SERVER] == [b"ABCdef", (6, 3, "lost"), b"jkl"]
    assert_idle(driver)


def test_syn_with_data_waits_for_the_ack_that_takes_it():
    driver = CoreDriver(deliver="acked", start="syn")
    talk = Talk(driver.input)
    talk.c(b"early", flags=SYN)
    driver.tick(talk.now + 2 * SECOND)
    talk.now += 2 * SECOND
    assert driver.flows[0].data(CLIENT) == b""
    talk.s(flags=SYN | ACK)
    talk.c()
    assert driver.flows[0].data(CLIENT) == b"early"
    assert_idle(driver)


@pytest.mark.parametrize("policy", ["first", "linux"])
def test_established_never_acknowledged_more_than_the_store_holds_is_handed_out(policy):
    """The acknowledgements may be lost to the tap: bytes go on, and are counted."""
    driver = CoreDriver(deliver="acked", policy=policy)
    talk = Talk(driver.input)
    talk.handshake((window_scale(7), window_scale(7)))
    sent = b"".join(bytes([i % 251]) * 1400 for i in range(900))
    for at in range(0, len(sent), 1400):
        talk.s(sent[at : at + 1400])
    assert 0 < driver.counters()["unacked_bytes"] == len(got(driver)) < len(sent)
    assert driver.usage()["buffer_bytes"] < 3 * MEBIBYTE
    talk.c()
    assert got(driver) == sent
    assert_idle(driver)


def test_established_out_of_order_is_judged_by_what_was_received_not_by_what_was_acked():
    driver, talk = made(listen=("OutOfOrder", "NewData"))
    talk.s(b"abc")
    talk.s(b"def")
    talk.s(b"jkl", at=9)
    talk.c()
    assert [(e["event"], e["a"], e["b"], e["new"]) for e in driver.told] == [
        ("OutOfOrder", 9, 3, b""),
        ("NewData", 0, 6, b"abcdef"),
    ]
    assert_idle(driver)


def test_established_memory_refused_bytes_go_on_unacknowledged():
    driver, talk = made(memory=12_000, policy="linux")
    for i in range(40):
        talk.s(bytes([i]) * 1000)
    talk.c()
    items = driver.flows[0].items[SERVER]
    data = b"".join(item for item in items if isinstance(item, bytes))
    missing = sum(item[1] for item in items if isinstance(item, tuple))
    assert len(data) + missing == 40_000
    assert driver.counters()["unacked_bytes"] > 0
    assert_idle(driver)
