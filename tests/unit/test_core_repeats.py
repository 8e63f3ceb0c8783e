"""What is told of bytes that come again, early, or for the first time (semantics.md 12)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import SERVER, Talk, assert_idle

REPEATS = ("Retransmission", "Overlap")
NO, YES, UNKNOWN = 0, 1, 2
RECEIVER = 1
ISNS = [1000, 0xFFFFFFF8]


def made(isn=1000, **options):
    driver = CoreDriver(**{"listen": REPEATS, **options})
    talk = Talk(driver.input, isn=(7, isn))
    talk.handshake()
    driver.told.clear()
    return driver, talk


@pytest.fixture(params=ISNS)
def isn(request):
    return request.param


def repeats(driver):
    """(offset, length, differs) of every Retransmission of the server's bytes."""
    return [
        (e["a"], e["b"], e["c"])
        for e in driver.told
        if e["event"] == "Retransmission" and e["side"] == SERVER
    ]


def overlaps(driver):
    """(offset, old, new, who wins) of every Overlap."""
    return [
        (e["a"], e["old"], e["new"], ("old", "new")[e["c"]])
        for e in driver.told
        if e["event"] == "Overlap"
    ]


# ---- what was delivered ----


def test_established_exact_duplicate_payload_is_told_not_to_differ(isn):
    driver, talk = made(isn)
    talk.s(b"abcdef")
    talk.s(b"abcdef", at=0)
    assert repeats(driver) == [(0, 6, NO)]
    assert overlaps(driver) == []
    assert driver.flows[0].data(SERVER) == b"abcdef"
    assert_idle(driver)


def test_established_same_numbers_other_payload_first_is_read_and_both_are_told(isn):
    """Quantum insert: the forged copy came first."""
    driver, talk = made(isn)
    first, second = b"HTTP/1.1 200 OK\r\nBANG!", b"HTTP/1.1 200 OK\r\nServer: nginx"
    talk.s(first)
    talk.s(second, at=0)
    n = len(first)
    assert repeats(driver) == [(0, n, YES)]
    assert overlaps(driver) == [(0, first, second[:n], "old")]
    assert driver.flows[0].data(SERVER) == first + second[n:]
    assert_idle(driver)


def test_established_repeated_range_told_before_it_counts_at_the_receiver_hook():
    driver, talk = made()
    talk.s(b"abcdef")
    talk.s(b"cdefgh", at=2)
    [event] = driver.told
    assert (event["event"], event["hook"], event["packet"]) == ("Retransmission", RECEIVER, True)
    assert (event["a"], event["b"], event["c"]) == (2, 4, NO)
    assert_idle(driver)


def test_established_repeated_bytes_read_or_not_are_judged_alike():
    """Whether a reader has taken the old bytes depends on the burst; what is told does not."""
    told = []
    for reading in (True, False):
        driver, talk = made(reading=reading)
        for i in range(20):
            talk.s(bytes([i]) * 1000)
        talk.s(b"x" * 1000, at=0)
        talk.s(b"\x00" * 500 + b"x" * 500, at=19_000)
        talk.s(bytes([15]) * 1000 + b"x" * 10, at=15_000)
        told.append((repeats(driver), overlaps(driver)))
        assert_idle(driver)
    assert told[0] == told[1]
    assert told[0][0] == [(0, 1000, UNKNOWN), (19_000, 1000, YES), (15_000, 1010, YES)]


@pytest.mark.parametrize(("history", "differs"), [(0, UNKNOWN), (50, UNKNOWN), (20_000, YES)])
def test_established_old_bytes_are_judged_as_far_as_history_is_kept(history, differs):
    driver, talk = made(history=history)
    for _ in range(100):
        talk.s(b"a" * 100)
    talk.s(b"b" * 100, at=0)
    assert repeats(driver) == [(0, 100, differs)]
    assert_idle(driver)


def test_established_range_older_than_history_in_part_known_to_differ_or_unknown():
    driver, talk = made(history=50)
    talk.s(b"a" * 100)
    talk.s(b"a" * 100, at=0)
    talk.s(b"a" * 99 + b"b", at=0)
    assert repeats(driver) == [(0, 100, UNKNOWN), (0, 100, YES)]
    assert overlaps(driver) == [(50, b"a" * 50, b"a" * 49 + b"b", "old")]
    assert_idle(driver)


def test_established_bytes_of_a_gap_that_come_late_are_unknown():
    driver, talk = made()
    talk.s(b"abc")
    talk.s(b"jkl", at=9)
    talk.c()
    talk.rest(1)
    talk.s(b"mno")
    talk.s(b"defghi", at=3)
    talk.s(b"ghijkL", at=6)
    assert driver.flows[0].gap_list(SERVER) == [(3, 6, "acked_unseen")]
    assert repeats(driver) == [(3, 6, UNKNOWN), (6, 6, YES)]
    assert overlaps(driver) == [(9, b"jkl", b"jkL", "old")]
    assert_idle(driver)


def test_sequence_only_side_repeated_bytes_are_told_as_unknown():
    driver, talk = made(sides=1)
    talk.s(b"abcdef")
    talk.s(b"abXdef", at=0)
    assert repeats(driver) == [(0, 6, UNKNOWN)]
    assert_idle(driver)


def test_midstream_bytes_from_before_the_pickup_repeat_nothing():
    driver = CoreDriver(listen=REPEATS)
    talk = Talk(driver.input, isn=(7, 1000))
    talk.s(b"here", at=500)
    talk.s(b"before", at=400)
    talk.s(b"before and here", at=489)
    assert repeats(driver) == [(0, 4, NO)]
    assert_idle(driver)


def test_established_nobody_listens_nothing_is_kept():
    driver = CoreDriver()
    talk = Talk(driver.input)
    talk.handshake()
    before = driver.usage()["buffer_bytes"]
    talk.s(b"a" * 5000)
    assert driver.usage()["buffer_bytes"] == before
    assert_idle(driver)


# ---- what waits ----


def test_hole_same_range_twice_is_told_once_with_its_outcome(isn):
    driver, talk = made(isn)
    talk.s(b"defghi", at=3)
    talk.s(b"fgh", at=5)
    talk.s(b"fGh", at=5)
    assert repeats(driver) == [(5, 3, NO), (5, 3, YES)]
    assert overlaps(driver) == [(5, b"fgh", b"fGh", "old")]
    talk.s(b"abc", at=0)
    assert driver.flows[0].data(SERVER) == b"abcdefghi"
    assert_idle(driver)


def test_hole_segment_over_two_pieces_tells_each_range(isn):
    driver, talk = made(isn)
    talk.s(b"bc", at=1)
    talk.s(b"ef", at=4)
    talk.s(b"bcdEf", at=1)
    assert repeats(driver) == [(1, 2, NO), (4, 2, YES)]
    talk.s(b"a", at=0)
    assert driver.flows[0].data(SERVER) == b"abcdef"
    assert_idle(driver)


@pytest.mark.parametrize("n", [2, 1000])
def test_hole_adjacent_pieces_repeated_at_once_are_one_range(n):
    driver, talk = made()
    talk.s(b"b" * n, at=1)
    talk.s(b"d" * n, at=1 + n)
    talk.s(b"b" + b"D" * (n - 1), at=n)
    assert repeats(driver) == [(n, n, YES)]
    assert overlaps(driver) == [(n, b"b" + b"d" * (n - 1), b"b" + b"D" * (n - 1), "old")]
    assert_idle(driver)


@pytest.mark.parametrize(("policy", "winner"), [("first", "old"), ("bsd", "new"), ("last", "new")])
def test_hole_differing_copy_winner_is_the_policys(policy, winner):
    driver, talk = made(policy=policy)
    talk.s(b"def", at=3)
    talk.s(b"cDe", at=2)
    talk.s(b"ab", at=0)
    assert overlaps(driver) == [(3, b"de", b"De", winner)]
    assert driver.flows[0].data(SERVER) == (b"abcdef" if winner == "old" else b"abcDef")
    assert_idle(driver)


def test_hole_copy_with_two_outcomes_is_two_ranges():
    driver, talk = made(policy="bsd")
    talk.s(b"bbb", at=1)
    talk.s(b"eee", at=4)
    talk.s(b"xxxx", at=2)
    assert repeats(driver) == [(2, 2, YES), (4, 2, YES)]
    assert overlaps(driver) == [(2, b"bb", b"xx", "old"), (4, b"ee", b"xx", "new")]
    talk.s(b"a", at=0)
    assert driver.flows[0].data(SERVER) == b"abbbxxe"
    assert_idle(driver)


def test_hole_bytes_in_frame_segments_are_compared_and_told():
    driver, talk = made()
    talk.s(b"bcdefgh", at=1)
    frame = talk.segment(SERVER, 0x10, b"bcdEfgh", at=1)
    driver.input(frame, talk.now, cuts=(len(frame) - 5, len(frame) - 2), head_len=60)
    assert overlaps(driver) == [(1, b"bcdefgh", b"bcdEfgh", "old")]
    assert_idle(driver)


# ---- early, new, missing ----


def events(driver, *names):
    return [
        (e["event"], e["side"], e["hook"], e["a"], e["b"])
        for e in driver.told
        if e["event"] in names
    ]


def test_established_out_of_order_is_told_then_new_data_of_both():
    driver, talk = made(listen=("OutOfOrder", "NewData"))
    talk.s(b"def", at=3)
    talk.s(b"abc", at=0)
    assert [(e["event"], e["a"], e["b"], e["new"], e["hook"]) for e in driver.told] == [
        ("OutOfOrder", 3, 3, b"", RECEIVER),
        ("NewData", 0, 3, b"abc", RECEIVER),
        ("NewData", 3, 3, b"def", RECEIVER),
    ]
    assert_idle(driver)


def test_sequence_only_side_new_data_has_the_bytes_of_the_packet():
    driver, talk = made(listen=("OutOfOrder", "NewData"), sides=1)
    talk.s(b"abc")
    talk.s(b"ghi", at=6)
    assert [(e["event"], e["a"], e["b"], e["new"]) for e in driver.told] == [
        ("NewData", 0, 3, b"abc"),
        ("OutOfOrder", 6, 3, b""),
    ]
    assert_idle(driver)


def test_gap_is_told_by_the_timer_with_offset_length_and_cause():
    driver, talk = made(listen=("Gap", "NewData"))
    talk.s(b"def", at=3)
    talk.c()
    driver.tick(talk.now + 10**9)
    assert [(e["event"], e["a"], e["b"], e["hook"], e["packet"]) for e in driver.told] == [
        ("Gap", 0, 3, 2, False),
        ("NewData", 3, 3, 2, False),
    ]
    assert_idle(driver)


def test_cut_packet_is_a_gap_told_with_the_packet():
    driver, talk = made(listen=("Gap", "NewData"))
    frame = talk.segment(SERVER, 0x10, b"abcdefgh")
    driver.input(frame[:-3], talk.now, wire_len=len(frame))
    assert [(e["event"], e["a"], e["b"], e["new"]) for e in driver.told] == [
        ("NewData", 0, 5, b"abcde"),
        ("Gap", 5, 3, b""),
    ]
    assert driver.flows[0].items[SERVER] == [b"abcde", (5, 3, "snap_length")]
    assert_idle(driver)
