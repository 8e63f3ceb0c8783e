"""Every encapsulation: opened down to the packet inside, or left what it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine import names
from aiomos._engine._testframes import decode

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, ARP, IP4, IP6, PSH, TCP, UDP, address, ethernet, ipv4, ipv6, tcp
from cuts import check_in_segments, decode_with_odd_bytes
from wraps import (
    AH,
    BRIDGED,
    CMD,
    ETHERIP,
    GRE,
    IPIP,
    MPLS,
    MPLS_IP,
    OUTER,
    OUTER6,
    PBB,
    PPPOE,
    SIX,
    eoip,
    erspan2,
    erspan3,
    etherip,
    geneve,
    gre,
    gtpu,
    in_ip,
    in_udp,
    kind_of,
    l2tp,
    metadata,
    mpls,
    pbb,
    ppp,
    pppoe,
    pptp,
    teredo,
    vxlan,
)

SEGMENT = tcp(40000, 80, 1000, 2000, PSH | ACK, b"hello")
PACKET = ipv4(SEGMENT)
PACKET6 = ipv6(SEGMENT)
FRAME = ethernet(PACKET)
FRAME6 = ethernet(PACKET6, IP6)
WORD = bytes(4)  # control word of a pseudo-wire


def ip(packet):
    """The packet on Ethernet, as a frame."""
    return ethernet(packet, kind_of(packet))


def routed(*lengths):
    """Source route entries of GRE, with the one that ends them."""
    entries = [b"\x08\0\0" + bytes([n]) + bytes(n) for n in lengths]
    return b"".join(entries) + bytes(4)


A, B = address(OUTER[0]), address(OUTER[1])
A6, B6 = address(OUTER6[0]), address(OUTER6[1])

#: Frame -> what is told of its encapsulations.
CASES = {
    "mpls": (ethernet(mpls(PACKET, 16), MPLS), [("mpls", 16, b"", b"")]),
    "mpls multicast": (ethernet(mpls(PACKET, 16), 0x8848), [("mpls", 16, b"", b"")]),
    "mpls ip6": (ethernet(mpls(PACKET6, 16), MPLS), [("mpls", 16, b"", b"")]),
    "mpls stack": (ethernet(mpls(PACKET, 100, 200, 300), MPLS), [("mpls", 300, b"", b"")]),
    "mpls sixteen": (ethernet(mpls(PACKET, *range(1, 17)), MPLS), [("mpls", 16, b"", b"")]),
    "mpls entropy": (ethernet(mpls(PACKET, 100, 7, 999), MPLS), [("mpls", 100, b"", b"")]),
    "mpls ethernet": (
        ethernet(mpls(b"\x98" + FRAME[1:], 16), MPLS), [("mpls", 16, b"", b"")]),
    "mpls word": (ethernet(mpls(FRAME, 16, word=WORD), MPLS), [("mpls", 16, b"", b"")]),
    "mpls word of a numbered wire": (
        ethernet(mpls(FRAME, 16, word=b"\0\0\0\x09"), MPLS), [("mpls", 16, b"", b"")]),
    "mpls wire to an address like IP": (
        ethernet(mpls(b"\x45\0\xff\xff\xff\xff" + FRAME[6:], 16), MPLS),
        [("mpls", 16, b"", b"")]),
    "pppoe": (ethernet(pppoe(ppp(PACKET)), PPPOE), [("pppoe", 7, b"", b"")]),
    "pppoe ip6": (ethernet(pppoe(ppp(PACKET6)), PPPOE), [("pppoe", 7, b"", b"")]),
    "pppoe padded": (ethernet(pppoe(ppp(PACKET)) + bytes(9), PPPOE), [("pppoe", 7, b"", b"")]),
    "pppoe short": (ethernet(pppoe(ppp(PACKET, short=True)), PPPOE), [("pppoe", 7, b"", b"")]),
    "pppoe mpls": (
        ethernet(pppoe(b"\x02\x81" + mpls(PACKET, 5)), PPPOE),
        [("pppoe", 7, b"", b""), ("mpls", 5, b"", b"")]),
    "pbb": (ethernet(pbb(FRAME), PBB), [("pbb", 7, b"", b"")]),
    "metadata": (ethernet(metadata(PACKET), CMD), []),
    "metadata of two words": (ethernet(metadata(PACKET6, words=2), CMD), []),
    "gre": (ip(in_ip(gre(PACKET), GRE)), [("gre", None, A, B)]),
    "gre ip6": (ip(in_ip(gre(PACKET6, IP6), GRE)), [("gre", None, A, B)]),
    "gre over ip6": (ip(in_ip(gre(PACKET), GRE, OUTER6)), [("gre", None, A6, B6)]),
    "gre with all": (
        ip(in_ip(gre(PACKET, checksum=True, key=5, sequence=6, routes=routed(4, 8)), GRE)),
        [("gre", 5, A, B)]),
    "gre routes": (ip(in_ip(gre(PACKET, routes=routed(*[4] * 15)), GRE)), [("gre", None, A, B)]),
    "gre key": (ip(in_ip(gre(PACKET, key=5), GRE)), [("gre", 5, A, B)]),
    "gre checksum": (ip(in_ip(gre(PACKET, checksum=True), GRE)), [("gre", None, A, B)]),
    "gre mpls": (
        ip(in_ip(gre(mpls(PACKET, 5), MPLS), GRE)), [("gre", None, A, B), ("mpls", 5, A, B)]),
    "gre ethernet": (ip(in_ip(gre(FRAME, BRIDGED), GRE)), [("gre", None, A, B)]),
    "gre ethernet with a key": (ip(in_ip(gre(FRAME, BRIDGED, key=5), GRE)), [("gre", 5, A, B)]),
    "gre ppp": (ip(in_ip(gre(ppp(PACKET), 0x880B), GRE)), [("gre", None, A, B)]),
    "nvgre": (
        ip(in_ip(gre(FRAME, BRIDGED, key=0x123456 << 8 | 9), GRE)), [("nvgre", 0x123456, A, B)]),
    "erspan 1": (ip(in_ip(gre(FRAME, 0x88BE), GRE)), [("erspan", None, A, B)]),
    "erspan 2": (ip(in_ip(erspan2(FRAME), GRE)), [("erspan", 7, A, B)]),
    "erspan 3": (ip(in_ip(erspan3(FRAME), GRE)), [("erspan", 7, A, B)]),
    "erspan 3 with platform": (
        ip(in_ip(erspan3(FRAME, platform=True), GRE)), [("erspan", 7, A, B)]),
    "pptp": (ip(in_ip(pptp(ppp(PACKET)), GRE)), [("pptp", 7, A, B)]),
    "pptp with ack": (
        ip(in_ip(pptp(ppp(PACKET, address=True), ack=True), GRE)), [("pptp", 7, A, B)]),
    "eoip": (ip(in_ip(eoip(FRAME), GRE)), [("eoip", 7, A, B)]),
    "etherip": (ip(in_ip(etherip(FRAME), ETHERIP)), [("etherip", None, A, B)]),
    "ipip": (ip(in_ip(PACKET, IPIP)), [("ipip", None, A, B)]),
    "6in4": (ip(in_ip(PACKET6, SIX)), [("6in4", None, A, B)]),
    "4in6": (ip(in_ip(PACKET, IPIP, OUTER6)), [("4in6", None, A6, B6)]),
    "6in6": (ip(in_ip(PACKET6, SIX, OUTER6)), [("6in6", None, A6, B6)]),
    "mpls in ip": (ip(in_ip(mpls(PACKET, 5), MPLS_IP)), [("mpls", 5, A, B)]),
    "vxlan": (ip(in_udp(vxlan(FRAME), 4789)), [("vxlan", 42, A, B)]),
    "vxlan ip6": (ip(in_udp(vxlan(FRAME6), 4789)), [("vxlan", 42, A, B)]),
    "vxlan over ip6": (ip(in_udp(vxlan(FRAME), 4789, ends=OUTER6)), [("vxlan", 42, A6, B6)]),
    "vxlan of old": (ip(in_udp(vxlan(FRAME), 8472)), [("vxlan", 42, A, B)]),
    "vxlan with policy": (ip(in_udp(vxlan(FRAME, flags=0x88), 4789)), [("vxlan", 42, A, B)]),
    "gpe ethernet": (
        ip(in_udp(vxlan(FRAME, flags=0x0C, following=3), 4790)), [("vxlan", 42, A, B)]),
    "gpe ip4": (ip(in_udp(vxlan(PACKET, flags=0x0C, following=1), 4790)), [("vxlan", 42, A, B)]),
    "gpe ip6": (ip(in_udp(vxlan(PACKET6, flags=0x0C, following=2), 4790)), [("vxlan", 42, A, B)]),
    "gpe mpls": (
        ip(in_udp(vxlan(mpls(PACKET, 5), flags=0x0C, following=5), 4790)),
        [("vxlan", 42, A, B), ("mpls", 5, A, B)]),
    "geneve": (ip(in_udp(geneve(FRAME), 6081)), [("geneve", 42, A, B)]),
    "geneve options": (ip(in_udp(geneve(FRAME, options=bytes(252)), 6081)),
                       [("geneve", 42, A, B)]),
    "geneve ip": (ip(in_udp(geneve(PACKET, kind=IP4), 6081)), [("geneve", 42, A, B)]),
    "gtpu": (ip(in_udp(gtpu(PACKET), 2152)), [("gtpu", 42, A, B)]),
    "gtpu ip6": (ip(in_udp(gtpu(PACKET6), 2152, 2152)), [("gtpu", 42, A, B)]),
    "gtpu sequence": (ip(in_udp(gtpu(PACKET, sequence=True), 2152)), [("gtpu", 42, A, B)]),
    "gtpu extensions": (
        ip(in_udp(gtpu(PACKET, extensions=(b"\x85\x10\x09", b"\x40" + bytes(6))), 2152)),
        [("gtpu", 42, A, B)]),
    "teredo": (ip(in_udp(teredo(PACKET6), 3544)), [("teredo", None, A, B)]),
    "teredo answer": (ip(in_udp(teredo(PACKET6), 3797, 3544)), [("teredo", None, A, B)]),
    "teredo origin": (ip(in_udp(teredo(PACKET6, origin=True), 3544)), [("teredo", None, A, B)]),
    "teredo all": (
        ip(in_udp(teredo(PACKET6, authenticated=b"abcde", origin=True), 3544)),
        [("teredo", None, A, B)]),
    "l2tp": (ip(in_udp(l2tp(ppp(PACKET, address=True)), 1701)), [("l2tp", 0x10002, A, B)]),
    "l2tp plain ppp": (ip(in_udp(l2tp(ppp(PACKET)), 1701)), [("l2tp", 0x10002, A, B)]),
    "l2tp answer": (ip(in_udp(l2tp(ppp(PACKET6)), 40001, 1701)), [("l2tp", 0x10002, A, B)]),
    "l2tp all": (
        ip(in_udp(l2tp(ppp(PACKET), length=True, sequence=True, pad=3), 1701)),
        [("l2tp", 0x10002, A, B)]),
    "l2tp offset": (ip(in_udp(l2tp(ppp(PACKET), pad=0), 1701)), [("l2tp", 0x10002, A, B)]),
    "qinq, then mpls, gre, vxlan": (
        ethernet(mpls(in_ip(gre(in_udp(vxlan(FRAME), 4789)), GRE), 3), MPLS, vlan=[5, 6]),
        [("mpls", 3, b"", b""), ("gre", None, A, B), ("vxlan", 42, A, B)]),
    "four": (
        ip(in_ip(in_ip(in_ip(in_ip(PACKET, IPIP), IPIP), IPIP), IPIP)),
        [("ipip", None, A, B)] * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_encapsulated_segment_is_decoded_and_what_carries_it_told(name):
    frame, told = CASES[name]
    found = decode(frame)
    fields = ("status", "src", "sport", "dport", "seq", "payload_len", "payload_cap")
    source = address("fd00::1" if found["ip_version"] == 6 else "10.0.0.1")
    assert [found[f] for f in fields] == ["tcp", source, 40000, 80, 1000, 5, 5]
    assert frame[found["payload_off"] :].startswith(b"hello")
    assert found["tunnels"] == told


@pytest.mark.parametrize("name", CASES)
def test_encapsulated_segment_cut_anywhere_is_truncated_never_something_else(name):
    frame, _ = CASES[name]
    whole = decode(frame)
    for length in range(len(frame)):
        found = decode(frame[:length], wire_len=len(frame))
        if length < whole["payload_off"]:
            assert found["status"] == "truncated_header", length
            continue
        assert (found["key"], found["tunnels"]) == (whole["key"], whole["tunnels"]), length
        assert found["payload_len"] == 5
        assert found["payload_cap"] == max(0, min(5, length - whole["payload_off"]))


@pytest.mark.parametrize("name", CASES)
def test_encapsulated_segment_cut_by_segments_asks_for_the_rest_or_is_the_same(name):
    frame, _ = CASES[name]
    check_in_segments(frame, decode(frame)["payload_off"])


@pytest.mark.parametrize("name", CASES)
def test_any_byte_of_the_headers_set_to_anything_is_read_inside_only(name):
    frame, _ = CASES[name]
    end = decode(frame)["payload_off"]
    decode_with_odd_bytes(frame, range(12, end), end)


# ---- switched off -----------------------------------------------------------

#: Decoder -> a case that needs it, and what the frame is without it.
NEEDS = {
    "mpls": ("mpls", "not_ip"),
    "pppoe": ("pppoe", "not_ip"),
    "ppp": ("pppoe", "not_ip"),
    "pbb": ("pbb", "not_ip"),
    "cmd": ("metadata", "not_ip"),
    "gre": ("gre", "other_ip"),
    "nvgre": ("nvgre", "other_ip"),
    "erspan": ("erspan 2", "other_ip"),
    "pptp": ("pptp", "other_ip"),
    "eoip": ("eoip", "other_ip"),
    "etherip": ("etherip", "other_ip"),
    "ipip": ("ipip", "other_ip"),
    "6in4": ("6in4", "other_ip"),
    "4in6": ("4in6", "other_ip"),
    "6in6": ("6in6", "other_ip"),
    "l2tp": ("l2tp", "udp"),
    "teredo": ("teredo", "udp"),
    "vxlan": ("vxlan", "udp"),
    "geneve": ("geneve", "udp"),
    "gtpu": ("gtpu", "udp"),
}


@pytest.mark.parametrize("decoder", NEEDS)
def test_decoder_switched_off_leaves_the_packet_that_carries(decoder):
    name, status = NEEDS[decoder]
    found = decode(CASES[name][0], without=[decoder])
    assert found["status"] == status
    if status != "not_ip":
        assert (found["src"] in (A, A6), found["tunnels"]) == (True, [])


@pytest.mark.parametrize(
    "name", ["mpls", "pbb", "gre", "nvgre", "erspan 1", "etherip", "6in6", "vxlan"]
)
def test_decoder_alone_is_enough(name):
    decoder = CASES[name][1][0][0]
    assert decode(CASES[name][0], without=set(names.DECODERS) - {decoder})["status"] == "tcp"


def test_vlan_snap_and_ah_switched_off():
    assert decode(ethernet(PACKET, vlan=[5]), without=["vlan"])["status"] == "not_ip"
    secured = ethernet(ipv4(b"\x06\x02" + bytes(14) + SEGMENT, protocol=AH))
    assert decode(secured)["status"] == "tcp"
    assert decode(secured, without=["ah"])["protocol"] == AH
    chained = ethernet(ipv6(b"\x06\x02" + bytes(14) + SEGMENT, protocol=AH), IP6)
    assert decode(chained)["status"] == "tcp"
    assert decode(chained, without=["ah"])["protocol"] == AH
    assert set(names.DECODERS) == {*NEEDS, "vlan", "snap", "ah", "wifi"}


# ---- authentication header --------------------------------------------------


def authenticated(inner, protocol, words=6):
    return bytes([protocol, words - 2]) + bytes(4 * words - 2) + inner


def test_ah_is_stepped_over_and_is_no_tunnel():
    twice = authenticated(authenticated(SEGMENT, TCP), AH)
    found = decode(ethernet(ipv4(twice, protocol=AH)))
    assert (found["status"], found["payload_len"], found["tunnels"]) == ("tcp", 5, [])
    over = decode(ethernet(ipv4(authenticated(PACKET, IPIP), protocol=AH)))
    assert (over["status"], over["tunnels"][0][0]) == ("tcp", "ipip")


def test_ah_longer_than_its_packet_does_not_fit():
    frame = ethernet(ipv4(b"\x06\xff" + bytes(30), protocol=AH))
    assert decode(frame)["status"] == "bad_encapsulation"


# ---- what stays closed ------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "port"),
    [
        (vxlan(ethernet(bytes(28), ARP)), 4789),  # not IP
        (vxlan(FRAME, flags=0), 4789),  # no network
        (vxlan(FRAME, flags=0x0C, following=4), 4790),  # NSH
        (vxlan(ethernet(ipv4(SEGMENT, total=5000))), 4789),  # inner packet malformed
        (vxlan(FRAME[:20]), 4789),
        (b"", 4789),
        (b"GET / HTTP/1.1\r\n\r\n" * 3, 4789),
        (geneve(FRAME, kind=0x0806), 6081),
        (geneve(FRAME, kind=5), 6081),
        (b"\x40" + geneve(FRAME)[1:], 6081),  # version 1
        (b"\x3f" + geneve(FRAME)[1:], 6081),  # options beyond the datagram
        (b"\x32\x01\0\x04" + bytes(8), 2152),  # GTP echo
        (b"\x50" + gtpu(PACKET)[1:], 2152),  # version 2
        (gtpu(PACKET)[:3] + b"\xff" + gtpu(PACKET)[4:], 2152),  # length beyond the datagram
        (gtpu(PACKET, extensions=(b"\x85\x10\x09",))[:12] + b"\0" + bytes(30), 2152),
        (teredo(PACKET), 3544),  # IPv4
        (b"\0\1\xff\xff" + bytes(20), 3544),
        (b"\xc8\x02\0\x0c" + bytes(8), 1701),  # L2TP control message
        (b"\0\x03" + bytes(20), 1701),  # version 3
        (l2tp(b"\xff\x03\xc0\x21\x01\x01\0\x04"), 1701),  # LCP
        (l2tp(ppp(PACKET), length=True)[:3] + b"\x05" + bytes(20), 1701),
        (l2tp(ppp(PACKET), pad=60000 % 256)[:8] + b"\xff\xff" + bytes(20), 1701),
    ],
)
def test_udp_on_a_tunnel_port_without_a_packet_inside_stays_a_datagram(payload, port):
    found = decode(ip(in_udp(payload, port)))
    assert (found["status"], found["src"], found["dport"]) == ("udp", A, port)
    assert (found["payload_len"], found["tunnels"]) == (len(payload), [])


@pytest.mark.parametrize(
    "carried",
    [
        gre(b"", 0),  # keep-alive
        gre(bytes(28), ARP),
        gre(ethernet(bytes(28), ARP), BRIDGED),
        gre(bytes(40), 0x883E),
        b"\0\x05" + gre(PACKET)[2:],  # version 5
        b"\0\x01\x88\x0b" + bytes(8),  # version 1 without key
        pptp(ppp(PACKET))[:2] + b"\x99\x99" + bytes(30),
        b"\x20\x81\x88\x0b\0\0\0\x07" + bytes(4),  # PPTP: acknowledges only
        gre(b"\x20" + bytes(60), 0x88BE, sequence=1),  # ERSPAN of another version
    ],
)
def test_gre_without_a_packet_inside_stays_the_packet_it_is(carried):
    found = decode(ip(in_ip(carried, GRE)))
    assert (found["status"], found["protocol"], found["src"]) == ("other_ip", GRE, A)
    assert (found["payload_len"], found["tunnels"]) == (len(carried), [])


@pytest.mark.parametrize(
    ("protocol", "inner"), [(IPIP, PACKET6), (SIX, PACKET), (ETHERIP, b"\x40\0" + FRAME)]
)
def test_ip_protocol_that_lies_about_its_inside_stays_closed(protocol, inner):
    found = decode(ip(in_ip(inner, protocol)))
    assert (found["status"], found["protocol"]) == ("other_ip", protocol)


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(mpls(b"\x10" + bytes(40), 5), MPLS),  # channel of a pseudo-wire
        ethernet(mpls(ethernet(bytes(40), 0x9999), 5), MPLS),
        ethernet(mpls(bytes(10), 5), MPLS),
        ethernet(pppoe(b"\xc0\x21\x01\x01\0\x04"), PPPOE),
        ethernet(pppoe(b""), PPPOE),
        ethernet(bytes(60), 0x8863),
        ethernet(pbb(ethernet(bytes(40), ARP)), PBB),
    ],
)
def test_link_layer_encapsulation_without_a_packet_inside_is_not_ip(frame):
    assert decode(frame)["status"] == "not_ip"


# ---- what does not fit ------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (ethernet(mpls(PACKET, *range(1, 18)), MPLS), "bad_encapsulation"),  # 17 labels
        (ethernet(mpls(b"", 16), MPLS), "bad_encapsulation"),
        (ethernet(b"\0\1\0", MPLS), "bad_encapsulation"),
        (ethernet(pppoe(ppp(PACKET), length=1000), PPPOE), "bad_encapsulation"),
        (ethernet(b"\x21" + pppoe(ppp(PACKET))[1:], PPPOE), "bad_encapsulation"),
        (ethernet(pppoe(ppp(PACKET), length=20), PPPOE), "bad_ip4_header"),
        (ethernet(pppoe(ppp(PACKET), length=40), PPPOE), "bad_ip4_length"),
        (ethernet(b"\x01\xff\0\0", CMD), "bad_encapsulation"),
        (ethernet(bytes(3), PBB), "bad_encapsulation"),
        (ethernet(pbb(FRAME[:10]), PBB), "bad_encapsulation"),
        (ip(in_ip(b"\0\0\x08", GRE)), "bad_encapsulation"),
        (ip(in_ip(gre(b"", key=1, sequence=2)[:8], GRE)), "bad_encapsulation"),
        (ip(in_ip(gre(PACKET, routes=b"\x08\0\0\xff" * 3), GRE)), "bad_encapsulation"),
        (ip(in_ip(gre(PACKET, routes=routed(*[0] * 16)), GRE)), "bad_encapsulation"),
        (ip(in_ip(pptp(ppp(PACKET))[:4] + b"\xff\xff" + pptp(ppp(PACKET))[6:], GRE)),
         "bad_encapsulation"),
        (ip(in_ip(eoip(FRAME)[:4] + b"\xff\xff" + eoip(FRAME)[6:], GRE)), "bad_encapsulation"),
        (ip(in_ip(eoip(FRAME)[:4] + b"\0\x30" + eoip(FRAME)[6:], GRE)), "bad_ip4_length"),
        (ip(in_ip(b"", IPIP)), "bad_encapsulation"),
        (ip(in_ip(b"\x45" + bytes(10), IPIP)), "bad_ip4_header"),
        (ip(in_ip(ipv4(SEGMENT, total=4000), IPIP)), "bad_ip4_length"),
        (ip(in_ip(b"\x30", ETHERIP)), "bad_encapsulation"),
        (ip(in_ip(etherip(FRAME[:13]), ETHERIP)), "bad_encapsulation"),
    ],
)  # fmt: skip
def test_header_that_does_not_fit_is_malformed(frame, status):
    assert decode(frame)["status"] == status


def test_inner_packet_ends_where_the_outer_one_says():
    outer = bytearray(in_ip(PACKET, IPIP))
    outer[2:4] = (len(outer) - 1).to_bytes(2, "big")
    assert decode(ethernet(bytes(outer)))["status"] == "bad_ip4_length"
    padded = decode(ip(in_udp(vxlan(FRAME + b"\xee" * 6), 4789)) + b"\xdd" * 4)
    assert (padded["payload_len"], padded["payload_cap"]) == (5, 5)


# ---- depth ------------------------------------------------------------------


def nested(times):
    packet = PACKET
    for _ in range(times):
        packet = in_ip(packet, IPIP)
    return ip(packet)


@pytest.mark.parametrize(("times", "status"), [(4, "tcp"), (5, "too_deep"), (60, "too_deep")])
def test_five_tunnels_are_too_deep(times, status):
    assert decode(nested(times))["status"] == status


def test_nesting_without_end_is_bounded():
    frame = b"\0" * 12 + b"\x65\x58"
    assert decode(frame * 4000)["status"] == "too_deep"
    chain = PACKET
    for _ in range(40):
        chain = ipv4(b"\x33\x01" + bytes(10) + chain, protocol=AH)
    assert decode(ip(chain))["status"] != "tcp"
    many = authenticated(SEGMENT, TCP, 3)
    for _ in range(40):
        many = authenticated(many, AH, 3)
    assert decode(ip(ipv4(many, protocol=AH)))["status"] == "too_deep"


# ---- fragments, tags, addresses ---------------------------------------------


def test_inner_fragment_is_a_fragment_of_the_inner_packet():
    found = decode(ip(in_udp(vxlan(ethernet(ipv4(SEGMENT, fragment=0x2000))), 4789)))
    assert (found["status"], found["src"]) == ("fragments", address("10.0.0.1"))
    assert found["tunnels"] == [("vxlan", 42, A, B)]


def test_fragment_of_a_tunnel_is_one_of_the_outer_packet():
    outer = ipv4(vxlan(FRAME), *OUTER, UDP, fragment=0x2000)
    found = decode(ethernet(outer))
    assert (found["status"], found["src"], found["tunnels"]) == ("fragments", A, [])


def test_tags_inside_and_outside_a_tunnel_are_kept_in_order():
    found = decode(ethernet(in_udp(vxlan(ethernet(PACKET, vlan=[8])), 4789), vlan=[5, 6]))
    assert found["vlan"] == [5, 6, 8]


# ---- which network ----------------------------------------------------------

ALONE = decode(FRAME)["key"]
BOTH = ["vlan", "tunnel"]


@pytest.mark.parametrize("name", CASES)
def test_tunnel_out_of_the_key_or_in_it(name):
    frame, told = CASES[name]
    if decode(frame)["ip_version"] == 6:
        return
    assert decode(frame)["key"] == ALONE
    assert (decode(frame, scope=["tunnel"])["key"] != ALONE) == bool(told)


def back(carrier, *args, **fields):
    """The same tunnel in the other direction."""
    return ip(carrier(*args, **fields, ends=(OUTER[1], OUTER[0])))


@pytest.mark.parametrize(
    ("there", "again"),
    [
        (ip(in_udp(gtpu(PACKET, 1), 2152)), back(in_udp, gtpu(PACKET, 2), 2152)),
        (ip(in_udp(l2tp(ppp(PACKET), 1, 2), 1701)), back(in_udp, l2tp(ppp(PACKET), 3, 4), 1701)),
        (ip(in_ip(pptp(ppp(PACKET), 1), GRE)), back(in_ip, pptp(ppp(PACKET), 2), GRE)),
        (ip(in_ip(PACKET, IPIP)), back(in_ip, PACKET, IPIP)),
        (ip(in_udp(vxlan(FRAME), 4789)), back(in_udp, vxlan(FRAME), 4789)),
        (ethernet(mpls(PACKET, 1), MPLS), ethernet(mpls(PACKET, 2), MPLS)),
        (ethernet(PACKET, vlan=[5]), ethernet(PACKET, vlan=[0xA005, 0])),
        (FRAME, ethernet(PACKET, vlan=[0xE000])),  # a priority, no VLAN
    ],
)
def test_both_directions_of_a_tunnel_are_one_network(there, again):
    assert decode(there, scope=BOTH)["key"] == decode(again, scope=BOTH)["key"]


def test_other_networks_have_other_keys():
    frames = [
        FRAME,
        *(ethernet(PACKET, vlan=tags) for tags in ([5], [6], [5, 6], [6, 5], [5, 5])),
        *(ip(in_udp(vxlan(ethernet(PACKET, vlan=tags), n), 4789)) for tags in ([], [5])
          for n in (1, 2)),
        ip(in_udp(geneve(FRAME, 1), 6081)),
        ip(in_ip(PACKET, IPIP)),
        ip(in_ip(PACKET, IPIP, (OUTER[0], "192.0.2.3"))),
        ip(in_ip(PACKET, IPIP, OUTER6)),
        ip(in_ip(gre(PACKET, key=1), GRE)),
        ip(in_ip(gre(PACKET, key=2), GRE)),
        ethernet(mpls(PACKET, 1), MPLS),
    ]  # fmt: skip
    assert len({decode(frame, scope=BOTH)["key"] for frame in frames}) == len(frames)
    assert len({decode(frame)["key"] for frame in frames}) == 1
