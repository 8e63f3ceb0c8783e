"""Text on an open connection: order, repetition, overlap, windows, sequence wrap."""

from __future__ import annotations

import random
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
    SECOND,
    SERVER,
    SYN,
    URG,
    Talk,
    assert_idle,
    datagram,
    window_scale,
)

ISNS = [1000, 0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFF8, 0x80000000]


@pytest.fixture(params=ISNS)
def talk(driver, request):
    talk = Talk(driver.input, isn=(request.param, 2**32 - 5))
    talk.handshake()
    return talk


def client(driver):
    return driver.flows[0].items[CLIENT]


def server(driver):
    return driver.flows[0].items[SERVER]


# ---- order ----


def test_established_data_both_ways_is_delivered_in_order(driver, talk):
    for word in (b"one ", b"two ", b"three"):
        talk.c(word)
        talk.s(word.upper())
    assert client(driver) == [b"one two three"]
    assert server(driver) == [b"ONE TWO THREE"]


def test_established_data_with_push_flag_is_data(driver, talk):
    talk.c(b"abc", PSH | ACK)
    assert client(driver) == [b"abc"]


def test_established_early_segment_waits_for_the_one_before(driver, talk):
    talk.c(b"def", at=3)
    assert client(driver) == []
    talk.c(b"abc", at=0)
    assert client(driver) == [b"abcdef"]
    assert driver.counters()["tcp_out_of_order"] == 1


def test_established_segments_in_any_order_are_delivered_once(driver, talk):
    whole = random.Random(5).randbytes(20_000)
    places = list(range(0, 20_000, 700))
    random.Random(6).shuffle(places)
    for place in places:
        talk.c(whole[place : place + 700], at=place)
    assert client(driver) == [whole]


def test_established_long_transfer_across_the_wrap_counts_on(driver):
    talk = Talk(driver.input, isn=(2**32 - 100_000, 1))
    talk.handshake()
    whole = random.Random(7).randbytes(300_000)
    for place in range(0, len(whole), 1460):
        talk.c(whole[place : place + 1460])
        talk.s()
    assert client(driver) == [whole]
    assert driver.flows[0].half[CLIENT]["offset"] == 300_000


# ---- repetition and overlap ----


def test_established_exact_repetition_is_delivered_once(driver, talk):
    talk.c(b"abc")
    talk.s()
    talk.c(b"abc", at=0)
    assert client(driver) == [b"abc"]
    assert driver.flows[0].retransmissions == (1, 0)


def test_established_other_bytes_for_old_numbers_are_not_delivered(driver, talk):
    talk.c(b"GOOD")
    talk.c(b"EVIL", at=0)
    assert client(driver) == [b"GOOD"]


def test_established_segment_that_overlaps_the_old_brings_its_new_part(driver, talk):
    talk.c(b"abcd")
    talk.c(b"CDefgh", at=2)
    assert client(driver) == [b"abcdefgh"]


def test_established_early_copies_the_first_wins(driver, talk):
    talk.c(b"FIRST", at=3)
    talk.c(b"second", at=3)
    talk.c(b"abc", at=0)
    assert client(driver) == [b"abcFIRSTd"]
    assert driver.counters()["tcp_differing"] == 1


def test_established_segment_over_early_pieces_fills_round_them(driver, talk):
    talk.c(b"CC", at=2)
    talk.c(b"FF", at=5)
    talk.c(b"aabbcddeeff", at=0)
    assert client(driver)[0][:2] == b"aa"
    assert len(client(driver)[0]) == 11


def test_established_early_repetition_counts_as_one(driver, talk):
    talk.c(b"late", at=100)
    talk.c(b"late", at=100)
    assert driver.flows[0].retransmissions[CLIENT] == 1
    talk.c(bytes(100), at=0)
    assert client(driver) == [bytes(100) + b"late"]


def test_established_keep_alive_changes_nothing(driver, talk):
    talk.c(b"abc")
    talk.s()
    talk.c(b"", at=2)
    talk.c(b"?", at=2)
    talk.s()
    talk.c(b"def")
    assert client(driver) == [b"abcdef"]


# ---- windows ----


def open_with_window(driver, window):
    talk = Talk(driver.input)
    talk.ends[SERVER].window = window
    talk.handshake()
    return talk


def test_established_data_beyond_the_window_is_not_delivered(driver):
    talk = open_with_window(driver, 100)
    talk.c(b"EVIL", at=101)
    talk.c(b"a" * 100, at=0)
    talk.s()
    talk.c(b"rest", at=100)
    assert client(driver) == [b"a" * 100 + b"rest"]
    assert driver.counters()["tcp_outside_window"] == 1


def test_established_data_across_the_window_edge_is_cut_there(driver):
    talk = open_with_window(driver, 100)
    talk.c(b"a" * 100 + b"EVIL", at=0)
    talk.s(ack=100)
    talk.c(b"good", at=100)
    assert client(driver) == [b"a" * 100 + b"good"]


def test_established_zero_window_probe_is_not_delivered_before_the_window_opens(driver):
    talk = open_with_window(driver, 10)
    talk.c(b"a" * 10)
    talk.s(window=0)
    talk.c(b"b")
    talk.s(window=0, ack=10)
    assert client(driver) == [b"a" * 10]
    talk.s(window=10, ack=10)
    talk.c(b"b", at=10)
    assert client(driver) == [b"a" * 10 + b"b"]


def test_established_window_once_offered_is_not_taken_back(driver):
    talk = open_with_window(driver, 1000)
    talk.s(window=0)
    talk.c(b"was on its way")
    assert client(driver) == [b"was on its way"]


def test_established_scaled_window_allows_what_it_says(driver):
    talk = Talk(driver.input)
    talk.c(flags=SYN, options=window_scale(0))
    talk.s(flags=SYN | ACK, options=window_scale(10), window=500)
    talk.c()
    talk.s(window=500)
    talk.c(b"x", at=500 << 10)
    assert driver.counters()["tcp_outside_window"] == 1
    talk.c(b"x", at=(500 << 10) - 1)
    assert driver.counters()["tcp_outside_window"] == 1
    assert driver.counters()["tcp_out_of_order"] == 1


def test_midstream_window_of_an_unknown_scale_is_taken_for_wide(driver):
    talk = Talk(driver.input)
    talk.ends[CLIENT].sent = talk.ends[SERVER].sent = 5000
    talk.s(window=10)
    talk.c(b"a" * 1400)
    talk.c(b"b" * 1400)
    assert client(driver) == [b"a" * 1400 + b"b" * 1400]


def test_established_old_data_left_of_the_window_is_not_delivered(driver, talk):
    talk.c(b"a" * 1000)
    talk.s()
    talk.c(b"OLD", at=-500)
    assert client(driver) == [b"a" * 1000]
    assert driver.flows[0].retransmissions == (1, 0)


# ---- what else a segment carries ----


def test_established_urgent_flag_does_not_disturb(driver, talk):
    talk.c(b"abc", URG | ACK)
    talk.c(b"def")
    assert client(driver) == [b"abcdef"]


def test_established_ethernet_padding_is_not_delivered(driver, talk):
    talk.give(talk.segment(CLIENT, ACK, b"a") + b"PADDING")
    talk.c(b"b")
    assert client(driver) == [b"ab"]


def test_established_offloaded_segment_of_64_kib_is_delivered(driver):
    talk = Talk(driver.input)
    talk.handshake()
    frame = bytearray(talk.segment(CLIENT, ACK, b"x" * 65000))
    frame[16:18] = b"\0\0"
    talk.give(bytes(frame))
    assert client(driver) == [b"x" * 65000]


@pytest.mark.parametrize("cuts", [(60,), (54, 55, 300, 1000), (14, 34), tuple(range(1, 100))])
def test_established_frame_in_segments_is_delivered(driver, cuts):
    talk = Talk(driver.input)
    talk.handshake()
    whole = random.Random(1).randbytes(1400)
    driver.input(talk.segment(CLIENT, ACK, whole), talk.now, cuts=cuts)
    driver.input(talk.segment(CLIENT, ACK, whole), talk.now + 1, cuts=(54,), head_len=54)
    assert client(driver) == [whole * 2]
    early = talk.segment(SERVER, ACK, whole[700:], at=700)
    driver.input(early, talk.now + 2, cuts=cuts)
    driver.input(talk.segment(SERVER, ACK, whole[:700], at=0), talk.now + 3, cuts=cuts)
    assert server(driver) == [whole]


def test_established_vlan_tag_on_one_direction_is_one_flow(driver, talk):
    talk.c(b"abc")
    plain = talk.segment(SERVER, ACK, b"xyz")
    talk.give(plain[:12] + b"\x81\x00\x00\x05" + plain[12:])
    assert (client(driver), server(driver)) == ([b"abc"], [b"xyz"])
    assert len(driver.flows) == 1


def test_vlan_in_key_tells_flows_apart():
    driver = CoreDriver(vlan_in_key=True)
    for tag in (5, 6):
        for i in range(2):
            driver.input(datagram(b"x", vlan=[tag]), i * SECOND)
    assert [log.vlan for log in driver.flows] == [[5], [6]]
    assert_idle(driver)


# ---- sides, engines without readers ----


@pytest.mark.parametrize(("sides", "kept"), [(1, (True, False)), (2, (False, True))])
def test_one_side_wanted_the_other_is_counted_not_kept(sides, kept):
    driver = CoreDriver(sides=sides)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"request")
    talk.s(b"response")
    talk.s(b"lost in order", at=100)
    talk.s(b"." * 92, at=8)
    talk.c()
    log = driver.flows[0]
    assert [start is not None for start in log.start] == list(kept)
    assert log.half[CLIENT]["offset"] == 7
    assert log.data(CLIENT) == (b"request" if kept[CLIENT] else b"")
    assert log.half[SERVER]["offset"] == 113
    assert_idle(driver)


def test_no_handler_counts_bytes_holes_and_fin_without_keeping_any():
    driver = CoreDriver(handlers=False)
    talk = Talk(driver.input)
    talk.handshake()
    for _ in range(10):
        talk.c(b"x" * 1000)
        talk.skip(CLIENT, 500)
    talk.c(flags=FIN | ACK)
    talk.s(b"y" * 3000)
    talk.s(flags=FIN | ACK)
    talk.c()
    log = driver.flows[0]
    assert [half["offset"] for half in log.half] == [15_000, 3000]
    assert log.events == [("close", "FIN")]
    assert driver.usage()["buffer_bytes_peak"] == 0
    assert_idle(driver)
