"""How connections end: FIN in every order, resets valid and not, late packets, reused ports."""

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
    RST,
    SECOND,
    SERVER,
    SYN,
    Talk,
    assert_idle,
)

LINGER = 60 * SECOND


@pytest.fixture(params=[1000, 2**32 - 8])
def talk(driver, request):
    talk = Talk(driver.input, isn=(request.param, 2**32 - 50))
    talk.handshake()
    return talk


def states(driver):
    return driver.flows[0].states


def reason(driver, number=0):
    return driver.flows[number].events[-1][1] if driver.flows[number].events else None


# ---- FIN ----


@pytest.mark.parametrize("first", [CLIENT, SERVER])
def test_established_fins_step_through_the_states(driver, talk, first):
    def both(a, b):
        return (a, b) if first == CLIENT else (b, a)

    talk.say(first, FIN | ACK)
    assert states(driver) == both("FIN_WAIT_1", "CLOSE_WAIT")
    talk.say(1 - first, ACK)
    assert states(driver) == both("FIN_WAIT_2", "CLOSE_WAIT")
    talk.say(1 - first, FIN | ACK)
    assert states(driver) == both("TIME_WAIT", "LAST_ACK")
    assert driver.flows[0].eof == [True, True]
    talk.say(first, ACK)
    assert states(driver) == both("TIME_WAIT", "CLOSED")
    assert reason(driver) == "FIN"


def test_established_fin_with_the_last_data_delivers_both(driver, talk):
    talk.c(b"last", FIN | ACK)
    assert driver.flows[0].items[CLIENT] == [b"last"]
    assert driver.flows[0].eof == [True, False]


def test_fin_wait_half_closed_peer_goes_on_sending(driver, talk):
    talk.c(b"request", FIN | ACK)
    for _ in range(5):
        talk.s(b"x" * 1000)
        talk.c()
    assert driver.flows[0].items == ([b"request"], [b"x" * 5000])
    assert reason(driver) != "FIN"
    talk.s(flags=FIN | ACK)
    talk.c()
    assert reason(driver) == "FIN"


def test_established_both_fins_at_once_close(driver, talk):
    theirs = talk.segment(SERVER, FIN | ACK)
    talk.c(flags=FIN | ACK, ack=0)
    talk.give(theirs)
    talk.c()
    talk.s()
    assert reason(driver) == "FIN"
    assert driver.flows[0].eof == [True, True]
    assert set(states(driver)) <= {"TIME_WAIT", "CLOSED"}


def test_fin_wait_fin_again_is_a_retransmission(driver, talk):
    talk.c(flags=FIN | ACK)
    talk.c(flags=FIN | ACK, at=0)
    assert driver.flows[0].retransmissions == (1, 0)
    talk.s(flags=FIN | ACK)
    talk.c()
    assert reason(driver) == "FIN"


def test_established_fin_before_late_data_waits_for_it(driver, talk):
    talk.c(b"abc")
    talk.c(flags=FIN | ACK, at=6)
    assert driver.flows[0].eof == [False, False]
    talk.c(b"def", at=3)
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.flows[0].eof == [True, False]


def test_established_fin_on_early_data_waits_for_what_is_before(driver, talk):
    talk.c(b"def", FIN | ACK, at=3)
    talk.c(b"abc", at=0)
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.flows[0].eof == [True, False]
    assert states(driver) == ("FIN_WAIT_1", "CLOSE_WAIT")


def test_fin_wait_data_beyond_the_fin_is_not_delivered(driver, talk):
    talk.c(b"abc", FIN | ACK)
    talk.c(b"EVIL", at=3)
    talk.c(b"EVIL", at=4)
    assert driver.flows[0].items[CLIENT] == [b"abc"]
    assert driver.counters()["tcp_beyond_fin"] == 2
    assert driver.flows[0].half[CLIENT]["offset"] == 3


def test_established_early_data_across_the_place_of_a_fin_goes_on(driver, talk):
    """docs/decisions/0038: the byte that lies there shows that the FIN is none."""
    talk.c(b"efghij", at=4)
    talk.c(flags=FIN | ACK, at=6)
    talk.c(b"abcd", at=0)
    assert driver.flows[0].items[CLIENT] == [b"abcdefghij"]
    assert driver.flows[0].eof == [False, False]
    talk.c(flags=FIN | ACK, at=10)
    assert driver.flows[0].eof == [True, False]


@pytest.mark.parametrize("at", [2, 5])
def test_established_fin_of_old_numbers_is_ignored(driver, talk, at):
    talk.c(b"abcdef")
    talk.s()
    talk.c(flags=FIN | ACK, at=at)
    talk.c(b"ghi", at=6)
    assert driver.flows[0].items[CLIENT] == [b"abcdefghi"]
    assert driver.flows[0].eof == [False, False]


def test_established_fin_far_beyond_the_window_is_ignored(driver, talk):
    talk.c(flags=FIN | ACK, at=1 << 20)
    talk.c(b"abc", at=0)
    assert states(driver) == ("ESTABLISHED", "ESTABLISHED")
    assert driver.flows[0].items[CLIENT] == [b"abc"]


def test_established_fin_behind_data_that_the_window_cuts_is_not_taken(driver):
    talk = Talk(driver.input)
    talk.ends[SERVER].window = 10
    talk.handshake()
    talk.c(b"0123456789ABC", FIN | ACK)
    talk.s(window=100, ack=10)
    talk.c(b"abcdefgh", at=10)
    assert driver.flows[0].items[CLIENT] == [b"0123456789abcdefgh"]
    assert driver.flows[0].eof == [False, False]


@pytest.mark.parametrize("handlers", [True, False])
@pytest.mark.parametrize("later", [0, 1])
def test_established_fin_seen_after_its_acknowledgement_ends_the_stream(handlers, later):
    """The tap hands over the peer's ACK of the FIN, or its own FIN, first."""
    driver = CoreDriver(handlers=handlers)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"abc")
    fin = talk.segment(CLIENT, FIN | ACK)
    talk.s(flags=FIN | ACK)
    talk.rest(later)
    talk.give(fin)
    talk.c()
    talk.s()
    assert reason(driver) == "FIN"
    assert driver.flows[0].half[CLIENT]["offset"] == 3
    assert driver.flows[0].data(CLIENT) == (b"abc" if handlers else b"")
    assert_idle(driver)


def test_last_ack_lost_the_flow_stays_until_it_expires(driver, talk):
    talk.c(flags=FIN | ACK)
    talk.s(flags=FIN | ACK)
    assert reason(driver) != "FIN"
    driver.tick(talk.now + 601 * SECOND)
    assert reason(driver) == "TIMEOUT"
    assert driver.flows[0].eof == [True, True]


def test_client_only_fin_waits_for_its_expiry(driver):
    talk = Talk(driver.input)
    talk.c(flags=SYN)
    talk.ends[SERVER].sent = 0
    talk.c(b"abc")
    talk.c(flags=FIN | ACK)
    assert driver.flows[0].eof == [True, False]
    driver.tick(talk.now + 601 * SECOND)
    assert reason(driver) == "TIMEOUT"


# ---- RST ----


@pytest.mark.parametrize("side", [CLIENT, SERVER])
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_established_rst_with_the_next_number_resets(driver, talk, side, flags):
    talk.c(b"abc")
    talk.s(b"xyz")
    talk.say(side, flags)
    assert reason(driver) == "RESET"
    assert driver.flows[0].items == ([b"abc"], [b"xyz"])
    assert driver.flows[0].eof == [False, False]
    assert states(driver) == ("CLOSED", "CLOSED")


@pytest.mark.parametrize("at", [-100, 1, 2, 100, 60_000, 70_000, 1 << 30])
def test_established_rst_with_another_number_is_ignored(driver, talk, at):
    talk.c(b"abc")
    talk.s()
    talk.s(flags=RST, at=at)
    assert driver.counters()["tcp_bad_rst"] == 1
    talk.s(b"alive", at=0)
    assert driver.flows[0].items[SERVER] == [b"alive"]


def test_established_rst_at_what_the_peer_has_acknowledged_resets(driver, talk):
    """The tap has not seen bytes that the peer has: its own next number is behind."""
    talk.skip(SERVER, 100)
    talk.c()
    talk.s(flags=RST)
    assert reason(driver) == "RESET"
    (gap,) = driver.flows[0].items[SERVER]
    assert gap[:2] == (0, 100)


def test_fin_wait_rst_instead_of_the_last_ack_resets(driver, talk):
    talk.c(flags=FIN | ACK)
    talk.s(flags=RST | ACK)
    assert reason(driver) == "RESET"


def test_closed_rst_after_the_close_changes_nothing(driver, talk):
    talk.close()
    talk.c(flags=RST)
    talk.s(flags=RST)
    assert [event[0] for event in driver.flows[0].events] == ["start", "close"]
    assert driver.counters()["late_packets"] == 2
    assert len(driver.flows) == 1


# ---- afterwards ----


def test_closed_late_packets_are_counted_and_open_nothing(driver, talk):
    talk.close()
    talk.s(b"late", at=0)
    talk.c(flags=FIN | ACK, at=0)
    talk.s()
    assert driver.counters()["late_packets"] == 3
    assert len(driver.flows) == 1


def test_closed_entry_lingers_for_its_time_and_no_longer(driver, talk):
    talk.close()
    closed = talk.now - talk.step
    driver.tick(closed + LINGER - 1)
    assert driver.usage()["flows"] == 1
    driver.tick(closed + LINGER + 3_000_000)
    assert driver.usage()["flows"] == 0
    assert driver.usage()["flow_entries"] == 0


def test_closed_late_packets_do_not_prolong_the_linger(driver, talk):
    talk.close()
    closed = talk.now
    for _ in range(10):
        talk.rest(5)
        talk.s()
    driver.tick(closed + LINGER + 3_000_000)
    assert driver.usage()["flows"] == 0


def test_reset_by_a_forged_segment_the_living_connection_is_picked_up_again(driver, talk):
    talk.c(flags=RST)
    for _ in range(70):
        talk.rest(1)
        talk.c(b"alive")
    assert len(driver.flows) == 2
    assert driver.flows[1].data(CLIENT).endswith(b"alive")


# ---- the same ports again ----


def renew(talk, isn=77_000):
    for end, number in zip(talk.ends, (isn, isn * 3), strict=True):
        end.isn, end.sent = number, 0


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_closed_syn_with_another_isn_begins_a_new_flow(driver, talk, how):
    talk.c(b"old")
    if how == "fin":
        talk.close()
    else:
        talk.s(flags=RST)
    renew(talk)
    talk.handshake()
    talk.c(b"new")
    assert [log.items[CLIENT] for log in driver.flows] == [[b"old"], [b"new"]]
    assert reason(driver, 0) == {"fin": "FIN", "reset": "RESET"}[how]
    assert driver.flows[0].id != driver.flows[1].id
    assert driver.usage()["flows"] == 1


def test_closed_syn_of_the_old_isn_is_late(driver, talk):
    talk.close()
    talk.c(flags=SYN)
    assert len(driver.flows) == 1
    assert driver.counters()["late_packets"] == 1


def test_closed_syn_from_the_other_end_turns_the_roles(driver, talk):
    talk.close()
    renew(talk)
    talk.s(flags=SYN)
    assert driver.flows[1].client[1] == 80
    assert driver.flows[1].server[1] == 40000


def test_established_syn_with_another_isn_alone_changes_nothing(driver, talk):
    talk.c(b"old ")
    syn = Talk(driver.input, isn=(77_000, 1)).segment(CLIENT, SYN)
    talk.give(syn)
    assert driver.counters()["tcp_challenged_syn"] == 1
    talk.s()
    talk.c(b"goes on")
    assert driver.flows[0].items[CLIENT] == [b"old goes on"]
    assert len(driver.flows) == 1


def test_established_syn_with_another_isn_answered_begins_a_new_flow(driver, talk):
    talk.c(b"old")
    renew(talk)
    talk.handshake()
    talk.c(b"new")
    assert reason(driver, 0) == "REUSED"
    assert [log.items[CLIENT] for log in driver.flows] == [[b"old"], [b"new"]]
    assert driver.flows[1].states == ("ESTABLISHED", "ESTABLISHED")


def test_established_synack_of_another_isn_without_its_syn_changes_nothing(driver, talk):
    talk.c(b"old")
    answer = Talk(driver.input, isn=(77_000, 88_000)).segment(SERVER, SYN | ACK, ack=0)
    talk.give(answer)
    talk.c(b" goes on")
    assert driver.flows[0].items[CLIENT] == [b"old goes on"]
    assert len(driver.flows) == 1


def test_established_reused_with_a_hole_the_hole_is_lost(driver, talk):
    talk.skip(CLIENT, 5)
    talk.c(b"old")
    renew(talk)
    talk.handshake()
    assert driver.flows[0].items[CLIENT] == [(0, 5, "lost"), b"old"]
    assert reason(driver, 0) == "REUSED"


def test_established_reused_with_the_hosts_changed_over_turns_the_roles(driver, talk):
    renew(talk)
    talk.s(flags=SYN)
    talk.c(flags=SYN | ACK)
    talk.s(b"hello")
    assert driver.flows[1].client[1] == 80
    assert driver.flows[1].items[CLIENT] == [b"hello"]
    assert reason(driver, 0) == "REUSED"


def test_established_reused_again_and_again_leaves_one_entry(driver, talk):
    for i in range(50):
        renew(talk, 1_000_000 * (i + 2))
        talk.handshake()
        talk.c(b"%d" % i)
    assert driver.usage()["flows"] == 1
    assert driver.usage()["flow_entries"] == 1
    assert [log.data(CLIENT) for log in driver.flows[1:]] == [b"%d" % i for i in range(50)]
