"""What a receiver checks: timestamps, acknowledgements, windows, flags (docs/tcp.md)."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

import aiomos
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
    URG,
    Talk,
    assert_idle,
    timestamp,
    window_scale,
)

DAY = 86400 * SECOND


def stamped(driver, at=(100, 900)):
    """A connection whose ends use timestamps, and the functions that say something with one."""
    talk = Talk(driver.input)
    talk.handshake((timestamp(at[0]), timestamp(at[1])))

    def say(side, data, value, flags=ACK, **fields):
        talk.say(side, flags, data, options=b"\1\1" + timestamp(value), **fields)

    return talk, say


@pytest.fixture
def driver():
    driver = CoreDriver(listen=("Anomaly", "ResetSeen"))
    yield driver
    assert_idle(driver)


# ---- timestamps -----------------------------------------------------------------------------


def test_old_timestamps_decoys_are_refused_and_the_content_is_read_once(driver):
    """test-cases row 5; mos-parity.md: data with an old timestamp."""
    talk, say = stamped(driver)
    say(CLIENT, b"GET ", 200)
    talk.s()
    say(CLIENT, b"EVIL", 50)
    say(CLIENT, b"evil", 2**31 + 300, at=4)
    say(CLIENT, b"GOOD", 201, at=4)
    assert driver.flows[0].items[CLIENT] == [b"GET GOOD"]
    assert driver.anomalies() == ["old_timestamp"] * 2
    assert driver.counters()["tcp_old_timestamp"] == 2


@pytest.mark.parametrize("isn_value", [2**32 - 1, 2**31 - 1])
def test_timestamps_wrap(driver, isn_value):
    talk, say = stamped(driver, (isn_value, 5))
    say(CLIENT, b"a", isn_value)
    talk.s(options=timestamp(6, isn_value))
    say(CLIENT, b"b", isn_value + 2)
    talk.s(options=timestamp(7, (isn_value + 2) % 2**32))
    say(CLIENT, b"x", isn_value)
    assert driver.flows[0].items[CLIENT] == [b"ab"]
    assert driver.anomalies() == ["old_timestamp"]


def test_timestamp_one_tick_old_passes_as_in_linux(driver):
    talk, say = stamped(driver)
    say(CLIENT, b"a", 200)
    talk.s()
    say(CLIENT, b"b", 199)
    assert driver.flows[0].items[CLIENT] == [b"ab"]


def test_timestamp_of_a_segment_above_a_hole_is_not_remembered(driver):
    """It may have overtaken an older one that the receiver still takes (RFC 7323 section 4.3)."""
    _talk, say = stamped(driver)
    say(CLIENT, b"b", 300, at=1)
    say(CLIENT, b"a", 200, at=0)
    assert driver.flows[0].items[CLIENT] == [b"ab"]
    assert driver.anomalies() == []


def test_timestamps_offered_by_one_end_are_not_enforced(driver):
    talk = Talk(driver.input)
    talk.handshake((timestamp(100), b""))
    talk.c(b"a", options=timestamp(200))
    talk.s()
    talk.c(b"b", options=timestamp(50))
    assert driver.flows[0].items[CLIENT] == [b"ab"]


def test_timestamp_behind_other_options_is_found(driver):
    talk, say = stamped(driver)
    say(CLIENT, b"a", 200)
    talk.s()
    talk.c(b"x", options=timestamp(50))
    talk.c(b"b", at=1)
    assert driver.flows[0].items[CLIENT] == [b"ab"]
    assert driver.anomalies() == ["old_timestamp"]


def test_midstream_timestamps_are_enforced_once_both_ends_have_shown_them(driver):
    talk = Talk(driver.input, isn=(5000, 9000))
    talk.ends[CLIENT].sent = talk.ends[SERVER].sent = 0
    talk.c(b"a", options=timestamp(300))
    talk.c(b"b", options=timestamp(200))
    talk.s(options=timestamp(7))
    talk.c(b"x", options=timestamp(100))
    assert driver.flows[0].items[CLIENT] == [b"ab"]
    assert driver.anomalies() == ["old_timestamp"]


def test_idle_for_25_days_any_timestamp_is_taken():
    """RFC 7323 section 5.5."""
    driver = CoreDriver(established=40.0 * 86400)
    talk, say = stamped(driver)
    say(CLIENT, b"a", 2**31)
    talk.s()
    talk.rest(25 * 86400)
    say(CLIENT, b"b", 50)
    assert driver.flows[0].items[CLIENT] == [b"ab"]
    driver.close_all()


def test_timestamp_old_on_a_repetition_is_told_as_that(driver):
    talk, say = stamped(driver)
    say(CLIENT, b"abc", 200)
    say(CLIENT, b"def", 210)
    talk.s()
    say(CLIENT, b"ghi", 210)
    say(CLIENT, b"abc", 200, at=0)
    assert driver.anomalies() == []
    assert driver.flows[0].retransmissions[CLIENT] == 1


# ---- resets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [-1, 4, 5, 40_000, 70_000])
def test_reset_elsewhere_than_the_next_number_is_ignored(driver, talk, at):
    """test-cases row 6; mos-parity.md: RST a million bytes outside the window."""
    talk.c(b"abc")
    talk.s()
    talk.c(flags=RST, at=at)
    talk.c(b"def")
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.anomalies() == ["bad_reset"]
    assert driver.counters()["tcp_bad_rst"] == 1


def test_reset_with_an_old_timestamp_its_receiver_goes_on_is_none(driver):
    """test-cases row 6; docs/decisions/0039."""
    talk, say = stamped(driver)
    say(CLIENT, b"abc", 200)
    talk.s()
    say(CLIENT, b"", 50, RST)
    say(CLIENT, b"def", 201)
    talk.s(ack=6)
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.anomalies() == ["old_timestamp", "bad_reset"]


def test_reset_with_an_old_timestamp_nobody_goes_on_resets(driver):
    """RFC 7323 section 5.2: a reset is not subject to the check."""
    talk, say = stamped(driver)
    say(CLIENT, b"abc", 200)
    talk.s()
    say(CLIENT, b"", 50, RST)
    driver.tick(talk.now + 5 * SECOND)
    assert driver.flows[0].reason == "RESET"
    assert driver.anomalies() == ["old_timestamp"]


# ---- acknowledgements -----------------------------------------------------------------------


def test_acknowledgement_of_gigabytes_is_refused_and_nothing_is_missed(driver, talk):
    """RFC 5961 section 5; docs/decisions/0006."""
    talk.s(b"one ")
    talk.c(ack=2**31 - 10)
    talk.rest(5)
    talk.s(b"two")
    talk.c()
    assert driver.flows[0].items[SERVER] == [b"one two"]
    assert driver.anomalies() == ["bad_ack"]


def test_acknowledgements_walking_ahead_do_not_make_a_gap(driver, talk):
    """Each forged one within a window of the one before it."""
    talk.s(b"one ")
    for ack in range(60_000, 600_000, 60_000):
        talk.c(ack=ack)
        talk.rest(0.3)
    talk.s(b"two")
    driver.tick(talk.now + SECOND)
    assert driver.flows[0].items[SERVER] == [b"one two"]


def test_text_with_an_impossible_acknowledgement_is_not_read(driver, talk):
    talk.c(b"EVIL", ack=10**6)
    talk.c(b"good", at=0)
    assert driver.flows[0].items[CLIENT] == [b"good"]
    assert driver.anomalies() == ["bad_ack"]


def test_text_with_an_acknowledgement_before_the_connection_is_not_read(driver, talk):
    talk.s(b"banner")
    talk.c(b"EVIL", ack=-50)
    talk.c(b"good", at=0)
    assert driver.flows[0].items[CLIENT] == [b"good"]
    assert driver.anomalies() == ["bad_ack"]


def test_capture_that_missed_more_than_a_window_goes_on_when_both_ends_do(driver, talk):
    talk.c(b"before")
    talk.s()
    talk.skip(CLIENT, 10**6)
    talk.s()
    talk.c(b"lost too")
    talk.s()
    talk.c(b"after")
    talk.s()
    driver.tick(talk.now + SECOND)
    items = driver.flows[0].items[CLIENT]
    assert items[0] == b"before"
    assert items[1][::2] == (6, "acked_unseen")
    assert items[-1].endswith(b"after")


def test_end_out_of_sight_its_peer_is_believed_after_a_second(driver, talk):
    """test-cases row 30: the other direction takes another path from here on."""
    talk.s(b"banner")
    talk.c()
    talk.skip(SERVER, 10**6)
    talk.c(b"lost")
    talk.rest(2)
    for i in range(3):
        talk.skip(SERVER, 10**6)
        talk.c(b"%d" % i)
    driver.close_all()
    assert driver.flows[0].items[CLIENT] == [(0, 4, "lost"), b"012"]


# ---- flags and SYNs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "kind"),
    [(PSH, "no_ack_flag"), (0, "invalid_flags"), (SYN | FIN, "invalid_flags"),
     (FIN | RST, "invalid_flags"), (0x3F, "invalid_flags")],
)  # fmt: skip
def test_impossible_flags_are_not_read(driver, talk, flags, kind):
    """test-cases row 3."""
    talk.say(CLIENT, flags, b"EVIL", at=0)
    talk.c(b"good", at=0)
    assert driver.flows[0].items[CLIENT] == [b"good"]
    assert driver.anomalies() == [kind]


def test_syn_on_a_live_connection_is_challenged(driver, talk):
    """test-cases row 14; mos-parity.md: new SYN on a live tuple."""
    talk.ends[CLIENT].isn += 5_000_000
    talk.c(flags=SYN)
    talk.ends[CLIENT].isn -= 5_000_000
    talk.c(b"goes on")
    assert driver.flows[0].data(CLIENT) == b"goes on"
    assert driver.anomalies() == ["challenged_syn"]


@pytest.mark.parametrize("first", ["synack", "ack", "data", "fin", "rst"])
@pytest.mark.parametrize("policy", ["pickup", "ignore", "accept-packet", "accept-flow"])
def test_first_packet_without_syn_by_policy(first, policy):
    """test-cases row 32, the tap's half."""
    driver = CoreDriver(midstream=policy)
    talk = Talk(driver.input)
    talk.ends[CLIENT].sent = talk.ends[SERVER].sent = 0
    flags = {"synack": SYN | ACK, "ack": ACK, "data": ACK, "fin": FIN | ACK, "rst": RST}[first]
    talk.say(SERVER if first == "synack" else CLIENT, flags, b"x" if first == "data" else b"")
    follows = first == "synack" or (first != "rst" and policy in ("pickup", "accept-flow"))
    assert len(driver.flows) == follows
    if follows and first == "data":
        assert driver.flows[0].items[CLIENT] == ([b"x"] if policy == "pickup" else [])
    assert_idle(driver)


@pytest.mark.parametrize("policy", ["drop-packet", "drop-flow", "reset"])
def test_policy_that_a_tap_cannot_carry_out_is_refused_at_start(policy):
    """test-cases row 32: drop on a tap is a configuration error."""
    with pytest.raises(aiomos.ConfigError, match="a tap can neither drop nor reset"):
        CoreDriver(midstream=policy)


# ---- windows --------------------------------------------------------------------------------


def test_data_right_of_the_window_is_refused_aloud(driver, talk):
    """test-cases row 4."""
    talk.c(b"EVIL", at=70_000)
    talk.c(b"good", at=0)
    assert driver.flows[0].items[CLIENT] == [b"good"]
    assert driver.anomalies() == ["right_of_window"]


def test_data_after_the_fin_is_refused_aloud(driver, talk):
    """test-cases row 8."""
    talk.c(flags=FIN | ACK)
    talk.c(b"more", at=1)
    assert driver.flows[0].items[CLIENT] == []
    assert driver.anomalies() == ["data_after_fin"]


def test_window_scale_of_200_is_taken_for_14(driver):
    """test-cases row 23."""
    talk = Talk(driver.input)
    talk.handshake((window_scale(200), window_scale(200)))
    assert [half["scale"] for half in driver.flows[0].half] == [14, 14]


@pytest.mark.parametrize("garbage", [b"", b"\0"])
def test_keep_alive_is_counted_and_is_no_anomaly(driver, talk, garbage):
    talk.c(b"abc")
    talk.s()
    talk.c(garbage, at=2)
    talk.s()
    talk.c(b"def")
    assert driver.flows[0].items[CLIENT] == [b"abcdef"]
    assert driver.flows[0].retransmissions[CLIENT] == 0
    assert (driver.counters()["tcp_keep_alive"], driver.anomalies()) == (1, [])


@pytest.mark.parametrize("taken", [False, True])
def test_window_probe_is_read_if_its_receiver_takes_it(driver, taken):
    talk = Talk(driver.input)
    talk.ends[SERVER].window = edge = 1000
    talk.handshake()
    talk.c(b"d" * edge)
    talk.s(window=0)
    talk.c(b"P", at=edge)
    talk.s(ack=edge + taken, window=1000)
    talk.c(b"Q", at=edge + taken)
    assert driver.flows[0].data(CLIENT)[edge:] == (b"PQ" if taken else b"Q")
    assert driver.anomalies() == []
    assert driver.counters()["tcp_window_probe"] == 1


@pytest.mark.parametrize("says", [b"", b"and more"], ids=["bare", "with data"])
def test_window_probe_is_refused_by_the_answer_that_takes_what_was_before_it(driver, says):
    """One acknowledgement of all but the probe, which opens the window too."""
    talk = Talk(driver.input)
    talk.ends[SERVER].window = edge = 1000
    talk.handshake()
    talk.c(b"d" * edge)
    talk.s(window=0, ack=0)
    talk.c(b"P", at=edge)
    talk.s(says, ack=edge, window=1000)
    talk.c(b"Q", at=edge)
    assert driver.flows[0].data(CLIENT)[edge:] == b"Q"


def test_tiny_segments_in_flight_are_an_anomaly_once(driver, talk):
    """test-cases row 20, a hundredth of its size here."""
    for i in range(10_000):
        talk.c(b"%d" % (i % 10))
        if i % 1000 == 999:
            talk.s()
    assert len(driver.flows[0].data(CLIENT)) == 10_000
    assert driver.anomalies().count("small_segments") >= 1


def test_typing_is_no_anomaly(driver, talk):
    for _ in range(500):
        talk.c(b"k")
        talk.s()
    assert driver.anomalies() == []


def test_tiny_segments_in_alternate_order_are_read(driver, talk):
    """test-cases row 20."""
    for even, odd in itertools.pairwise(range(0, 2000, 1)):
        if even % 2 == 0:
            talk.c(b"b", at=odd)
            talk.c(b"a", at=even)
    assert driver.flows[0].data(CLIENT) == b"ab" * 1000


# ---- urgent data ----------------------------------------------------------------------------


def urgent(talk, data, pointer, **fields):
    """A segment of the client with the URG flag and this pointer; its checksum is not right."""
    raw = bytearray(talk.segment(CLIENT, ACK | URG, data, **fields))
    raw[14 + 20 + 18 : 14 + 20 + 20] = pointer.to_bytes(2, "big")
    talk.give(bytes(raw))


WORDS = {
    "inline": [b"woXrd and more"],
    "oob": [b"word and more"],
    "gap": [b"wo", (2, 1, "urgent"), b"rd and more"],
    "drop": [(0, 5, "urgent"), b" and more"],
}


@pytest.mark.parametrize("policy", WORDS)
@pytest.mark.parametrize("early", [False, True])
def test_urgent_byte_in_a_word_by_policy(policy, early):
    """test-cases row 19."""
    driver = CoreDriver(urgent=policy, listen=("Anomaly",))
    talk = Talk(driver.input)
    talk.handshake()
    if early:
        talk.skip(CLIENT, 5)
        talk.c(b" and more")
        urgent(talk, b"woXrd", 3, at=0)
    else:
        urgent(talk, b"woXrd", 3)
        talk.c(b" and more")
    assert driver.flows[0].items[CLIENT] == WORDS[policy]
    assert driver.counters().get("tcp_urgent", 0) == (policy != "inline")
    assert driver.anomalies() == ["urgent"] * (policy != "inline")
    assert_idle(driver)


@pytest.mark.parametrize("deliver", [b"woXrd"[:i] for i in range(1, 5)])
def test_urgent_byte_announced_before_it_comes_is_taken_out(deliver):
    """The segment that brings it need not carry the flag."""
    driver = CoreDriver(urgent="oob")
    talk = Talk(driver.input)
    talk.handshake()
    n = len(deliver)
    urgent(talk, deliver, 3)
    talk.c(b"woXrd"[n:])
    talk.c(b"!")
    assert driver.flows[0].data(CLIENT) == b"word!"
    assert_idle(driver)


def test_urgent_bytes_beyond_the_limit_become_gaps():
    """test-cases row 19: 66 000 urgent bytes; here a limit of 10."""
    driver = CoreDriver(urgent="oob", oob_limit=10)
    talk = Talk(driver.input)
    talk.handshake()
    for _ in range(12):
        urgent(talk, b"aU", 2)
    log = driver.flows[0]
    assert log.data(CLIENT) == b"a" * 12
    assert [gap[1:] for gap in log.gap_list(CLIENT)] == [(1, "urgent")] * 2
    assert_idle(driver)
