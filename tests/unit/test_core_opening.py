"""How connections begin: handshakes of every order, data on a SYN, resets, pick-ups."""

from __future__ import annotations

import itertools
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
    START,
    SYN,
    Talk,
    assert_idle,
    exchange,
    mss,
    window_scale,
)

ESTABLISHED = ("ESTABLISHED", "ESTABLISHED")


@pytest.fixture
def talk(driver):
    return Talk(driver.input)


# ---- the handshake step by step ---------------------------------------------


def test_closed_syn_opens_a_flow_without_a_handler(driver, talk):
    talk.c(flags=SYN)
    (log,) = driver.flows
    assert log.states == ("SYN_SENT", "SYN_RECEIVED")
    assert log.client == (b"\x0a\x00\x00\x01", 40000)
    assert log.server == (b"\x0a\x00\x00\x02", 80)
    assert log.events == []
    assert log.start_ns == START


def test_syn_sent_synack_makes_syn_received(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    assert driver.flows[0].states == ("ESTABLISHED", "SYN_RECEIVED")
    assert driver.flows[0].events == []


def test_syn_received_ack_establishes_and_starts_the_handler(driver, talk):
    talk.handshake()
    assert driver.flows[0].states == ESTABLISHED
    assert driver.flows[0].events == [("start", START + 2_000_000)]
    exchange(driver, talk)
    assert driver.counters()["flows"] == 1


def test_syn_received_data_establishes_and_is_delivered(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.c(b"hello", PSH | ACK)
    assert driver.flows[0].states == ESTABLISHED
    assert driver.flows[0].items[CLIENT] == [b"hello"]


def test_syn_received_fin_establishes_and_ends_the_stream(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.c(flags=FIN | ACK)
    assert driver.flows[0].states == ("FIN_WAIT_1", "CLOSE_WAIT")
    assert driver.flows[0].eof == [True, False]


@pytest.mark.parametrize("isn", [0, (1 << 31) - 1, (1 << 32) - 1, (1 << 32) - 2])
def test_closed_handshake_with_any_isn_establishes(isn):
    driver = CoreDriver()
    talk = Talk(driver.input, isn=(isn, isn))
    talk.handshake()
    exchange(driver, talk)
    assert_idle(driver)


def test_closed_handshake_over_ipv6_establishes():
    driver = CoreDriver()
    talk = Talk(driver.input, client=("2001:db8::1", 50000), server=("2001:db8::2", 443))
    talk.handshake()
    exchange(driver, talk)
    assert driver.flows[0].client[1] == 50000
    assert_idle(driver)


@pytest.mark.parametrize("start", ["syn", "established", "data"])
def test_start_point_decides_when_the_handler_begins(start):
    driver = CoreDriver(start=start)
    talk = Talk(driver.input)
    seen = []
    for step in (
        lambda: talk.c(flags=SYN),
        lambda: talk.s(flags=SYN | ACK),
        talk.c,
        lambda: talk.c(b"data"),
    ):
        step()
        seen.append(any(event[0] == "start" for event in driver.flows[0].events))
    assert seen.index(True) == {"syn": 0, "established": 2, "data": 3}[start]
    assert driver.flows[0].items[CLIENT] == [b"data"]
    assert_idle(driver)


# ---- repeated and contradictory SYNs ----------------------------------------


def test_syn_sent_syn_again_is_a_retransmission(driver, talk):
    talk.c(flags=SYN)
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.s(flags=SYN | ACK)
    talk.c()
    talk.s(flags=SYN | ACK)
    assert driver.flows[0].retransmissions == (1, 1)
    exchange(driver, talk)


def test_syn_sent_syn_of_another_isn_confirmed_keeps_one_flow(driver, talk):
    talk.c(flags=SYN)
    talk.count_anew(CLIENT, 77_000)
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)
    assert len(driver.flows) == 1


def test_syn_sent_syn_of_another_isn_not_confirmed_keeps_the_first(driver, talk):
    talk.c(flags=SYN)
    talk.count_anew(CLIENT, 77_000)
    talk.c(flags=SYN)
    talk.count_anew(CLIENT, 1000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)
    assert len(driver.flows) == 1
    assert driver.flows[0].half[CLIENT]["isn"] == 1000


def test_syn_received_syn_of_another_isn_answered_anew_takes_it(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.count_anew(CLIENT, 77_000)
    talk.c(flags=SYN)
    talk.count_anew(SERVER, 900_000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)
    assert len(driver.flows) == 1


def test_syn_sent_several_synacks_the_clients_ack_chooses_the_last(driver, talk):
    talk.c(flags=SYN)
    talk.count_anew(SERVER, 123_456)
    talk.s(flags=SYN | ACK)
    talk.count_anew(SERVER, 500_000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)
    assert driver.flows[0].half[SERVER]["isn"] == 500_000


@pytest.mark.parametrize("second", [123_456, 987_654])
def test_syn_sent_several_synacks_the_clients_ack_chooses_the_first(driver, talk, second):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.count_anew(SERVER, second)
    talk.s(flags=SYN | ACK)
    talk.count_anew(SERVER, 500_000)
    talk.c()
    exchange(driver, talk)
    assert driver.flows[0].half[SERVER]["isn"] == 500_000


def test_syn_sent_synack_of_something_else_is_ignored(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK, ack=5000)
    assert driver.counters()["tcp_bad_ack"] == 1
    assert driver.flows[0].states == ("SYN_SENT", "SYN_RECEIVED")
    talk.count_anew(SERVER, 640_000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)


def test_syn_received_ack_of_one_is_no_earlier_isn_of_zero(driver):
    talk = Talk(driver.input, isn=(0xFFFF0000, 2**31))
    talk.c(flags=SYN)
    talk.c(b"abc", ack=5)
    talk.s(ack=1 - talk.ends[CLIENT].number(0))
    talk.c(b"def")
    assert driver.flows[0].half[CLIENT]["isn"] == 0xFFFF0000
    assert driver.flows[0].data(CLIENT) == b"abcdef"


def test_syn_received_ack_of_nothing_is_ignored(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.c(ack=-1)
    assert driver.counters()["tcp_bad_ack"] == 1
    assert driver.flows[0].events == []
    talk.c()
    exchange(driver, talk)


# ---- other handshakes -------------------------------------------------------


def test_syn_sent_syn_of_the_peer_is_a_simultaneous_open(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN)
    assert driver.flows[0].states == ("SYN_RECEIVED", "SYN_RECEIVED")
    talk.c(flags=SYN | ACK)
    talk.s(flags=SYN | ACK)
    talk.c()
    talk.s()
    exchange(driver, talk)
    assert len(driver.flows) == 1


def test_simultaneous_open_with_data_on_both_syns_delivers_both(driver, talk):
    talk.c(b"abc", SYN)
    talk.s(b"xyz", SYN)
    talk.c(flags=SYN | ACK)
    talk.s(flags=SYN | ACK)
    talk.c(b"def")
    talk.s(b"uvw")
    talk.c()
    assert driver.flows[0].items == ([b"abcdef"], [b"xyzuvw"])


def test_split_handshake_of_four_establishes_with_the_first_as_client(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN)
    talk.c(flags=SYN | ACK)
    talk.s()
    exchange(driver, talk)


def test_split_handshake_of_five_establishes_with_the_first_as_client(driver, talk):
    talk.c(flags=SYN)
    talk.s(at=-1)
    talk.s(flags=SYN)
    talk.c(flags=SYN | ACK)
    talk.s()
    exchange(driver, talk)
    assert driver.flows[0].client == (b"\x0a\x00\x00\x01", 40000)


def test_closed_synack_first_opens_with_its_receiver_as_client(driver, talk):
    talk.ends[CLIENT].sent = 0
    talk.s(flags=SYN | ACK)
    assert driver.flows[0].client[1] == 40000
    talk.c()
    exchange(driver, talk)


def test_synack_first_late_syn_fits_in(driver, talk):
    synack = talk.segment(SERVER, SYN | ACK)
    syn = talk.segment(CLIENT, SYN, options=mss(1200))
    talk.give(synack)
    talk.give(syn)
    talk.c()
    exchange(driver, talk)
    assert driver.flows[0].mss == (1200, 0)
    assert len(driver.flows) == 1


def test_syn_sent_ack_before_the_synack_was_seen_establishes(driver, talk):
    """The tap hands over the handshake's last two segments in the wrong order."""
    talk.c(flags=SYN)
    synack = talk.segment(SERVER, SYN | ACK, options=mss(1300))
    talk.c(b"early")
    talk.give(synack)
    talk.s(b"fine")
    talk.c()
    assert driver.flows[0].items == ([b"early"], [b"fine"])
    assert driver.flows[0].mss == (0, 1300)
    assert len(driver.flows) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_handshake_and_first_data_in_any_order_are_one_flow(driver, talk, order):
    frames = [
        talk.segment(CLIENT, SYN, options=mss(1111)),
        talk.segment(SERVER, SYN | ACK, options=mss(2222)),
        talk.segment(CLIENT, ACK),
        talk.segment(CLIENT, ACK, b"first "),
    ]
    for i in order:
        talk.give(frames[i])
    talk.s(b"answer")
    talk.c(b"second")
    assert len(driver.flows) == 1
    assert driver.flows[0].items == ([b"first second"], [b"answer"])
    assert driver.flows[0].mss == (1111, 2222)
    assert driver.flows[0].client[1] == 40000


# ---- data on the SYN --------------------------------------------------------


def test_syn_sent_data_on_it_acknowledged_is_delivered_first(driver, talk):
    talk.c(b"early ", SYN)
    talk.s(flags=SYN | ACK)
    assert driver.flows[0].items[CLIENT] == []
    talk.c(b"data")
    assert driver.flows[0].items[CLIENT] == [b"early data"]
    assert driver.counters().get("tcp_retransmitted", 0) == 0


def test_syn_sent_data_on_it_not_acknowledged_is_forgotten(driver, talk):
    talk.c(b"EVIL", SYN)
    talk.s(flags=SYN | ACK, ack=0)
    talk.c(at=0)
    talk.c(b"good", at=0)
    assert driver.flows[0].items[CLIENT] == [b"good"]


def test_syn_sent_data_on_it_sent_again_after_refusal_is_delivered_once(driver, talk):
    talk.c(b"hello", SYN)
    talk.s(flags=SYN | ACK, ack=0)
    talk.c(b"hello", at=0)
    talk.s()
    assert driver.flows[0].items[CLIENT] == [b"hello"]


@pytest.mark.parametrize("start", ["syn", "established", "data"])
def test_any_start_point_data_on_the_syn_is_read(start):
    driver = CoreDriver(start=start)
    talk = Talk(driver.input)
    talk.c(b"abc", SYN)
    talk.s(flags=SYN | ACK)
    talk.c(b"def")
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.flows[0].start[CLIENT] == 0
    assert_idle(driver)


def test_syn_sent_data_on_it_and_another_isn_chosen_is_forgotten(driver, talk):
    talk.c(flags=SYN)
    talk.count_anew(CLIENT, 77_000)
    talk.c(b"EVIL", SYN)
    talk.count_anew(CLIENT, 1000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)


@pytest.mark.parametrize("end", ["reset", "expiry", "capture end"])
def test_syn_sent_data_on_it_and_the_flow_ends_is_never_delivered(driver, talk, end):
    talk.c(b"early", SYN)
    if end == "reset":
        talk.s(flags=RST | ACK, ack=0)
    elif end == "expiry":
        driver.tick(talk.now + 30 * SECOND)
    else:
        driver.close_all()
    reason = {"reset": "RESET", "expiry": "TIMEOUT", "capture end": "CAPTURE_END"}[end]
    assert driver.flows[0].events == [("close", reason)]
    assert driver.flows[0].items == ([], [])


# ---- resets of a handshake --------------------------------------------------


def test_syn_sent_rst_acknowledging_it_resets(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=RST | ACK, at=-1)
    assert driver.flows[0].events == [("close", "RESET")]
    assert driver.flows[0].states == ("CLOSED", "CLOSED")


def test_syn_sent_rst_acknowledging_something_else_is_ignored(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=RST | ACK, ack=1000)
    talk.s(flags=RST)
    assert driver.counters()["tcp_bad_rst"] == 2
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)


def test_syn_sent_rst_of_the_client_itself_resets(driver, talk):
    talk.c(flags=SYN)
    talk.c(flags=RST)
    assert driver.flows[0].events == [("close", "RESET")]


def test_syn_received_rst_of_the_client_resets(driver, talk):
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.c(flags=RST)
    assert driver.flows[0].events == [("close", "RESET")]


def test_syn_sent_rst_injected_takes_no_numbers_from_it(driver, talk):
    """Zeek's rst-after-syn: sizes must not grow by what a forged reset says."""
    talk.c(flags=SYN)
    talk.s(flags=RST, at=900_000)
    talk.s(flags=SYN | ACK)
    talk.c()
    exchange(driver, talk)
    assert driver.flows[0].half[SERVER]["offset"] == len(b"response")


# ---- flags that no stack sends ----------------------------------------------


@pytest.mark.parametrize("flags", [0, PSH, SYN | FIN, SYN | RST, FIN | RST | ACK, 0x3F])
def test_closed_impossible_flags_open_nothing(driver, talk, flags):
    talk.c(flags=flags)
    assert driver.flows == []
    assert driver.counters()["tcp_no_flow"] == 1


@pytest.mark.parametrize("flags", [0, SYN | FIN, SYN | RST | ACK, FIN | RST | ACK, 0x3F])
def test_established_impossible_flags_change_nothing(driver, talk, flags):
    talk.handshake()
    talk.say(CLIENT, flags, b"EVIL", at=0)
    assert driver.counters()["tcp_bad_flags"] == 1
    talk.ends[CLIENT].sent = 0
    exchange(driver, talk)


@pytest.mark.parametrize("flags", [PSH, FIN, PSH | FIN])
def test_established_data_without_ack_flag_is_not_delivered(driver, talk, flags):
    talk.handshake()
    talk.c(b"EVIL", flags)
    assert driver.counters()["tcp_no_ack"] == 1
    talk.ends[CLIENT].sent = 0
    exchange(driver, talk)


# ---- options ----------------------------------------------------------------


def test_both_offer_scaling_windows_are_scaled(driver, talk):
    talk.handshake((window_scale(3), window_scale(5)))
    assert [half["scale"] for half in driver.flows[0].half] == [3, 5]
    talk.c(window=1000)
    half = driver.flows[0].half[CLIENT]
    assert half["edge"] == max(500_001 + 65535, 500_001 + (1000 << 3), 500_001 + (65535 << 3))


@pytest.mark.parametrize("options", [(b"", window_scale(5)), (window_scale(3), b""), (b"", b"")])
def test_one_offers_no_scaling_windows_are_as_they_stand(driver, talk, options):
    talk.handshake(options)
    assert [half["scale"] for half in driver.flows[0].half] == [0, 0]


def test_synack_window_is_never_scaled(driver, talk):
    talk.c(flags=SYN, options=window_scale(7))
    talk.s(flags=SYN | ACK, options=window_scale(7), window=1000)
    assert driver.flows[0].half[SERVER]["edge"] == 1001 + 1000


def test_syns_announce_their_segment_sizes(driver, talk):
    talk.handshake((mss(1460), mss(8960)))
    assert driver.flows[0].mss == (1460, 8960)


def test_malformed_options_are_counted_and_the_rest_is_used(driver, talk):
    talk.handshake((mss(1400) + b"\x03\x00", b""))
    assert driver.counters()["tcp_bad_options"] == 1
    assert driver.flows[0].mss == (1400, 0)
    exchange(driver, talk)
