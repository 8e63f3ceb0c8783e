"""When a hole becomes a gap, why, and what follows it (semantics.md section 5)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, MILLISECOND, RST, SECOND, SERVER, SYN, Talk, assert_idle, merged

GRACE = 200 * MILLISECOND
MEBIBYTE = 1 << 20


@pytest.fixture(params=[1000, 2**32 - 8])
def talk(driver, request):
    talk = Talk(driver.input, isn=(request.param, 2**32 - 50))
    talk.handshake()
    return talk


def client(driver):
    return driver.flows[0].items[CLIENT]


# ---- acknowledged, but not seen ----


def test_hole_not_acknowledged_waits(driver, talk):
    talk.skip(CLIENT, 10)
    talk.c(b"after")
    driver.tick(talk.now + 600 * SECOND)
    assert client(driver) == []


def test_hole_acknowledged_becomes_a_gap_after_the_grace(driver, talk):
    talk.c(b"before")
    talk.skip(CLIENT, 10)
    talk.c(b"after")
    talk.s()
    acked = talk.now - talk.step
    driver.tick(acked + GRACE - 1)
    assert client(driver) == [b"before"]
    driver.tick(acked + GRACE + 2 * MILLISECOND)
    assert client(driver) == [b"before", (6, 10, "acked_unseen"), b"after"]
    talk.rest(1)
    talk.c(b" that")
    assert client(driver)[-1] == b"after that"
    assert driver.counters()["gaps"] == 1
    assert driver.counters()["gap_bytes"] == 10


def test_hole_acknowledged_and_filled_within_the_grace_is_none(driver, talk):
    talk.skip(CLIENT, 3)
    talk.c(b"def")
    talk.s()
    talk.rest(0.15)
    talk.c(b"abc", at=0)
    driver.tick(talk.now + SECOND)
    assert client(driver) == [b"abcdef"]
    assert "gaps" not in driver.counters()


def test_ack_before_its_data_is_no_gap(driver, talk):
    """A mirror port hands over the receiver's acknowledgement first."""
    data = talk.segment(CLIENT, ACK, b"data")
    talk.s()
    talk.give(data)
    driver.tick(talk.now + SECOND)
    assert client(driver) == [b"data"]


def test_hole_filled_in_part_the_rest_becomes_the_gap(driver, talk):
    talk.skip(CLIENT, 10)
    talk.c(b"after")
    talk.s()
    talk.c(b"xxx", at=4)
    driver.tick(talk.now + SECOND)
    assert client(driver) == [
        (0, 4, "acked_unseen"),
        b"xxx",
        (7, 3, "acked_unseen"),
        b"after",
    ]


def test_data_behind_the_grace_is_not_delivered_again(driver, talk):
    talk.skip(CLIENT, 4)
    talk.c(b"after")
    talk.s()
    talk.rest(1)
    talk.c(b"late", at=0)
    assert client(driver) == [(0, 4, "acked_unseen"), b"after"]
    assert driver.flows[0].retransmissions[CLIENT] == 1


def test_last_bytes_lost_become_a_gap_once_their_sender_has_gone_beyond(driver, talk):
    """An acknowledgement alone is one end's word about the other: it does not make a gap."""
    talk.c(b"before")
    talk.skip(CLIENT, 10)
    talk.s()
    talk.rest(1)
    talk.s()
    assert client(driver) == [b"before"]
    talk.c()
    driver.tick(talk.now + SECOND)
    assert client(driver) == [b"before", (6, 10, "acked_unseen")]


def test_last_bytes_lost_and_acknowledged_become_a_gap_at_the_end(driver, talk):
    talk.c(b"before")
    talk.skip(CLIENT, 10)
    talk.s()
    driver.close_all()
    assert client(driver) == [b"before", (6, 10, "acked_unseen")]


def test_two_holes_become_two_gaps(driver, talk):
    talk.skip(CLIENT, 1)
    talk.c(b"b")
    talk.skip(CLIENT, 1)
    talk.c(b"d")
    talk.s()
    driver.tick(talk.now + SECOND)
    assert client(driver) == [(0, 1, "acked_unseen"), b"b", (2, 1, "acked_unseen"), b"d"]


def test_second_hole_acknowledged_later_has_its_own_grace(driver, talk):
    talk.skip(CLIENT, 1)
    talk.c(b"b")
    talk.s()
    talk.rest(0.15)
    talk.skip(CLIENT, 1)
    talk.c(b"d")
    talk.s()
    acked = talk.now - talk.step
    driver.tick(acked + 100 * MILLISECOND)
    assert client(driver) == [(0, 1, "acked_unseen"), b"b"]
    driver.tick(acked + 2 * GRACE + SECOND)
    assert client(driver)[2:] == [(2, 1, "acked_unseen"), b"d"]


def test_holes_of_both_sides_each_have_their_grace(driver, talk):
    talk.skip(CLIENT, 1)
    talk.c(b"c")
    talk.s()
    first = talk.now - talk.step
    talk.rest(0.1)
    talk.skip(SERVER, 1)
    talk.s(b"s")
    talk.c()
    second = talk.now - talk.step
    driver.tick(first + GRACE + 2 * MILLISECOND)
    assert driver.flows[0].items == ([(0, 1, "acked_unseen"), b"c"], [])
    driver.tick(second + GRACE + 2 * MILLISECOND)
    assert driver.flows[0].items[SERVER] == [(0, 1, "acked_unseen"), b"s"]


def test_fin_of_the_peer_does_not_put_the_grace_off(driver, talk):
    talk.skip(CLIENT, 1)
    talk.c(b"c")
    talk.s()
    acked = talk.now - talk.step
    talk.rest(0.05)
    talk.s(flags=FIN | ACK)
    driver.tick(acked + GRACE + 2 * MILLISECOND)
    assert client(driver) == [(0, 1, "acked_unseen"), b"c"]


def test_hole_before_the_fin_acknowledged_ends_the_stream_behind_the_gap(driver, talk):
    talk.c(b"data")
    talk.skip(CLIENT, 6)
    talk.c(flags=FIN | ACK)
    talk.s()
    assert driver.flows[0].eof == [False, False]
    driver.tick(talk.now + SECOND)
    assert client(driver) == [b"data", (4, 6, "acked_unseen")]
    assert driver.flows[0].eof == [True, False]


def test_hole_before_both_fins_closes_after_the_grace(driver, talk):
    talk.skip(CLIENT, 6)
    talk.close()
    assert driver.flows[0].reason == ""
    driver.tick(talk.now + SECOND)
    assert driver.flows[0].events[-1] == ("close", "FIN")
    assert client(driver) == [(0, 6, "acked_unseen")]


def test_grace_of_another_length_holds():
    driver = CoreDriver(reorder_grace=2.0)
    talk = Talk(driver.input)
    talk.handshake()
    talk.skip(CLIENT, 1)
    talk.c(b"b")
    talk.s()
    acked = talk.now - talk.step
    driver.tick(acked + 2 * SECOND - 1)
    assert client(driver) == []
    driver.tick(acked + 2 * SECOND + 2 * MILLISECOND)
    assert client(driver) == [(0, 1, "acked_unseen"), b"b"]
    assert_idle(driver)


# ---- one side visible: lost ----


def one_sided(driver):
    talk = Talk(driver.input)
    talk.c(flags=SYN)
    talk.ends[SERVER].sent = 0
    talk.c(b"seen")
    return talk


def test_one_sided_hole_is_lost_after_a_second(driver):
    talk = one_sided(driver)
    talk.skip(CLIENT, 10)
    talk.c(b"after")
    came = talk.now - talk.step
    driver.tick(came + SECOND - 1)
    assert client(driver) == [b"seen"]
    driver.tick(came + SECOND + 2 * MILLISECOND)
    assert client(driver) == [b"seen", (4, 10, "lost"), b"after"]


def test_one_sided_hole_filled_within_the_second_is_none(driver):
    talk = one_sided(driver)
    talk.c(b"later", at=9)
    talk.rest(0.9)
    talk.c(b"first", at=4)
    driver.tick(talk.now + 5 * SECOND)
    assert client(driver) == [b"seenfirstlater"]


def test_one_sided_second_hole_waits_its_own_second(driver):
    talk = one_sided(driver)
    talk.c(b"b", at=5)
    came = talk.now - talk.step
    talk.rest(0.9)
    talk.c(b"d", at=7)
    driver.tick(came + SECOND + 2 * MILLISECOND)
    assert client(driver) == [b"seen", (4, 1, "lost"), b"b"]
    driver.tick(came + 3 * SECOND)
    assert client(driver)[3:] == [(6, 1, "lost"), b"d"]


# ---- the store is full ----


def fill(talk, blocks, size, hole=10):
    talk.skip(CLIENT, hole)
    for _ in range(blocks):
        talk.c(b"x" * size)


def open_wide(driver):
    talk = Talk(driver.input)
    talk.ends[CLIENT].sent = talk.ends[SERVER].sent = 0
    talk.s()  # picked up in the middle: the window is taken for wide
    return talk


def test_store_of_a_mebibyte_full_makes_a_gap(driver):
    talk = open_wide(driver)
    fill(talk, 16, 65000)
    assert client(driver) == []
    fill(talk, 1, 8576 + 1, hole=0)
    assert client(driver) == [(0, 10, "out_of_order_limit"), b"x" * (MEBIBYTE + 1)]
    assert driver.usage()["buffer_bytes"] < 1024


def test_store_of_4096_ranges_full_makes_a_gap_of_the_first_hole_only(driver):
    talk = open_wide(driver)
    for i in range(4096):
        talk.c(b"x", at=1 + 2 * i)
    assert client(driver) == []
    talk.c(b"y", at=1 + 2 * 4096)
    assert client(driver) == [(0, 1, "out_of_order_limit"), b"x"]
    talk.c(b"y", at=1 + 2 * 4097)
    assert client(driver)[2:] == [(2, 1, "out_of_order_limit"), b"x"]


def test_flood_above_one_hole_is_bounded(driver):
    talk = open_wide(driver)
    for i in range(20_000):
        talk.c(b"x", at=2 + 2 * i)
    assert driver.usage()["buffer_bytes"] < MEBIBYTE
    assert len(driver.flows[0].gap_list(CLIENT)) > 10_000
    talk.c(b"z" * 65000, at=0)
    assert driver.flows[0].data(CLIENT).endswith(b"z" * 1000)


# ---- the flow ends ----


@pytest.mark.parametrize("end", ["capture end", "reset", "expiry"])
def test_hole_at_the_end_of_the_flow_is_lost(driver, talk, end):
    talk.c(b"before")
    talk.skip(CLIENT, 10)
    talk.c(b"after")
    talk.skip(CLIENT, 5)
    talk.c(b"last")
    if end == "reset":
        talk.c(flags=RST)
        driver.tick(talk.now + 2 * SECOND)  # above holes, it is doubted for a second
    elif end == "expiry":
        driver.tick(talk.now + 3700 * SECOND)
    else:
        driver.close_all()
    assert client(driver) == [b"before", (6, 10, "lost"), b"after", (21, 5, "lost"), b"last"]
    assert driver.flows[0].eof == [False, False]


def test_reset_before_all_is_acknowledged_delivers_all_without_gap(driver, talk):
    talk.c(b"a" * 1400)
    talk.c(b"b" * 1400)
    talk.s(ack=1400, flags=RST | ACK)
    assert client(driver) == [b"a" * 1400 + b"b" * 1400]
    assert "gaps" not in driver.counters()


def test_hole_behind_which_only_the_fin_came_is_lost_at_the_end(driver, talk):
    talk.c(b"before")
    talk.skip(CLIENT, 10)
    talk.c(flags=FIN | ACK)
    driver.close_all()
    assert client(driver)[0] == b"before"
    assert driver.flows[0].eof == [False, False] or client(driver)[1:] == [(6, 10, "lost")]


# ---- snap length ----


def cut(talk, data, captured):
    frame = talk.segment(CLIENT, ACK, data)
    talk.sink(frame[: 54 + captured], talk.now, wire_len=len(frame))
    talk.now += talk.step


def test_segment_cut_by_the_snap_length_ends_in_a_gap(driver, talk):
    cut(talk, b"abcdefghij", 4)
    cut(talk, b"klmnopqrst", 0)
    talk.c(b"uvw")
    assert merged(client(driver)) == [b"abcd", (4, 16, "snap_length"), b"uvw"]


def test_header_only_capture_counts_bytes_and_gives_one_gap(driver, talk):
    for _ in range(40):
        cut(talk, b"x" * 1400, 0)
    assert merged(client(driver)) == [(0, 56_000, "snap_length")]
    assert driver.flows[0].half[CLIENT]["offset"] == 56_000


def test_cut_segment_out_of_order_is_not_filled_with_anything(driver, talk):
    early = talk.segment(CLIENT, ACK, b"efghijkl", at=4)
    talk.sink(early[:57], talk.now, wire_len=len(early))
    talk.c(b"abcd", at=0)
    talk.c(b"mnop", at=12)
    talk.s()
    driver.tick(talk.now + SECOND)
    data, gap, rest = client(driver)
    assert (data, gap[:2], rest) == (b"abcdefg", (7, 5), b"mnop")


# ---- memory refused ----


def test_memory_refused_bytes_become_a_memory_gap():
    driver = CoreDriver(memory=256 + 256 + 2048, reading=False)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"x" * 1500)
    talk.s(b"y" * 100)
    talk.c(b"z" * 1000)
    assert driver.counters()["memory_refused"] == 1100
    talk.close()
    assert driver.flows[0].items == (
        [b"x" * 1500, (1500, 1000, "memory")],
        [(0, 100, "memory")],
    )
    assert driver.flows[0].events[-1] == ("close", "FIN")
    assert_idle(driver)


def test_memory_refused_for_early_bytes_that_became_next_is_a_memory_gap():
    driver = CoreDriver(memory=256 + 256 + 64 + 2048 + 2048)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"e" * 2000, at=100)
    talk.c(b"a" * 100, at=0)
    talk.c(b"rest", at=2100)
    talk.s()
    driver.tick(talk.now + SECOND)
    assert client(driver)[-2:] == [(100, 2000, "memory"), b"rest"]
    assert_idle(driver)


def test_memory_refused_for_streams_leaves_the_sides_counted():
    driver = CoreDriver(memory=0)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"abc")
    talk.close()
    assert driver.flows[0].start == (None, None)
    assert driver.flows[0].half[CLIENT]["offset"] == 3
    assert driver.flows[0].events[-1] == ("close", "FIN")
    assert_idle(driver)
