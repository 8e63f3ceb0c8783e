"""Frames that are not as the standards say: counted by what is wrong, told, and never delivered."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from aiomos._engine import names
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    IP6,
    START,
    SYN,
    UDP,
    Talk,
    assert_idle,
    ethernet,
    extension,
    fragment6,
    ipv4,
    ipv6,
    mss,
    tcp,
    udp,
)


def ip4(**fields):
    return ethernet(ipv4(tcp(payload=b"data"), **fields))


def ip6(payload=b"", **fields):
    return ethernet(ipv6(payload or tcp(ends=("fd00::1", "fd00::2")), **fields), IP6)


def patched(frame, at, *values):
    return frame[:at] + bytes(values) + frame[at + len(values) :]


MALFORMED = {
    "bad_link_header": b"\0" * 13,
    "bad_ip4_header": patched(ip4(), 14, 0x44),  # a header of 4 words
    "bad_ip4_length": ip4(total=1000),  # beyond the frame
    "bad_ip6_header": patched(ip6(), 14, 0x50),  # version 5
    "bad_ip6_length": ip6(length=2000),
    "bad_ip6_extension": ip6(b"\0" * 4, extensions=[extension(60, bytes(6 + 8 * 20))], length=80),
    "bad_tcp_header": ethernet(ipv4(tcp(offset=4))),  # a header of 4 words
    "bad_udp_length": ethernet(ipv4(udp(length=7), protocol=UDP)),
}


@pytest.fixture
def driver():
    made = CoreDriver(listen=["Anomaly"])
    yield made
    assert_idle(made)


@pytest.mark.parametrize("status", MALFORMED)
def test_malformed_frame_is_counted_and_told_by_what_is_wrong(driver, status):
    driver.input(MALFORMED[status], START)
    assert driver.counters()[status] == 1
    assert driver.anomalies() == [status]
    (event,) = driver.told
    assert (event["flow"], event["time_ns"], event["packet"]) == (None, START, True)
    assert driver.flows == []


@pytest.mark.parametrize(
    "frame",
    [
        ip4(total=19),
        patched(ip4(), 14, 0x55),  # version 5
        patched(ip4(), 14, 0x40),
        ethernet(ipv4(tcp(offset=15))),  # beyond the datagram
        ethernet(ipv4(tcp()[:19])),
        ethernet(ipv4(udp()[:7], protocol=UDP)),
        ethernet(ipv4(udp(length=9), protocol=UDP)),
        ip6(extensions=[extension(0)] * 17),  # more than are walked
    ],
)
def test_header_that_cannot_be_right_is_told(driver, frame):
    driver.input(frame, START)
    (kind,) = driver.anomalies()
    assert kind in names.MALFORMED
    assert driver.counters()[kind] == 1
    assert driver.flows == []


def test_header_cut_by_the_capture_is_told_as_truncated(driver):
    """Not as malformed: the rest was on the wire."""
    for size in (0, 13, 20, 33, 40, 53):
        driver.input(ip4()[:size], START, wire_len=len(ip4()))
    assert driver.anomalies() == ["truncated_header"] * 6
    assert driver.counters()["truncated_header"] == 6


def test_frames_of_other_protocols_are_nothing_odd(driver):
    for frame in (ethernet(bytes(46), 0x88CC), ethernet(ipv4(b"x", protocol=50)), ip4()):
        driver.input(frame, START)
    assert driver.anomalies() == []


def test_datagram_malformed_only_when_it_is_whole_is_told(driver):
    body = udp(payload=bytes(192), length=5000)
    driver.input(ethernet(ipv4(body[:104], protocol=UDP, fragment=0x2000)), START)
    assert driver.anomalies() == []
    driver.input(ethernet(ipv4(body[104:], protocol=UDP, fragment=13)), START)
    assert driver.anomalies() == ["bad_udp_length"]
    assert driver.counters()["reassembled"] == 1


# ---- rows 21, 22: what the lengths in headers say ------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_bytes_beyond_the_ip_length_are_never_delivered(driver, version):
    """Row 21: padding of the link, and more than the receiver's MSS."""
    hosts = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")

    def padded(frame, at):
        driver.input(frame + b"PADDING" * 3, at)

    talk = Talk(padded, client=(hosts[0], 40000), server=(hosts[1], 80))
    talk.handshake((mss(536), mss(536)))
    talk.c(b"a")
    talk.s()
    talk.c(b"b" * 5000)
    talk.s()
    talk.close()
    assert driver.flows[0].data(CLIENT) == b"a" + b"b" * 5000
    assert driver.flows[0].gap_list(CLIENT) == []


@pytest.mark.parametrize("snap", [54, 58, 64, 100])
def test_capture_of_headers_only_counts_by_the_ip_length(driver, snap):
    """Row 22: snap length 54 is common."""

    def cut(frame, at):
        driver.input(frame[:snap], at, wire_len=len(frame))

    talk = Talk(cut)
    talk.handshake()
    talk.c(b"x" * 500)
    talk.s(b"y" * 1000)
    talk.c()
    talk.close()
    flow = driver.flows[0]
    seen = snap - 54
    assert flow.data(CLIENT) == b"x" * seen
    assert flow.gap_list(CLIENT) == [(seen, 500 - seen, "snap_length")]
    assert flow.gap_list(1) == [(seen, 1000 - seen, "snap_length")]
    assert flow.reason == "FIN"
    assert driver.anomalies() == []


# ---- anything at all -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_as_frames_are_counted_and_leave_nothing(driver, seed):
    """Random ones, and real headers with random bytes changed, in random segments."""
    chance = random.Random(seed)
    driver = CoreDriver(
        listen=["Anomaly"], checksums=["off", "on"][seed & 1], dedup=bool(seed & 2),
        fragment_memory=1 << 16,
    )  # fmt: skip
    models = [
        *MALFORMED.values(),
        ip4(),
        ip6(),
        ethernet(ipv4(tcp(flags=SYN), fragment=0x2000)),
        ip6(tcp(flags=ACK), extensions=[extension(60), fragment6(2, True)]),
    ]
    for number in range(3000):
        frame = bytearray(chance.choice(models))
        for _ in range(chance.randrange(6)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        if chance.random() < 0.2:
            frame = bytearray(chance.randbytes(chance.randrange(200)))
        cuts = sorted(chance.sample(range(len(frame) + 1), min(len(frame), chance.randrange(4))))
        wire = len(frame) + chance.choice([0, 0, 0, 50])
        driver.input(bytes(frame), START + number * 1_000_000, cuts=cuts, wire_len=wire)
    counters = driver.core.counters()
    by_status = sum(counters[name] for name in names.STATUSES)
    assert counters["frames"] == 3000 == by_status + counters["duplicates"]
    assert driver.usage()["fragment_bytes"] <= 1 << 16
    assert_idle(driver)
