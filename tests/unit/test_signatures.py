"""Signed segments: TCP MD5 (RFC 2385) and TCP-AO (RFC 5925); docs/decisions/0035."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, SYN, Talk, assert_idle, mss, timestamp

from aiomos._engine._testcore import CoreDriver
from aiomos._engine._testframes import parse_options

MD5 = b"\x13\x12" + bytes(16) + b"\1\1"
AO = b"\x1d\x10\1\1" + bytes(12)
STAMP = b"\1\1" + timestamp(1000)
KINDS = {"md5": (MD5, 19), "ao": (AO, 29)}


def driver_of(**options):
    return CoreDriver(listen=("Anomaly",), **options)


def talk_of(driver, first=b"", second=None):
    """A connection whose SYN and SYN-ACK carry these options."""
    talk = Talk(driver.input)
    talk.handshake((first, first if second is None else second))
    return talk


def told(driver):
    """Side and detail of the anomalies, which are all of this kind."""
    assert set(driver.anomalies()) <= {"signature"}
    return [(e["side"], e["b"]) for e in driver.told]


# ---- a connection without signatures ------------------------------------------------------------


@pytest.mark.parametrize("options", [b"", mss(), STAMP], ids=["bare", "mss", "stamps"])
@pytest.mark.parametrize("flags", [ACK, ACK | FIN, ACK | RST, RST])
@pytest.mark.parametrize("where", ["first", "behind a stamp"])
def test_unsigned_connection_signed_decoy_is_refused_whatever_it_says(options, flags, where):
    """Row 25: no checksum tells that it is one."""
    driver = driver_of()
    talk = talk_of(driver, options)
    stamp = STAMP if options == STAMP else b""
    talk.c(b"good", options=stamp)
    decoy = stamp + MD5 if where != "first" else MD5 + stamp
    talk.c(b"EVIL" if flags == ACK else b"", flags, at=4, options=decoy)
    talk.c(b"more", at=4, options=stamp)
    talk.s()
    log = driver.flows[0]
    assert (log.data(CLIENT), log.reason, log.half[CLIENT]["fin"]) == (b"goodmore", "", 0)
    assert told(driver) == [(CLIENT, 19)]
    assert driver.counters()["tcp_signature"] == 1
    assert log.retransmissions == (0, 0)
    assert_idle(driver)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refuse", ["none", "md5", "all"])
def test_unsigned_connection_option_says_which_signatures_receivers_look_at(kind, refuse):
    """Row 25: where the target takes the decoy, it is read, and what follows differs."""
    options, number = KINDS[kind]
    driver = driver_of(refuse_signatures=refuse)
    talk = talk_of(driver)
    talk.c(b"EVIL", options=options)
    talk.c(b"good", at=0)
    ignored = refuse == "none" or (refuse, kind) == ("md5", "ao")
    assert driver.flows[0].data(CLIENT) == (b"EVIL" if ignored else b"good")
    assert told(driver) == ([] if ignored else [(CLIENT, number)])
    assert driver.flows[0].retransmissions[CLIENT] == ignored
    assert_idle(driver)


def test_unsigned_connection_unknown_and_odd_options_are_no_signatures():
    """Row 25: what every receiver passes over."""
    driver = driver_of()
    talk = talk_of(driver)
    data = b""
    for odd in (b"\xfd\4ab", b"\x13\4ab", b"\x1d\2\1\1", b"\x13\0\1\1", b"\xff\x28ab", b"\5\xff"):
        talk.c(b"%d" % len(data), options=odd.ljust(-len(odd) % 4 + len(odd), b"\1"))
        data += b"%d" % len(data)
    assert driver.flows[0].data(CLIENT) == data
    assert driver.told == []
    assert_idle(driver)


@pytest.mark.parametrize(("refuse", "read"), [("md5", b"good"), ("none", b"EVIL")])
def test_options_that_end_before_a_signature_could_are_those_of_a_decoy(refuse, read):
    driver = driver_of(refuse_signatures=refuse)
    talk = talk_of(driver)
    talk.c(b"EVIL", options=b"\xfd\0" + bytes(18))
    talk.c(b"good", at=0)
    assert driver.flows[0].data(CLIENT) == read
    assert driver.anomalies() == ["malformed_options"] * (refuse == "md5")
    assert_idle(driver)


def test_signed_decoy_above_a_hole_does_not_wait_for_it():
    driver = driver_of()
    talk = talk_of(driver, mss() + STAMP)
    talk.c(b"EVIL", at=4, options=STAMP + MD5)
    talk.c(b"good", at=4, options=STAMP)
    talk.c(b"all ", at=0, options=STAMP)
    assert driver.flows[0].data(CLIENT) == b"all good"
    assert_idle(driver)


# ---- a signed connection, as routers have for BGP -----------------------------------------------


@pytest.mark.parametrize("stamps", [b"", STAMP], ids=["bare", "stamps"])
@pytest.mark.parametrize(("kind", "refuse"), [("md5", "md5"), ("md5", "all"), ("ao", "all")])
def test_signed_connection_is_read_and_unsigned_segments_are_refused(kind, refuse, stamps):
    driver = driver_of(refuse_signatures=refuse)
    options = stamps + KINDS[kind][0]
    talk = Talk(driver.input)
    talk.c(flags=SYN, options=options)
    talk.s(flags=SYN | ACK, options=options)
    talk.c(options=options)
    talk.c(b"good", options=options)
    talk.s(options=options)
    for flags in (ACK, ACK | FIN, RST):
        talk.c(b"EVIL" if flags == ACK else b"", flags, at=4, options=stamps)
    talk.c(b"more", at=4, options=options)
    talk.s(options=options)
    assert driver.flows[0].data(CLIENT) == b"goodmore"
    assert told(driver) == [(CLIENT, 0)] * 3
    talk.c(flags=FIN | ACK, at=8, options=options)
    talk.s(flags=FIN | ACK, options=options)
    talk.c(options=options)
    assert driver.flows[0].reason == "FIN"
    assert_idle(driver)


def test_connection_picked_up_says_nothing_of_signatures():
    driver = driver_of()
    talk = Talk(driver.input)
    talk.c(b"one", options=MD5)
    talk.c(b"two")
    talk.s(options=MD5)
    assert driver.flows[0].data(CLIENT) == b"onetwo"
    assert driver.told == []
    assert_idle(driver)


def test_connection_of_which_one_syn_was_seen_goes_by_that():
    driver = driver_of()
    talk = Talk(driver.input)
    talk.s(flags=SYN | ACK, ack=0)
    talk.c()
    talk.c(b"EVIL", options=MD5)
    talk.c(b"good", at=0)
    assert driver.flows[0].data(CLIENT) == b"good"
    assert told(driver) == [(CLIENT, 19)]
    assert_idle(driver)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (MD5, 1),
        (AO, 2),
        (STAMP + MD5, 1),
        (b"\x13\x11" + bytes(18), 0),
        (b"\x1d\3\1\1", 0),
        (b"", 0),
    ],
)
def test_options_that_are_signatures(options, found):
    assert parse_options(options)["signature"] == found


@pytest.mark.parametrize("count", [1, 5])
def test_flow_of_refused_segments_alone_expires(count):
    driver = driver_of()
    talk = Talk(driver.input)
    for _ in range(count):
        talk.c(b"x", at=0, options=b"\x05\x01" + bytes(38))
    assert set(driver.anomalies()) == {"malformed_options"}
    driver.tick(talk.now + 7200 * 10**9)
    driver.forget()
    assert driver.usage()["flow_entries"] == 0
