"""Packets that have no flow: ICMP errors tied to the flow they quote, and orphans."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

import aiomos
from aiomos._engine import names
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    ARP,
    CLIENT,
    ICMP,
    IP6,
    RST,
    SECOND,
    SERVER,
    START,
    TCP,
    UDP,
    Talk,
    assert_idle,
    datagram,
    ethernet,
    extension,
    fragment6,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from kit import Tape
from wraps import in_udp, vxlan

ICMP6 = 58
V6 = {"client": ("fd00::1", 40000), "server": ("fd00::2", 80)}


def error4(quoted: bytes, kind: int = 3, code: int = 4, info: int = 1400) -> bytes:
    body = struct.pack(">BBHI", kind, code, 0, info) + quoted
    return ethernet(ipv4(body, "192.0.2.9", "10.0.0.1", ICMP))


def error6(quoted: bytes, kind: int = 2, code: int = 0, info: int = 1400) -> bytes:
    body = struct.pack(">BBHI", kind, code, 0, info) + quoted
    return ethernet(ipv6(body, "2001:db8::9", "fd00::1", ICMP6), IP6)


@pytest.fixture
def driver():
    driver = CoreDriver(listen=["IcmpError", "Orphan"])
    yield driver
    assert_idle(driver)


@pytest.fixture
def talk(driver):
    talk = Talk(driver.input)
    talk.handshake()
    return talk


@pytest.fixture
def talk6(driver):
    talk = Talk(driver.input, **V6)
    talk.handshake()
    return talk


def told(driver):
    return [(e["event"], e["side"], e["a"], e["b"], e["c"]) for e in driver.told]


# ---- ICMP -------------------------------------------------------------------


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_established_icmp_error_is_told_of_the_end_whose_packet_it_quotes(driver, talk, side):
    sent = talk.segment(side, ACK, b"x" * 1400)
    talk.give(sent)
    driver.input(error4(sent[14 : 14 + 28]), talk.now)
    assert told(driver) == [("IcmpError", side, 3 << 8 | 4, 1400, 1)]
    assert driver.told[0]["flow"] is driver.flows[0]
    assert driver.counters()["icmp_errors"] == 1
    assert len(driver.flows) == 1


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_established_every_icmp_error_is_one(driver, talk, kind):
    driver.input(error4(talk.segment(CLIENT, ACK, b"x")[14:], kind, 0), talk.now)
    assert [e["a"] for e in driver.told] == [kind << 8]


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_established_every_icmp6_error_is_one(driver, talk6, kind):
    driver.input(error6(talk6.segment(CLIENT, ACK, b"x")[14:], kind, 1), talk6.now)
    assert told(driver)[0][:3] == ("IcmpError", CLIENT, kind << 8 | 1)


def test_established_icmp6_error_quoting_extension_headers_is_tied(driver, talk6):
    segment = talk6.segment(SERVER, ACK, b"x")[14 + 40 :]
    chain = [extension(0), extension(60, bytes(14)), fragment6()]
    quoted = ipv6(segment, "fd00::2", "fd00::1", extensions=chain)
    driver.input(error6(quoted), talk6.now)
    assert told(driver)[0][:2] == ("IcmpError", SERVER)


def test_udp_flow_icmp_error_is_tied(driver):
    sent = datagram(b"query")
    driver.input(sent, START)
    driver.input(error4(sent[14 : 14 + 28], 3, 3, 0), START + 1)
    assert told(driver) == [("IcmpError", CLIENT, 3 << 8 | 3, 0, 1)]


def test_established_icmp_error_quoting_what_was_never_sent_says_so(driver, talk):
    driver.input(error4(talk.segment(CLIENT, ACK, b"x", at=50_000)[14:]), talk.now)
    talk.ends[0].sent = 0
    talk.c(b"old")
    talk.s()
    driver.input(error4(talk.segment(CLIENT, ACK, b"old", at=0)[14:]), talk.now)
    assert [e["c"] for e in driver.told] == [0, 0]


def test_established_icmp_error_inside_a_tunnel_is_tied(driver, talk):
    inner = error4(talk.segment(CLIENT, ACK, b"x")[14:])
    driver.input(ethernet(in_udp(vxlan(inner), 4789)), talk.now)
    assert told(driver)[0][:2] == ("IcmpError", CLIENT)


def test_established_icmp_error_in_segments_is_tied(driver, talk):
    frame = error4(talk.segment(CLIENT, ACK, b"x")[14:])
    for cut in (35, 40, 50, 65):
        driver.input(frame, talk.now, cuts=(cut,))
    assert len(driver.told) == 4


@pytest.mark.parametrize("length", range(8 + 28))
def test_established_icmp_error_cut_short_on_the_wire_needs_ports(driver, talk, length):
    quoted = talk.segment(CLIENT, ACK, b"x")[14:]
    body = (struct.pack(">BBHI", 3, 4, 0, 1400) + quoted)[:length]
    driver.input(ethernet(ipv4(body, "192.0.2.9", "10.0.0.1", ICMP)), talk.now)
    assert [e["event"] for e in driver.told] == ["IcmpError" if length >= 32 else "Orphan"]


@pytest.mark.parametrize(
    "frame",
    [
        error4(b"", 8, 0),  # echo
        error4(ipv4(tcp(1, 2), "10.0.0.1", "10.0.0.2")),  # of no flow
        error4(ipv4(tcp(40000, 80), fragment=1)),  # not the first fragment: no ports
        error4(ipv4(bytes(8), protocol=ICMP)),  # an error about an error
        error4(b"\x41" + ipv4(tcp(40000, 80))[1:]),
        error4(ipv6(tcp(40000, 80))),
        error6(ipv6(tcp(40000, 80)), 128),
        error6(ipv6(tcp(40000, 80), extensions=[fragment6(8)])),
        error6(ipv6(tcp(40000, 80), extensions=[extension(60)] * 9)),
        error6(ipv6(b"\x06\xff" + bytes(30), protocol=60)),
        error6(ipv4(tcp(40000, 80))),
        ethernet(ipv4(error6(ipv6(tcp(40000, 80)))[54:], protocol=ICMP6)),  # ICMPv6 over IPv4
    ],
)
def test_icmp_that_quotes_no_flow_is_an_orphan(driver, frame):
    Talk(driver.input).handshake()
    Talk(driver.input, **V6).handshake()
    driver.input(frame, START + SECOND)
    assert [(e["event"], names.ORPHANS[e["a"]]) for e in driver.told] == [("Orphan", "protocol")]
    assert len(driver.flows) == 2


def test_icmp_errors_are_counted_for_each_end():
    flows = []

    async def handler(flow):
        await flow.closed()
        flows.append((flow.client.icmp_errors, flow.server.icmp_errors))

    tape = Tape()
    talk = Talk(tape.add)
    talk.handshake()
    for side in (0, 0, 1):
        tape.add(error4(talk.segment(side, ACK, b"x")[14:]), talk.now)
    talk.ends[0].sent = talk.ends[1].sent = 0
    talk.close()
    aiomos.run(handler, tape.source())
    assert flows == [(2, 1)]


def test_icmp_error_without_memory_is_told_and_counted():
    driver = CoreDriver(listen=["IcmpError"], memory=0)
    Talk(driver.input).handshake()
    driver.input(error4(ipv4(tcp(40000, 80))), START + SECOND)
    assert len(driver.told) == 1
    assert driver.counters()["memory_refused"] >= 1
    assert_idle(driver)


# ---- orphans ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "link", "reason"),
    [
        (ethernet(ipv4(bytes(8), protocol=ICMP)), 1, "protocol"),
        (ethernet(ipv4(bytes(40), protocol=132)), 1, "protocol"),
        (ethernet(bytes(46), ARP), 1, "not_ip"),
        (bytes(60), 147, "not_ip"),
        (ethernet(ipv4(tcp(), total=19)), 1, "malformed"),
        (ethernet(b"\x41" + bytes(40)), 1, "malformed"),
        (ethernet(ipv4(udp(payload=b"x" * 100), protocol=UDP, fragment=0x2000)), 1, "fragment"),
        (ethernet(ipv4(tcp(flags=RST))), 1, "no_flow"),
    ],
)
def test_packet_without_a_flow_is_an_orphan_with_its_reason(driver, frame, link, reason):
    driver.input(frame, START, link_type=link)
    [event] = driver.told
    assert (event["event"], names.ORPHANS[event["a"]], event["flow"]) == ("Orphan", reason, None)
    assert event["packet"]


def test_segment_with_pickup_off_is_an_orphan():
    driver = CoreDriver(listen=["Orphan"], midstream="ignore")
    Talk(driver.input).c(b"in the middle")
    assert [names.ORPHANS[e["a"]] for e in driver.told] == ["no_flow"]


def test_closed_segment_is_an_orphan_and_a_new_syn_is_not(driver, talk):
    talk.close()
    talk.s(b"late")
    assert [names.ORPHANS[e["a"]] for e in driver.told] == ["closed"]
    Talk(driver.input, at=talk.now, isn=(9_000_000, 1)).handshake()
    assert len(driver.told) == 1


def test_full_table_makes_orphans():
    driver = CoreDriver(listen=["Orphan"], max_flows=1, on_flows_full="refuse")
    for port in (1, 2):
        driver.input(datagram(b"x", ("10.0.0.1", port)), START)
    assert [names.ORPHANS[e["a"]] for e in driver.told] == ["table_full"]


def test_segment_of_a_flow_is_no_orphan(driver, talk):
    talk.c(b"question")
    talk.close()
    assert driver.told == []


def test_everything_that_is_neither_tcp_nor_udp_reaches_packet_handlers():
    seen = []
    app = aiomos.App()
    app.packet()(lambda packet: seen.append(packet.kind))
    frames = [
        ethernet(bytes(46), ARP),
        ethernet(ipv4(bytes(8), protocol=ICMP)),
        ethernet(ipv4(tcp(), fragment=0x2000)),
        ethernet(ipv4(tcp(), total=19)),
        ethernet(ipv4(tcp(flags=RST))),
        error4(ipv4(tcp(40000, 80), protocol=TCP)),
    ]
    source = aiomos.MemorySource([(raw, START + i) for i, raw in enumerate(frames)])
    source.finish()
    aiomos.run(app, source)
    assert seen == ["not_ip", "other_ip", "fragments", "bad_ip4_length", "tcp", "other_ip"]
