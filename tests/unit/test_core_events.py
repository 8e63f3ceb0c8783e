"""What the two stacks of a connection tell, in which order, at which hook (docs/tcp.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine import names
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, SECOND, SERVER, SYN, Talk, assert_idle

STATES = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1",
          "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT")  # fmt: skip
SHOWN = ("ConnectionStart", "Established", "StateChange", "FinSeen", "ResetSeen", "ConnectionEnd")


def listening(*wanted):
    driver = CoreDriver(listen=wanted)
    talk = Talk(driver.input)
    return driver, talk


def said(driver):
    """Events as words: hook, name, side, and what it says."""
    out = []
    for e in driver.told:
        words = [names.HOOKS[e["hook"]][0], e["event"], names.SIDES[e["side"]][0]]
        if e["event"] == "StateChange":
            words += [STATES[e["a"]], STATES[e["b"]]]
        elif e["event"] == "ConnectionEnd":
            words = [words[0], "ConnectionEnd", names.CLOSE_REASONS[e["a"]]]
        elif e["event"] == "Established":
            words = [words[0], "Established"]
        elif e["event"] == "FinSeen":
            words.append(str(e["a"]))
        out.append(" ".join(words))
    driver.told.clear()
    return out


def test_normal_open_and_close_tell_each_step_in_order():
    """mos-parity.md: StateChange; the sequence is the one of docs/tcp.md."""
    driver, talk = listening(*SHOWN)
    talk.c(flags=SYN)
    assert said(driver) == [
        "s ConnectionStart c", "s StateChange c CLOSED SYN_SENT",
        "r StateChange s CLOSED LISTEN", "r ConnectionStart s",
        "r StateChange s LISTEN SYN_RECEIVED",
    ]  # fmt: skip
    talk.s(flags=SYN | ACK)
    assert said(driver) == ["r StateChange c SYN_SENT ESTABLISHED"]
    talk.c()
    assert said(driver) == ["r StateChange s SYN_RECEIVED ESTABLISHED", "r Established"]
    talk.c(b"12345")
    talk.s()
    assert said(driver) == []
    talk.c(flags=FIN | ACK)
    assert said(driver) == [
        "s FinSeen c 5", "s StateChange c ESTABLISHED FIN_WAIT_1",
        "r StateChange s ESTABLISHED CLOSE_WAIT",
    ]  # fmt: skip
    talk.s()
    assert said(driver) == ["r StateChange c FIN_WAIT_1 FIN_WAIT_2"]
    talk.s(flags=FIN | ACK)
    assert said(driver) == [
        "s FinSeen s 0", "s StateChange s CLOSE_WAIT LAST_ACK",
        "r StateChange c FIN_WAIT_2 TIME_WAIT",
    ]  # fmt: skip
    talk.c()
    assert said(driver) == ["r StateChange s LAST_ACK CLOSED", "r ConnectionEnd FIN"]
    talk.c()
    assert said(driver) == []
    assert_idle(driver)


def test_fin_answered_by_fin_and_ack_senders_stack_comes_first():
    driver, talk = listening("StateChange")
    talk.handshake()
    talk.c(flags=FIN | ACK)
    driver.told.clear()
    talk.s(flags=FIN | ACK)
    assert said(driver) == [
        "s StateChange s CLOSE_WAIT LAST_ACK",
        "r StateChange c FIN_WAIT_1 FIN_WAIT_2",
        "r StateChange c FIN_WAIT_2 TIME_WAIT",
    ]
    assert_idle(driver)


def test_both_fins_at_once_tell_closing():
    driver, talk = listening("StateChange")
    talk.handshake()
    driver.told.clear()
    talk.c(flags=FIN | ACK)
    talk.s(flags=FIN | ACK, ack=0)
    assert said(driver)[-2:] == [
        "s StateChange s CLOSE_WAIT LAST_ACK", "r StateChange c FIN_WAIT_1 CLOSING",
    ]  # fmt: skip
    assert_idle(driver)


def test_syn_again_tells_no_second_start():
    """mos-parity.md: CONN_START, never for a retransmitted SYN."""
    driver, talk = listening("ConnectionStart", "Retransmission")
    talk.c(flags=SYN)
    talk.c(flags=SYN)
    assert [e["event"] for e in driver.told] == ["ConnectionStart"] * 2 + ["Retransmission"]
    assert_idle(driver)


def test_fin_again_tells_a_retransmission_of_no_bytes():
    driver, talk = listening("Retransmission", "FinSeen")
    talk.handshake()
    talk.c(b"abc")
    talk.c(flags=FIN | ACK)
    talk.c(flags=FIN | ACK, at=3)
    assert [(e["event"], e["a"], e["b"]) for e in driver.told] == [
        ("FinSeen", 3, 0), ("Retransmission", 3, 0),
    ]  # fmt: skip
    assert_idle(driver)


def test_picked_up_both_ends_start_before_established():
    driver, talk = listening(*SHOWN)
    talk.c(b"middle")
    told = said(driver)
    assert sorted(told[:4]) == [
        "r ConnectionStart s", "r StateChange s CLOSED ESTABLISHED",
        "s ConnectionStart c", "s StateChange c CLOSED ESTABLISHED",
    ]  # fmt: skip
    assert told[4] == "r Established"
    assert_idle(driver)


@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_valid_reset_tells_the_reset_then_the_ends(flags):
    driver, talk = listening(*SHOWN)
    talk.handshake()
    driver.told.clear()
    talk.s(flags=flags)
    assert [e["a"] for e in driver.told if e["event"] == "ResetSeen"] == [1]
    assert said(driver) == [
        "s ResetSeen s", "r StateChange c ESTABLISHED CLOSED",
        "s StateChange s ESTABLISHED CLOSED", "r ConnectionEnd RESET",
    ]  # fmt: skip
    assert_idle(driver)


def test_expiry_tells_the_end_at_the_timer_hook():
    driver, talk = listening("ConnectionEnd")
    talk.handshake()
    driver.tick(talk.now + 3700 * SECOND)
    assert said(driver) == ["t ConnectionEnd TIMEOUT"]


def test_packet_seen_at_both_hooks_and_the_end_behind_it():
    """mos-parity.md: PKT_IN, exactly once a hook; ConnectionEnd last."""
    driver, talk = listening("PacketSeen", "ConnectionEnd", "StateChange")
    talk.handshake()
    talk.c(b"abc")
    driver.told.clear()
    talk.c(b"abc", at=0)
    talk.say(CLIENT, SYN | FIN)
    talk.s(flags=RST)
    talk.c()
    told = [
        (e["event"], names.HOOKS[e["hook"]], names.VERDICTS[e["a"]])
        for e in driver.told
        if e["event"] == "PacketSeen"
    ]
    assert told == [
        ("PacketSeen", "sender", "repeated"), ("PacketSeen", "receiver", "repeated"),
        ("PacketSeen", "sender", "refused"), ("PacketSeen", "receiver", "refused"),
        ("PacketSeen", "sender", "accepted"), ("PacketSeen", "receiver", "accepted"),
    ]  # fmt: skip
    assert [e["event"] for e in driver.told][-2:] == ["PacketSeen", "ConnectionEnd"]
    assert_idle(driver)


def test_window_closed_and_opened_is_told_once_each():
    driver, talk = listening("ZeroWindow", "WindowUpdate")
    talk.handshake()
    talk.c(b"abc")
    talk.s(window=0)
    talk.s(window=0)
    talk.s(window=1000)
    assert [(e["event"], e["side"], e["a"], e["b"]) for e in driver.told] == [
        ("ZeroWindow", SERVER, 0, 0), ("WindowUpdate", SERVER, 1000, 0),
    ]  # fmt: skip
    assert_idle(driver)
