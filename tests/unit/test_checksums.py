"""Checksums: who is asked, what a wrong one leads to, who is not asked any more (semantics.md 9)."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver
from aiomos._engine._testframes import fold_sum

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    ICMP,
    IP6,
    MILLISECOND,
    START,
    TCP,
    UDP,
    Talk,
    assert_idle,
    ethernet,
    extension,
    fragment6,
    ipv4,
    ipv6,
    tcp,
    timestamp,
    udp,
)

GOOD, BAD, NOT_FILLED = 1, 2, 3
OUT = 2
ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
both = pytest.mark.parametrize("version", [4, 6])


def driver_of(**options):
    return CoreDriver(listen=["Anomaly"], **{"checksums": "on", **options})


def packet(segment, version=4, protocol=UDP, **fields):
    if version == 4:
        return ethernet(ipv4(segment, *ENDS[4], protocol, **fields))
    return ethernet(ipv6(segment, *ENDS[6], protocol, **fields), IP6)


def datagram(payload, version=4, wrong=False, sport=5000):
    body = udp(sport, 53, payload, ends=ENDS[version])
    if wrong:
        body = body[:6] + struct.pack(">H", struct.unpack(">H", body[6:8])[0] ^ 0x0101) + body[8:]
    return body


def delivered(driver):
    return [data for flow in driver.flows for _, data, _ in flow.datagrams]


def let_in(driver, frame, **meta):
    """Whether a frame gets through."""
    before = driver.counters().get("bad_checksum", 0)
    driver.input(frame, START, **meta)
    return driver.counters().get("bad_checksum", 0) == before


# ---- sums ----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [*range(160), 1471, 1472, 8999, 65000])
def test_right_checksum_of_any_length_in_any_segments_is_let_in(version, size):
    driver = driver_of()
    chance = random.Random(size)
    frame = packet(datagram(chance.randbytes(size), version), version)
    assert let_in(driver, frame)
    for _ in range(6):
        cuts = sorted(chance.sample(range(1, len(frame)), min(5, len(frame) - 1)))
        assert let_in(driver, frame, cuts=cuts)
    assert len(delivered(driver)) == 7
    assert_idle(driver)


@pytest.mark.parametrize("byte", [b"\0", b"\x7f", b"\x80", b"\xff"])
@pytest.mark.parametrize("size", [18, 128, 1472, 65507])
def test_no_sum_overflows(size, byte):
    driver = driver_of()
    frame = bytearray(packet(datagram(byte * size)))
    assert let_in(driver, bytes(frame))
    frame[-1] ^= 1
    assert not let_in(driver, bytes(frame))


def worth(data):
    """The sum of RFC 1071 by its definition: words added, carries added to them."""
    total = sum(struct.unpack(f"={len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("fill", [None, 0, 0x7F, 0x80, 0xFF])
@pytest.mark.parametrize("size", [32, 96, 128, 160, 1472, 65536])
def test_sum_is_that_of_the_words(size, fill, portable):
    data = random.Random(size).randbytes(size) if fill is None else bytes([fill]) * size
    assert fold_sum(data, portable) == worth(data)


@both
@pytest.mark.parametrize("make", ["udp", "tcp"])
def test_any_single_byte_changed_is_refused(version, make):
    driver = driver_of()
    let_in(driver, packet(datagram(b"first", version), version))  # the address is known as sound
    ends = ENDS[version]
    if make == "udp":
        frame = packet(datagram(b"payload", version), version)
    else:
        frame = packet(tcp(1, 2, 3, 4, ACK, b"payload", ends=ends), version, TCP)
    first = 14 + (20 if version == 4 else 40)
    for at in range(first, len(frame)):
        if make == "udp" and at in (first + 4, first + 5):  # its length: malformed
            continue
        if make == "tcp" and at == first + 12:  # its header length
            continue
        spoiled = frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1 :]
        assert not let_in(driver, spoiled), at
        assert not let_in(driver, spoiled, cuts=[at, at + 1][: 1 if at + 1 == len(frame) else 2]), (
            at
        )
    assert set(driver.anomalies()) == {"bad_checksum"}


def test_wrong_ip4_header_checksum_is_refused_whatever_is_in_it():
    driver = driver_of()
    for body, protocol in [(datagram(b"x"), UDP), (b"\x08\0\xf7\xff\0\0\0\0", ICMP)]:
        frame = packet(body, 4, protocol)
        assert let_in(driver, frame)
        assert not let_in(driver, frame[:24] + b"\x12\x34" + frame[26:])
    assert [(e["a"], e["b"]) for e in driver.told] == [(0, 0)] * 2
    assert len(delivered(driver)) == 1


def test_ip4_header_ends_where_it_says_also_before_an_authentication_header():
    driver = driver_of()
    proof = bytes([UDP, 4, 0, 0]) + bytes(
        range(20)
    )  # RFC 4302: next header, length in words less 2
    frame = bytearray(ethernet(ipv4(proof + udp(5000, 53, b"x" * 20), protocol=51)))
    assert let_in(driver, bytes(frame))
    assert delivered(driver) == [b"x" * 20]
    frame[14 + 8] ^= 1  # the time to live
    assert not let_in(driver, bytes(frame))


def test_udp_without_a_checksum_is_let_in_over_ip4_and_refused_over_ip6():
    driver = driver_of()
    for version, right in [(4, True), (6, False)]:
        body = datagram(b"data", version)
        assert let_in(driver, packet(body[:6] + b"\0\0" + body[8:], version)) is right


# ---- rows 1, 25 ------------------------------------------------------------------------------------


@pytest.fixture
def talk():
    frames = []
    made = Talk(lambda raw, at: frames.append((raw, at)))
    made.frames = frames
    made.handshake()
    return made


def spoiled(frame):
    """The same with another TCP checksum."""
    at = 14 + 20 + 16
    return frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :]


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_decoy_with_a_wrong_checksum_is_not_in_the_stream(talk, burst):
    """Row 1: it comes first and would win."""
    talk.frames.append((spoiled(talk.segment(CLIENT, ACK, b"GET /decoy", at=0)), talk.now))
    talk.c(b"GET /right", at=0)
    talk.s()
    driver = driver_of()
    for at in range(0, len(talk.frames), burst):
        driver.burst(talk.frames[at : at + burst])
    assert driver.flows[0].data(CLIENT) == b"GET /right"
    assert driver.counters()["bad_checksum"] == 1
    (event,) = driver.told
    assert (event["flow"], event["side"], event["b"]) == (driver.flows[0], CLIENT, TCP)
    assert_idle(driver)


def test_reset_with_a_wrong_checksum_resets_nothing(talk):
    talk.frames.append((spoiled(talk.segment(CLIENT, 0x14)), talk.now))
    talk.c(b"alive")
    driver = driver_of()
    driver.burst(talk.frames)
    assert driver.flows[0].data(CLIENT) == b"alive"
    assert driver.flows[0].reason == ""


def test_decoy_with_options_and_a_wrong_checksum_is_not_in_the_stream(talk):
    """Row 25: an MD5 signature nobody asked for, data offset 10, a spoiled checksum."""
    options = b"\x13\x12" + bytes(16) + b"\0\0"
    decoy = talk.segment(CLIENT, ACK, b"decoy", at=0, options=options)
    talk.frames.append((spoiled(decoy), talk.now))
    talk.c(b"right", at=0, options=timestamp(1))
    driver = driver_of()
    driver.burst(talk.frames)
    assert driver.flows[0].data(CLIENT) == b"right"


def test_checksums_off_lets_everything_in(talk):
    talk.frames.append((spoiled(talk.segment(CLIENT, ACK, b"decoy", at=0)), talk.now))
    for choice in ("off", "auto"):
        driver = driver_of(checksums=choice)
        driver.burst(talk.frames)
        assert driver.flows[0].data(CLIENT) == b"decoy"


def test_segment_that_the_capture_cut_off_cannot_be_judged(talk):
    frame = spoiled(talk.segment(CLIENT, ACK, b"x" * 100))
    driver = driver_of()
    driver.burst(talk.frames)
    assert let_in(driver, frame[:80], wire_len=len(frame))
    assert not let_in(driver, frame)


def test_padding_behind_the_packet_is_not_in_the_sum():
    driver = driver_of()
    assert let_in(driver, packet(datagram(b"")) + b"\xff" * 18)


# ---- what the device says ------------------------------------------------------------------------


@pytest.mark.parametrize("state", [GOOD, NOT_FILLED])
def test_device_that_says_good_or_not_filled_is_believed(state):
    driver = driver_of()
    wrong = packet(datagram(b"x", wrong=True))
    wrong = wrong[:24] + b"\x12\x34" + wrong[26:]
    assert let_in(driver, wrong, csum_ip=state, csum_l4=state)


def test_device_that_says_bad_is_believed():
    driver = driver_of()
    right = packet(datagram(b"x"))
    assert not let_in(driver, right, csum_l4=BAD)
    assert not let_in(driver, right, csum_ip=BAD)


@pytest.mark.parametrize(("choice", "asked"), [("live", False), ("on", True)])
def test_frames_that_this_host_sent_are_trusted_live(choice, asked):
    driver = driver_of(checksums=choice)
    wrong = packet(datagram(b"x", wrong=True))
    assert let_in(driver, wrong, direction=OUT) is not asked
    assert not let_in(driver, wrong)


# ---- addresses -----------------------------------------------------------------------------------


@both
def test_address_whose_first_64_segments_are_wrong_is_not_judged_any_more(version):
    driver = driver_of()
    wrong = packet(datagram(b"x", version, wrong=True), version)
    assert [let_in(driver, wrong) for _ in range(66)] == [False] * 64 + [True] * 2
    assert driver.core.unverified() == [ENDS[version][0]]
    assert len(delivered(driver)) == 2
    body = udp(53, 5000, b"back", ends=ENDS[version][::-1])
    body = body[:6] + b"\x11\x11" + body[8:]
    back = (
        ethernet(ipv4(body, *ENDS[4][::-1], UDP))
        if version == 4
        else ethernet(ipv6(body, *ENDS[6][::-1], UDP), IP6)
    )
    assert not let_in(driver, back)  # of the other nobody has said anything


def test_address_with_one_right_segment_stays_judged():
    driver = driver_of()
    right, wrong = packet(datagram(b"x")), packet(datagram(b"x", wrong=True))
    for i in range(200):
        assert let_in(driver, right if i == 50 else wrong) is (i == 50)
    assert driver.core.unverified() == []


def test_addresses_remembered_are_bounded():
    """Many senders of wrong segments: none is given up for another's."""
    driver = driver_of(handlers=False)
    for i in range(20_000):
        src = f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"
        body = bytearray(udp(1, 2, b"x", ends=(src, "10.0.0.2")))
        body[6] ^= 1
        assert not let_in(driver, ethernet(ipv4(bytes(body), src, "10.0.0.2", UDP)))
    assert driver.core.unverified() == []


# ---- fragments, headers in between ---------------------------------------------------------------


@pytest.mark.parametrize("wrong", [False, True])
@both
def test_datagram_in_fragments_is_judged_when_it_is_whole(version, wrong):
    driver = driver_of()
    body = datagram(bytes(range(200)), version, wrong)
    for at, data, more in [(0, body[:104], True), (104, body[104:], False)]:
        if version == 4:
            frame = packet(data, 4, fragment=(0x2000 if more else 0) | at >> 3)
        else:
            frame = packet(data, 6, extensions=[fragment6(at >> 3, more)])
        driver.input(frame, START + at * MILLISECOND)
    assert bool(delivered(driver)) is not wrong
    assert driver.counters().get("bad_checksum", 0) == wrong
    assert_idle(driver)


def test_fragment_with_a_wrong_header_checksum_is_not_taken():
    driver = driver_of()
    body = datagram(bytes(200))
    first = packet(body[:104], fragment=0x2000)
    assert not let_in(driver, first[:24] + b"\x12\x34" + first[26:])
    assert driver.usage()["datagrams"] == 0


def test_ip6_extension_headers_do_not_change_the_sum():
    driver = driver_of()
    chain = [extension(0), extension(60, bytes(14)), fragment6()]
    assert let_in(driver, packet(datagram(b"abc", 6), 6, extensions=chain))
    assert not let_in(driver, packet(datagram(b"abc", 6, wrong=True), 6, extensions=chain))


@pytest.mark.parametrize(("left", "judged"), [(0, True), (1, False)])
def test_ip6_routing_header_still_to_be_followed_cannot_be_judged(left, judged):
    driver = driver_of()
    routing = extension(43, bytes([0, left]) + bytes(4 + 16))
    wrong = packet(datagram(b"abc", 6, wrong=True), 6, extensions=[routing])
    assert let_in(driver, wrong) is not judged
