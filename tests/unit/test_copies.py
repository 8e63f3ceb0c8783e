"""Packets that a mirror shows twice, with and without `dedup` (test-cases 37)."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    ARP,
    CLIENT,
    IP6,
    MAC,
    MILLISECOND,
    START,
    UDP,
    Talk,
    assert_idle,
    checksum,
    ethernet,
    ipv4,
    ipv6,
    udp,
)

ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
both = pytest.mark.parametrize("version", [4, 6])


def driver_of(**options):
    return CoreDriver(**{"dedup": True, **options})


def raw(version, payload=b"payload", ident=1):
    """An IP packet."""
    body = udp(5000, 53, payload, ends=ENDS[version])
    return ipv4(body, *ENDS[4], UDP, ident=ident) if version == 4 else ipv6(body, *ENDS[6], UDP)


def framed(packet, **link):
    return ethernet(packet, 0x0800 if packet[0] >> 4 == 4 else IP6, **link)


def routed(packet):
    """The same behind a router: one hop less, the header checksum made again."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    head = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + b"\0\0" + packet[12:20]
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + packet[20:]


def taken(driver):
    return sum(len(flow.datagrams) for flow in driver.flows)


@pytest.fixture
def mirrored():
    """A conversation of which the mirror shows every frame twice, 1 us apart."""
    frames = []

    def twice(frame, at):
        frames.append((frame, at))
        frames.append((frame, at + 1000))

    talk = Talk(twice)
    talk.handshake()
    talk.c(b"question" * 100)
    talk.s(b"answer" * 200)
    talk.c()
    talk.close()
    return frames


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_conversation_shown_twice_is_counted_once(mirrored, burst):
    """Row 37."""
    driver = driver_of()
    for at in range(0, len(mirrored), burst):
        driver.burst(mirrored[at : at + burst])
    flow, counters = driver.flows[0], driver.counters()
    assert counters["duplicates"] == len(mirrored) // 2
    assert counters["tcp"] == len(mirrored) // 2
    assert counters["frames"] == len(mirrored)
    assert "tcp_retransmitted" not in counters
    assert flow.data(CLIENT) == b"question" * 100
    assert flow.retransmissions == (0, 0)
    assert_idle(driver)


def test_conversation_shown_twice_without_dedup_is_retransmitted(mirrored):
    """Row 37, the other half."""
    driver = CoreDriver()
    driver.burst(mirrored)
    counters = driver.counters()
    assert "duplicates" not in counters
    assert counters["tcp_retransmitted"] >= 2
    assert counters["tcp"] == len(mirrored)
    assert driver.flows[0].data(CLIENT) == b"question" * 100


@both
@pytest.mark.parametrize(("after_ms", "twice"), [(0, False), (49, False), (50, True), (5000, True)])
def test_copy_within_the_window_is_one_packet(version, after_ms, twice):
    driver = driver_of()
    frame = framed(raw(version))
    driver.input(frame, START)
    driver.input(frame, START + after_ms * MILLISECOND)
    assert taken(driver) == 1 + twice


def test_window_counts_from_the_first_of_the_copies():
    driver = driver_of(dedup_window=0.01)
    frame = framed(raw(4))
    for at in (0, 6, 9, 12, 15, 23):
        driver.input(frame, START + at * MILLISECOND)
    assert taken(driver) == 3  # 0, 12, 23


@both
def test_copy_behind_a_router_is_a_copy(version):
    """Other MAC addresses, one hop less, another header checksum."""
    driver = driver_of()
    packet = raw(version)
    driver.input(framed(packet), START)
    driver.input(framed(routed(packet), src=MAC[1], dst=MAC[0]), START)
    driver.input(framed(packet, vlan=[7]), START)
    assert taken(driver) == 1


def test_copy_on_another_vlan_is_a_packet_of_its_own_with_the_tag_in_the_key():
    driver = driver_of(vlan_in_key=True)
    for vlan in ([5], [6], [5]):
        driver.input(framed(raw(4), vlan=vlan), START)
    assert taken(driver) == 2


@both
def test_any_other_byte_makes_another_packet(version):
    driver = CoreDriver(dedup=True, handlers=False)
    packet = raw(version)
    driver.input(framed(packet), START)
    free = {8, 10, 11} if version == 4 else {7}
    for at in range(len(packet)):
        if at not in free:
            spoiled = packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
            driver.input(framed(spoiled), START)
    assert "duplicates" not in driver.counters()


@both
def test_padding_and_segments_do_not_matter(version):
    driver = driver_of()
    chance = random.Random(3)
    frame = framed(raw(version, chance.randbytes(900)))
    driver.input(frame, START)
    driver.input(frame + bytes(6), START)
    for _ in range(20):
        driver.input(frame, START, cuts=chance.sample(range(1, len(frame)), 4))
    assert taken(driver) == 1
    assert driver.counters()["duplicates"] == 21


def test_frames_without_ip_are_compared_too():
    driver = driver_of()
    for body in (bytes(28), bytes(28), bytes(27) + b"x"):
        driver.input(ethernet(body, ARP), START)
    counters = driver.counters()
    assert (counters["duplicates"], counters["not_ip"]) == (1, 2)
    for frame in (b"", b"\0", b"\0" * 13):
        driver.input(frame, START)
        driver.input(frame, START)
    assert driver.counters()["duplicates"] == 4


def test_fragments_shown_twice_are_put_together_once():
    driver = driver_of()
    body = udp(5000, 53, bytes(200), ends=ENDS[4])
    parts = [
        ethernet(ipv4(body[:104], *ENDS[4], UDP, fragment=0x2000)),
        ethernet(ipv4(body[104:], *ENDS[4], UDP, fragment=13)),
    ]
    for part in (parts[0], parts[0], parts[1], parts[1]):
        driver.input(part, START)
    assert taken(driver) == 1
    assert_idle(driver)
    assert "fragment_unfinished" not in driver.counters()


def test_many_packets_fill_the_table_and_lose_nothing():
    """More in one window than are remembered: some copies pass, no packet is taken for another."""
    driver = CoreDriver(dedup=True, handlers=False)
    for number in range(20_000):
        driver.input(framed(raw(4, number.to_bytes(4, "big"))), START)
    assert "duplicates" not in driver.counters()


def test_retransmission_of_a_host_is_no_copy():
    """It has another identification; what has none may be taken for one within the window."""
    driver = driver_of()
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"data")
    segment = talk.segment(CLIENT, ACK, b"data", at=0)
    at = 14 + 4
    head = segment[14:34]
    head = head[:4] + b"\x12\x34" + head[6:10] + b"\0\0" + head[12:]
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    assert at == 18
    talk.give(segment[:14] + head + segment[34:])
    assert driver.counters()["tcp_retransmitted"] == 1
