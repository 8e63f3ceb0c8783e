"""Link types other than Ethernet and Linux's: PPP, HDLC, FDDI, 802.11."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from aiomos._engine._testframes import decode

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, ARP, IP4, IP6, PSH, TCP, ipv4, ipv6, tcp
from cuts import check_in_segments, decode_with_odd_bytes
from wraps import PPPOE, kind_of, llc, mpls, ppp, pppoe, radiotap, wifi

SEGMENT = tcp(40000, 80, 1000, 2000, PSH | ACK, b"hello")
PACKET = ipv4(SEGMENT)
PACKET6 = ipv6(SEGMENT)

PPP, FDDI, PPP_HDLC, PPP_ETHER, HDLC, WIFI, RADIOTAP, PPP_DIR = 9, 10, 50, 51, 104, 105, 127, 204


def hdlc(packet: bytes, address: int = 0x0F) -> bytes:
    return struct.pack(">BBH", address, 0, kind_of(packet)) + packet


def aggregate(packet: bytes) -> bytes:
    """The first frame of an A-MSDU."""
    body = llc(packet)
    return bytes(12) + struct.pack(">H", len(body)) + body


#: Frame, link type.
CASES = {
    "ppp": (ppp(PACKET), PPP),
    "ppp ip6": (ppp(PACKET6), PPP),
    "ppp address": (ppp(PACKET, address=True), PPP),
    "ppp short": (ppp(PACKET, short=True), PPP),
    "ppp address short": (ppp(PACKET6, address=True, short=True), PPP),
    "ppp mpls": (b"\x02\x81" + mpls(PACKET, 5), PPP),
    "ppp received": (b"\0" + ppp(PACKET, address=True), PPP_DIR),
    "ppp sent": (b"\1" + ppp(PACKET), PPP_DIR),
    "ppp in hdlc": (ppp(PACKET, address=True), PPP_HDLC),
    "cisco in hdlc": (hdlc(PACKET), PPP_HDLC),
    "cisco multicast": (hdlc(PACKET, 0x8F), PPP_HDLC),
    "pppoe": (pppoe(ppp(PACKET)), PPP_ETHER),
    "hdlc": (hdlc(PACKET), HDLC),
    "hdlc ip6": (hdlc(PACKET6), HDLC),
    "fddi": (bytes(13) + llc(PACKET), FDDI),
    "wifi to": (wifi(llc(PACKET)), WIFI),
    "wifi from": (wifi(llc(PACKET6), control=0x0802), WIFI),
    "wifi ad hoc": (wifi(llc(PACKET), control=0x0800), WIFI),
    "wifi four addresses": (wifi(llc(PACKET), control=0x0803), WIFI),
    "wifi qos": (wifi(llc(PACKET), qos=0), WIFI),
    "wifi qos, four addresses": (wifi(llc(PACKET), control=0x0803, qos=5), WIFI),
    "wifi qos with ht control": (wifi(llc(PACKET), control=0x0881, qos=0), WIFI),
    "wifi retry": (wifi(llc(PACKET), control=0x0809), WIFI),
    "wifi with a check sequence": (wifi(llc(PACKET) + bytes(4)), WIFI),
    "wifi aggregate": (wifi(aggregate(PACKET), qos=0x80), WIFI),
    "wifi 802.1H": (wifi(b"\xaa\xaa\x03\0\0\xf8\x08\0" + PACKET), WIFI),
    "llc ip": (wifi(b"\x06\x06\x03" + PACKET), WIFI),
    "radiotap": (radiotap(wifi(llc(PACKET))), RADIOTAP),
    "radiotap flags": (radiotap(wifi(llc(PACKET)), flags=0x10), RADIOTAP),
    "radiotap clock": (radiotap(wifi(llc(PACKET)), clock=True, flags=0x10), RADIOTAP),
    "radiotap words": (radiotap(wifi(llc(PACKET)), clock=True, flags=0, words=3), RADIOTAP),
    "radiotap padded": (
        radiotap(wifi(llc(PACKET), qos=0, tail=bytes(2)), clock=True, flags=0x20), RADIOTAP),
    "radiotap padded aggregate": (
        radiotap(wifi(aggregate(PACKET), qos=0x80, tail=bytes(2)), flags=0x20), RADIOTAP),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_segment_on_this_link_is_decoded(name):
    frame, link = CASES[name]
    found = decode(frame, link_type=link)
    fields = ("status", "protocol", "sport", "payload_len", "payload_cap")
    assert [found[f] for f in fields] == ["tcp", TCP, 40000, 5, 5]
    assert frame[found["payload_off"] :].startswith(b"hello")
    assert not found["ethernet"]


@pytest.mark.parametrize("name", CASES)
def test_segment_on_this_link_cut_anywhere_is_truncated_or_a_shorter_payload(name):
    frame, link = CASES[name]
    whole = decode(frame, link_type=link)
    for length in range(len(frame)):
        found = decode(frame[:length], link_type=link, wire_len=len(frame))
        if length < whole["payload_off"]:
            assert found["status"] == "truncated_header", length
        else:
            assert found["key"] == whole["key"]
            assert found["payload_cap"] == min(5, length - whole["payload_off"])


@pytest.mark.parametrize("name", CASES)
def test_segment_on_this_link_cut_by_segments_asks_for_the_rest_or_is_the_same(name):
    frame, link = CASES[name]
    headers = decode(frame, link_type=link)["payload_off"]
    check_in_segments(frame, headers, link_type=link)


@pytest.mark.parametrize("name", CASES)
def test_any_byte_of_the_headers_set_to_anything_is_read_inside_only(name):
    frame, link = CASES[name]
    end = decode(frame, link_type=link)["payload_off"]
    decode_with_odd_bytes(frame, range(end), end, link_type=link)
    for at in range(end):
        decode(frame[:at], link_type=link)


@pytest.mark.parametrize(
    ("frame", "link", "status"),
    [
        (b"\xc0\x21\x01\x01\0\x04", PPP, "not_ip"),  # LCP
        (b"\xff\x03\xc0\x21\x01\x01\0\x04", PPP, "not_ip"),
        (b"\x2d" + bytes(40), PPP, "not_ip"),  # compressed TCP/IP header
        (b"\0\x3d" + bytes(40), PPP, "not_ip"),  # multilink
        (b"\x21", PPP, "not_ip"),
        (struct.pack(">BBH", 0x8F, 0, 0x8035) + bytes(18), HDLC, "not_ip"),  # SLARP
        (b"\x0f\0\x08", HDLC, "bad_link_header"),
        (b"", PPP_HDLC, "bad_link_header"),
        (bytes(13) + b"\x42\x42\x03" + bytes(35), FDDI, "not_ip"),
        (wifi(llc(PACKET), control=0x0841), WIFI, "protected"),
        (wifi(llc(PACKET), control=0x0841, qos=0), WIFI, "protected"),
        (wifi(b"", control=0x4801), WIFI, "not_ip"),  # no data
        (wifi(b"", control=0xC801), WIFI, "not_ip"),
        (wifi(llc(PACKET), control=0x8000), WIFI, "not_ip"),  # beacon
        (b"\xd4\0" + bytes(8), WIFI, "not_ip"),  # acknowledgement
        (wifi(llc(PACKET), control=0x0901), WIFI, "not_ip"),  # of a version that does not exist
        (wifi(llc(PACKET), control=0x0805), WIFI, "not_ip"),  # fragments
        (wifi(llc(PACKET), number=0x11), WIFI, "not_ip"),
        (wifi(b"\xaa\xaa\x03\0\0\0\x08\x06" + bytes(28)), WIFI, "not_ip"),
        (wifi(llc(PACKET))[:23], WIFI, "bad_link_header"),
        (b"\x08", WIFI, "bad_link_header"),
        (radiotap(wifi(llc(PACKET)), flags=0x40), RADIOTAP, "bad_link_header"),  # bad FCS
        (b"\x01" + radiotap(wifi(llc(PACKET)))[1:], RADIOTAP, "bad_link_header"),
        (b"\0\0\x04\0" + bytes(40), RADIOTAP, "bad_link_header"),
        (b"\0\0\xff\xff" + bytes(40), RADIOTAP, "bad_link_header"),
        (b"\0\0\x08\0\xff\xff\xff\xff" + wifi(llc(PACKET)), RADIOTAP, "tcp"),  # bitmap cut short
    ],
)
def test_frame_without_a_packet_is_told_for_what_it_is(frame, link, status):
    assert decode(frame, link_type=link)["status"] == status


def test_snap_and_wifi_switched_off():
    frame = wifi(llc(PACKET))
    assert decode(frame, link_type=WIFI, without=["snap"])["status"] == "not_ip"
    assert decode(frame, link_type=WIFI, without=["wifi"])["status"] == "not_ip"
    assert decode(ppp(PACKET), link_type=PPP, without=["ppp"])["status"] == "not_ip"


def test_ethernet_types_behind_other_links_are_followed():
    tagged = struct.pack(">BBHHH", 0x0F, 0, 0x8100, 5, IP4) + PACKET
    assert decode(tagged, link_type=HDLC)["vlan"] == [5]
    session = struct.pack(">BBH", 0x0F, 0, PPPOE) + pppoe(ppp(PACKET6))
    found = decode(session, link_type=HDLC)
    assert (found["tunnels"], found["ether_type"]) == ([("pppoe", 7, b"", b"")], IP6)
    arp = struct.pack(">BBH", 0x0F, 0, ARP) + bytes(28)
    assert decode(arp, link_type=HDLC)["status"] == "not_ip"
