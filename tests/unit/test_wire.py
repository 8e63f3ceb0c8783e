"""From frames to views of their headers: every path, and everything that can be wrong with it.

The hook gives the decoder a block of exactly the frame's size, so that valgrind and the
address sanitizer see any byte read outside.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from aiomos._engine._testframes import decode

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    ARP,
    FIN,
    ICMP,
    IP4,
    IP6,
    PSH,
    QINQ,
    TCP,
    UDP,
    address,
    authentication,
    cooked,
    cooked2,
    datagram,
    ethernet,
    extension,
    fragment6,
    ipv4,
    ipv6,
    mss,
    snap,
    tcp,
    timestamp,
    udp,
)
from cuts import check_in_segments, decode_with_odd_bytes

SEGMENT = tcp(40000, 80, 1000, 2000, PSH | ACK, b"hello", window=500, options=mss())
FRAME = ethernet(ipv4(SEGMENT))
V6 = ("fd00::1", "fd00::2")
FRAME6 = ethernet(ipv6(SEGMENT), IP6)


def expect(found, status="tcp", **fields):
    assert found["status"] == status
    assert {name: found[name] for name in fields} == fields


# ---- TCP and UDP over both versions -----------------------------------------


def test_ethernet_ip4_tcp_gives_every_field():
    expect(
        decode(FRAME),
        ip_version=4,
        protocol=TCP,
        ether_type=IP4,
        ethernet=True,
        vlan=[],
        src=address("10.0.0.1"),
        dst=address("10.0.0.2"),
        sport=40000,
        dport=80,
        seq=1000,
        ack=2000,
        flags=PSH | ACK,
        window=500,
        l4_len=24,
        options=mss(),
        payload_off=14 + 20 + 24,
        payload_len=5,
        payload_cap=5,
    )


def test_ethernet_ip6_tcp_gives_every_field():
    expect(
        decode(FRAME6),
        ip_version=6,
        protocol=TCP,
        ether_type=IP6,
        src=address("fd00::1"),
        dst=address("fd00::2"),
        sport=40000,
        dport=80,
        payload_off=14 + 40 + 24,
        payload_len=5,
    )


def test_ethernet_udp_gives_its_fields():
    found = decode(datagram(b"query"))
    expect(found, "udp", protocol=UDP, sport=5000, dport=53, payload_len=5, payload_cap=5)
    expect(decode(datagram(b"", ("fd00::1", 1), ("fd00::2", 2))), "udp", payload_len=0)


def test_ip4_options_are_stepped_over():
    expect(decode(ethernet(ipv4(SEGMENT, options=b"\x01" * 40))), payload_off=14 + 60 + 24)


def test_ip4_other_protocol_is_other():
    expect(decode(ethernet(ipv4(b"\x08\0\0\0", protocol=ICMP))), "other_ip", protocol=ICMP)


@pytest.mark.parametrize("kind", [ARP, 0x88CC, 0x0801, 1501])
def test_ethernet_other_ether_type_is_not_ip(kind):
    expect(decode(ethernet(bytes(46), kind)), "not_ip", ether_type=kind)


# ---- padding, lengths -------------------------------------------------------


def test_ip4_ethernet_padding_is_no_payload():
    found = decode(ethernet(ipv4(tcp(payload=b"x")) + b"\xee" * 5))
    expect(found, payload_len=1, payload_cap=1)


def test_ip6_ethernet_padding_is_no_payload():
    expect(decode(ethernet(ipv6(tcp()) + b"\xee" * 6, IP6)), payload_len=0, payload_cap=0)


def test_ip4_total_length_zero_is_as_long_as_the_frame():
    found = decode(ethernet(ipv4(tcp(payload=b"x" * 3000), total=0)))
    expect(found, payload_len=3000, payload_cap=3000)


def test_ip4_total_length_zero_of_a_cut_frame_is_as_long_as_the_wire():
    frame = ethernet(ipv4(tcp(payload=b"x" * 3000), total=0))
    expect(decode(frame[:100], wire_len=len(frame)), payload_len=3000, payload_cap=100 - 54)


def test_ip6_payload_length_zero_is_as_long_as_the_frame():
    body = tcp(payload=b"x" * 70000, ends=V6)
    found = decode(ethernet(ipv6(body, length=0), IP6))
    expect(found, payload_len=70000, payload_cap=70000)


def test_ip6_no_next_header_without_payload_is_other():
    expect(decode(ethernet(ipv6(b"", protocol=59), IP6)), "other_ip", payload_len=0)


@pytest.mark.parametrize("total", [1, 19, 46, 65535])
def test_ip4_impossible_total_length_is_malformed(total):
    expect(decode(ethernet(ipv4(tcp(payload=b"12345"), total=total))), "bad_ip4_length")


def test_ip4_total_length_within_the_tcp_header_is_a_bad_tcp_header():
    expect(decode(ethernet(ipv4(SEGMENT, total=39))), "bad_tcp_header")
    expect(decode(ethernet(ipv4(SEGMENT, total=43))), "bad_tcp_header")  # options do not fit


@pytest.mark.parametrize("first", [0x40, 0x44, 0x15, 0x55, 0x65])
def test_ip4_bad_version_or_header_length_is_malformed(first):
    raw = bytearray(FRAME)
    raw[14] = first
    expect(decode(raw), "bad_ip4_header")


def test_ip4_header_beyond_total_length_is_malformed():
    raw = bytearray(ethernet(ipv4(b"", total=20)) + bytes(40))
    raw[14] = 0x4F
    expect(decode(raw), "bad_ip4_length")


def test_ip6_bad_version_is_malformed():
    raw = bytearray(FRAME6)
    raw[14] = 0x40
    expect(decode(raw), "bad_ip6_header")


def test_ip6_length_beyond_the_frame_is_malformed():
    expect(decode(ethernet(ipv6(SEGMENT, length=len(SEGMENT) + 1), IP6)), "bad_ip6_length")


@pytest.mark.parametrize("words", range(5))
def test_tcp_data_offset_under_five_words_is_malformed(words):
    expect(decode(ethernet(ipv4(tcp(offset=words)))), "bad_tcp_header")


def test_tcp_data_offset_beyond_the_datagram_is_malformed():
    expect(decode(ethernet(ipv4(tcp(offset=6)))), "bad_tcp_header")


@pytest.mark.parametrize("length", [0, 7, 14, 65535])
def test_udp_impossible_length_is_malformed(length):
    expect(
        decode(ethernet(ipv4(udp(payload=b"12345", length=length), protocol=UDP))), "bad_udp_length"
    )


def test_udp_length_under_the_datagram_is_believed():
    found = decode(ethernet(ipv4(udp(payload=b"12345", length=10), protocol=UDP)))
    expect(found, "udp", payload_len=2, payload_cap=2)


def test_udp_jumbogram_has_length_zero():
    body = udp(payload=b"x" * 70000, length=0, ends=V6)
    expect(decode(ethernet(ipv6(body, protocol=UDP, length=0), IP6)), "udp", payload_len=70000)


# ---- VLAN tags, SNAP --------------------------------------------------------


def test_one_tag_is_kept():
    expect(decode(ethernet(ipv4(SEGMENT), vlan=[0x2005])), vlan=[0x2005], payload_len=5)


@pytest.mark.parametrize("outer", [QINQ, 0x9100, 0x9200])
def test_two_tags_are_kept_outermost_first(outer):
    frame = ethernet(ipv6(SEGMENT), IP6, vlan=[(outer, 7), 8])
    expect(decode(frame), vlan=[7, 8], payload_len=5)


def test_deep_stack_is_walked_and_four_tags_kept():
    expect(decode(ethernet(ipv4(SEGMENT), vlan=range(1, 17))), vlan=[1, 2, 3, 4])


def test_seventeen_tags_are_malformed():
    expect(decode(ethernet(ipv4(SEGMENT), vlan=range(17))), "bad_link_header")


def test_tags_that_the_device_stripped_come_first():
    expect(decode(ethernet(ipv4(SEGMENT), vlan=[9]), vlan=(3, 4)), vlan=[3, 4, 9])


def test_tag_cut_short_is_malformed():
    frame = ethernet(b"", vlan=[1])
    for cut in range(14, 18):
        expect(decode(frame[:cut]), "bad_link_header")


def test_snap_with_an_ether_type_is_decoded():
    expect(decode(snap(ipv4(SEGMENT))), ether_type=IP4, payload_len=5)
    expect(decode(snap(ipv6(SEGMENT), IP6)), ether_type=IP6, payload_len=5)


def test_llc_of_another_kind_is_not_ip():
    frame = bytes(12) + struct.pack(">H", 38) + b"\x42\x42\x03" + bytes(35)
    expect(decode(frame), "not_ip")
    expect(decode(snap(ipv4(SEGMENT), oui=b"\x00\x01\x00")), "not_ip")


@pytest.mark.parametrize("length", range(8))
def test_llc_too_short_for_snap_is_not_ip(length):
    expect(decode(snap(ipv4(SEGMENT))[: 14 + length]), "not_ip")


# ---- other link types -------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "prefix"),
    [
        (0, b"\x02\0\0\0"),  # null, little endian
        (0, b"\0\0\0\x1e"),  # null, big endian, another system's number for IPv6
        (12, b""),
        (14, b""),
        (101, b""),
        (108, b"\0\0\0\x02"),
        (228, b""),
        (229, b""),
    ],
)
@pytest.mark.parametrize("version", [4, 6])
def test_raw_and_loopback_links_go_by_the_version(link, prefix, version):
    body = ipv4(SEGMENT) if version == 4 else ipv6(SEGMENT)
    found = decode(prefix + body, link_type=link)
    expect(found, ip_version=version, ethernet=False, payload_len=5)


@pytest.mark.parametrize("link", [0, 101])
def test_raw_link_of_another_version_is_not_ip(link):
    expect(decode(bytes(4) + b"\x50" + bytes(40), link_type=link), "not_ip")


def test_raw_link_without_a_byte_is_malformed():
    expect(decode(b"", link_type=101), "bad_link_header")
    expect(decode(b"\x02\0\0\0", link_type=0), "bad_link_header")


@pytest.mark.parametrize(("make", "link"), [(cooked, 113), (cooked2, 276)])
def test_linux_cooked_is_decoded(make, link):
    expect(decode(make(ipv4(SEGMENT)), link_type=link), ip_version=4, payload_len=5)
    expect(decode(make(ipv6(SEGMENT), IP6), link_type=link), ip_version=6, payload_len=5)
    expect(decode(make(bytes(28), ARP), link_type=link), "not_ip")
    tagged = make(struct.pack(">HH", 5, IP4) + ipv4(SEGMENT), 0x8100)
    expect(decode(tagged, link_type=link), vlan=[5], payload_len=5)


@pytest.mark.parametrize("link", [2, 143, 147, 65535])
def test_unknown_link_type_is_told(link):
    expect(decode(FRAME, link_type=link), "unknown_link_type")


# ---- fragments, extension headers -------------------------------------------


@pytest.mark.parametrize("field", [0x2000, 0x2001, 0x0001, 0x1FFF, 0x6000])
def test_ip4_fragment_is_a_fragment(field):
    expect(decode(ethernet(ipv4(SEGMENT, fragment=field))), "fragments", protocol=TCP)


@pytest.mark.parametrize("field", [0x0000, 0x4000, 0x8000])
def test_ip4_flags_without_offset_are_no_fragment(field):
    expect(decode(ethernet(ipv4(SEGMENT, fragment=field))))


@pytest.mark.parametrize(("offset", "more"), [(0, True), (1, False), (185, True)])
def test_ip6_fragment_is_a_fragment(offset, more):
    frame = ethernet(ipv6(SEGMENT, extensions=[fragment6(offset, more)]), IP6)
    expect(decode(frame), "fragments")


def test_ip6_atomic_fragment_is_whole():
    expect(decode(ethernet(ipv6(SEGMENT, extensions=[fragment6()]), IP6)), payload_len=5)


def test_ip6_chain_of_extensions_is_walked():
    chain = [
        extension(0),
        extension(60, bytes(14)),
        extension(43, bytes(22)),
        fragment6(),
        authentication(6),
        extension(60),
        extension(135),
        extension(139),
        extension(140),
    ]
    frame = ethernet(ipv6(SEGMENT, extensions=chain), IP6)
    expect(decode(frame), protocol=TCP, sport=40000, payload_len=5)
    body = udp(payload=b"abc")
    expect(decode(ethernet(ipv6(body, protocol=UDP, extensions=chain), IP6)), "udp", payload_len=3)


def test_ip6_chain_to_another_protocol_is_other():
    frame = ethernet(ipv6(bytes(8), protocol=58, extensions=[extension(0)]), IP6)
    expect(decode(frame), "other_ip", protocol=58, payload_len=8)


def test_ip6_fifteen_extensions_are_walked_and_sixteen_refused():
    expect(decode(ethernet(ipv6(SEGMENT, extensions=[extension(60)] * 15), IP6)))
    frame = ethernet(ipv6(SEGMENT, extensions=[extension(60)] * 16), IP6)
    expect(decode(frame), "bad_ip6_extension")


def test_ip6_extension_beyond_the_datagram_is_malformed():
    body = bytes([6, 9]) + bytes(30)
    expect(decode(ethernet(ipv6(body, protocol=60), IP6)), "bad_ip6_extension")


@pytest.mark.parametrize("kind", [0, 43, 44, 51, 60, 135])
@pytest.mark.parametrize("length", range(1, 8))
def test_ip6_extension_cut_short_on_the_wire_is_malformed(kind, length):
    frame = ethernet(ipv6(bytes(length), protocol=kind), IP6)
    expect(decode(frame), "bad_ip6_extension")
    # The same behind Ethernet's padding: bytes at hand, but not of the datagram.
    expect(decode(frame + bytes(20)), "bad_ip6_extension")


# ---- frames cut by the capture, or by segments ------------------------------

CUTS = {
    "tcp4": (FRAME, 1, 14 + 20 + 20),
    "tcp6": (FRAME6, 1, 14 + 40 + 20),
    "vlan": (ethernet(ipv4(SEGMENT), vlan=[1, 2]), 1, 22 + 20 + 20),
    "udp": (datagram(b"query"), 1, 14 + 20 + 8),
    "extensions": (
        ethernet(ipv6(SEGMENT, extensions=[extension(0), fragment6(), authentication()]), IP6),
        1,
        14 + 40 + 8 + 8 + 16 + 20,
    ),
    "sll": (cooked(ipv4(SEGMENT)), 113, 16 + 20 + 20),
    "sll2": (cooked2(ipv6(SEGMENT), IP6), 276, 20 + 40 + 20),
    "raw": (ipv4(SEGMENT), 101, 20 + 20),
    "null": (b"\x02\0\0\0" + ipv6(SEGMENT), 0, 4 + 40 + 20),
}


@pytest.mark.parametrize("name", CUTS)
def test_cut_by_the_snap_length_headers_are_truncated_then_payload_counted(name):
    frame, link, need = CUTS[name]
    whole = decode(frame, link_type=link)
    for length in range(len(frame)):
        found = decode(frame[:length], link_type=link, wire_len=len(frame))
        if length < need:
            assert found["status"] == "truncated_header", length
            continue
        assert found["status"] == whole["status"], length
        assert found["payload_len"] == whole["payload_len"]
        assert found["payload_cap"] == max(0, length - whole["payload_off"])
        if found["status"] == "tcp":
            options_there = length >= whole["payload_off"]
            assert found["options"] == (whole["options"] if options_there else b"")


@pytest.mark.parametrize("name", CUTS)
def test_cut_on_the_wire_is_malformed_at_every_length(name):
    frame, link, _ = CUTS[name]
    for length in range(len(frame)):
        status = decode(frame[:length], link_type=link)["status"]
        assert status.startswith("bad_"), (length, status)


@pytest.mark.parametrize("name", CUTS)
def test_cut_by_segments_asks_for_the_rest_or_decodes_the_same(name):
    frame, link, need = CUTS[name]
    whole = decode(frame, link_type=link)
    headers = whole["payload_off"] if whole["status"] == "tcp" else need
    check_in_segments(frame, headers, link_type=link)


def test_snap_length_54_loses_options_but_not_the_segment():
    frame = ethernet(ipv4(tcp(payload=b"x" * 1000, options=timestamp(1, 2))))
    found = decode(frame[:54], wire_len=len(frame))
    expect(found, payload_len=1000, payload_cap=0, options=b"", l4_len=20)


@pytest.mark.parametrize("name", CUTS)
def test_any_byte_set_to_anything_is_read_inside_only(name):
    frame, link, need = CUTS[name]
    decode_with_odd_bytes(frame, range(need), need, link_type=link)


# ---- keys -------------------------------------------------------------------


ENDS = [
    ("10.0.0.1", "10.0.0.2", 40000, 80),
    ("10.0.0.2", "10.0.0.1", 80, 40000),
    ("10.0.0.1", "10.0.0.1", 1, 2),
    ("10.0.0.1", "10.0.0.1", 5, 5),
    ("255.0.0.1", "1.0.0.255", 9, 9),
    ("fd00::1", "fd00::2", 40000, 80),
    ("fd00::1", "fd00::1", 1, 2),
    ("2001:db8::", "::1", 3, 4),
    ("fd00:0:0:1::1", "fd00:0:0:2::1", 1, 1),
]


def keyed(src, dst, sport, dport, make=tcp, **fields):
    body = make(sport, dport, ends=(src, dst))
    protocol = TCP if make is tcp else UDP
    if ":" in src:
        return decode(ethernet(ipv6(body, src, dst, protocol), IP6), **fields)
    return decode(ethernet(ipv4(body, src, dst, protocol)), **fields)


@pytest.mark.parametrize(("src", "dst", "sport", "dport"), ENDS)
def test_both_directions_have_one_key_and_opposite_ends(src, dst, sport, dport):
    there = keyed(src, dst, sport, dport)
    back = keyed(dst, src, dport, sport)
    assert (there["key"], there["hash"]) == (back["key"], back["hash"])
    if (src, sport) != (dst, dport):
        assert there["from_low"] != back["from_low"]


def test_any_other_end_has_another_key():
    keys = {keyed(*ends)["key"] for ends in ENDS}
    keys |= {keyed(*ends, make=udp)["key"] for ends in ENDS}
    keys |= {keyed(*ends, scope=["vlan"], vlan=[7])["key"] for ends in ENDS}
    keys.add(keyed("10.0.0.1", "10.0.0.2", 80, 40000)["key"])  # ports exchanged, addresses not
    keys.add(keyed("fd00::1", "fd00::2", 80, 40000)["key"])
    assert len(keys) == 3 * (len(ENDS) - 1) + 2  # two of ENDS are one flow


def test_another_seed_gives_another_hash():
    for ends in (ENDS[0], ENDS[5]):
        hashes = {keyed(*ends, seed=bytes([n]) * 32)["hash"] for n in range(8)}
        assert len(hashes) == 8


def test_fin_flag_and_others_do_not_touch_the_key():
    one = decode(ethernet(ipv4(tcp(flags=FIN | ACK, seq=5))))
    assert one["key"] == decode(ethernet(ipv4(tcp(payload=b"x"), ident=9)))["key"]
