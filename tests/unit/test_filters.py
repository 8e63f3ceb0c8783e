"""Frame filters give tcpdump's own verdict, for every link type, however a frame is cut."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess

import pytest

from aiomos._engine.errors import FilterError
from aiomos._engine.filters import Filter, FrameFilter, combine

ETHERNET, RAW, SLL, SLL2, NULL, LOOP, PPP, RADIOTAP = 1, 101, 113, 276, 0, 108, 9, 127
BIG_NULL = -1  # DLT_NULL, written by a machine with the big end first
INBOUND, OUTBOUND = 1, 2

CLIENT4, SERVER4 = bytes([10, 0, 0, 1]), bytes([192, 0, 2, 80])
CLIENT6 = bytes.fromhex("20010db8000000000000000000000001")
SERVER6 = bytes.fromhex("20010db8000000000000000000000080")
CLIENT_MAC, SERVER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000080")


def tcp(sport: int, dport: int, flags: int = 0x10, data: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 2, 0x50, flags, 512, 0, 0) + data


def udp(sport: int, dport: int, data: bytes = b"") -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def ip4(
    protocol: int, body: bytes, fragment: int = 0, options: bytes = b"", ttl: int = 64
) -> bytes:
    ihl = 5 + len(options) // 4
    size = 4 * ihl + len(body)
    head = struct.pack("!BBHHHBBH", 0x40 | ihl, 0, size, 7, fragment, ttl, protocol, 0)
    return head + CLIENT4 + SERVER4 + options + body


def ip6(protocol: int, body: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + CLIENT6 + SERVER6 + body


NETWORK_PACKETS = [
    ip4(6, tcp(40000, 80, 0x02)),
    ip4(6, tcp(80, 40000, 0x12)),
    ip4(6, tcp(40000, 443, 0x18, b"GET / HTTP/1.1\r\n" + bytes(1200))),
    ip4(6, tcp(40000, 80, 0x18, b"x" * 3000)),
    ip4(6, tcp(40000, 80), options=bytes([1] * 12)),
    ip4(6, tcp(40000, 80), fragment=0x2000),
    ip4(6, b"z" * 40, fragment=0x0010),
    ip4(6, tcp(40000, 22, 0x04), ttl=3),
    ip4(17, udp(5353, 53, b"query")),
    ip4(17, udp(53, 5353, b"answer" * 30)),
    ip4(1, b"\x08\x00\x00\x00\x00\x01\x00\x01ping"),
    ip4(132, struct.pack("!HHII", 80, 9, 0, 0)),
    ip4(47, b"\x00\x00\x08\x00"),
    ip6(6, tcp(40000, 80, 0x02)),
    ip6(6, tcp(22, 40000, 0x18, b"ssh" * 200)),
    ip6(17, udp(40000, 53, b"query")),
    ip6(44, b"\x06\x00\x00\x01\x00\x00\x00\x01" + tcp(40000, 80)),
    ip6(0, b"\x06\x00\x01\x04\x00\x00\x00\x00" + tcp(40000, 80)),
    ip6(58, b"\x80\x00\x00\x00\x00\x01\x00\x01ping"),
]
ARP = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + CLIENT_MAC + CLIENT4 + bytes(6) + SERVER4


def ether_type(packet: bytes) -> int:
    return 0x0800 if packet[0] >> 4 == 4 else 0x86DD


def ethernet(packet: bytes, *tags: tuple[int, int], kind: int | None = None) -> bytes:
    stack = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    kind = ether_type(packet) if kind is None else kind
    return SERVER_MAC + CLIENT_MAC + stack + struct.pack("!H", kind) + packet


def loopback(order: str, packet: bytes, family6: int) -> bytes:
    return struct.pack(order + "I", 2 if packet[0] >> 4 == 4 else family6) + packet


def radiotap(packet: bytes) -> bytes:
    frame = bytes([0x08, 0x01, 0, 0]) + SERVER_MAC + CLIENT_MAC + SERVER_MAC + bytes(2)
    snap = b"\xaa\xaa\x03\x00\x00\x00" + struct.pack("!H", ether_type(packet))
    return struct.pack("<BBHI", 0, 0, 8, 0) + frame + snap + packet


def ethernet_extras() -> list[bytes]:
    web, name = NETWORK_PACKETS[0], NETWORK_PACKETS[8]
    broadcast = b"\xff" * 6 + CLIENT_MAC + struct.pack("!H", 0x0806) + ARP
    return [
        ethernet(web, (0x8100, 10)),
        ethernet(web, (0x8100, 0xE014)),
        ethernet(NETWORK_PACKETS[13], (0x88A8, 100), (0x8100, 10)),
        ethernet(name, (0x8100, 100), (0x8100, 20)),
        ethernet(b"\x11\x00\x00\x01" + struct.pack("!HH", len(web) + 2, 0x21) + web, kind=0x8864),
        ethernet(b"\x00\x01\x01\x40" + web, kind=0x8847),
        broadcast,
        ethernet(web)[:40],
        ethernet(web)[:13],
        b"",
    ]


def frames_of(link: int) -> list[bytes]:
    def each(make: object) -> list[bytes]:
        return [make(packet) for packet in NETWORK_PACKETS]  # type: ignore[operator]

    if link == ETHERNET:
        return each(ethernet) + ethernet_extras()
    if link == RAW:
        return each(bytes)
    if link == SLL:
        head = struct.pack("!HHH", 4, 1, 6) + CLIENT_MAC + bytes(2)
        return each(lambda p: head + struct.pack("!H", ether_type(p)) + p)
    if link == SLL2:
        tail = struct.pack("!HIHBB", 0, 3, 1, 0, 6) + CLIENT_MAC + bytes(2)
        return each(lambda p: struct.pack("!H", ether_type(p)) + tail + p)
    if link == PPP:
        kinds = {0x0800: 0x0021, 0x86DD: 0x0057}
        return each(lambda p: struct.pack("!BBH", 0xFF, 3, kinds[ether_type(p)]) + p)
    if link == RADIOTAP:
        return each(radiotap)
    order = "<" if link == NULL else ">"
    return [loopback(order, p, f) for p in NETWORK_PACKETS for f in (10, 24, 28, 30)]


def capture(link: int, frames: list[bytes]) -> bytes:
    """A capture file; the index of a frame is its time stamp."""
    order = ">" if link == BIG_NULL else "<"
    head = struct.pack(order + "IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, max(link, 0))
    return head + b"".join(
        struct.pack(order + "IIII", i, 0, len(f), len(f)) + f for i, f in enumerate(frames)
    )


def tcpdump_verdict(link: int, frames: list[bytes], expression: str) -> set[int] | None:
    """Indexes of the frames that tcpdump lets through; None when it refuses to compile."""
    command = ["tcpdump", "-n", "-r", "-", "-w", "-", expression]
    written = capture(link, frames)
    done = subprocess.run(command, check=False, input=written, capture_output=True, timeout=30)
    if done.returncode:
        return None
    passed, at = set(), 24
    order = ">" if done.stdout[:1] == b"\xa1" else "<"
    while at < len(done.stdout):
        index, _, captured, _ = struct.unpack_from(order + "IIII", done.stdout, at)
        passed.add(index)
        at += 16 + captured
    return passed


EXPRESSIONS = [
    "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "sctp", "not ip",
    "port 80", "tcp port 80", "tcp dst port 80", "src port 80", "udp port 53", "portrange 50-90",
    "not port 22", "tcp or udp", "port http or port domain",
    "host 10.0.0.1", "src host 10.0.0.1", "dst net 192.0.2.0/24", "net 10.0.0.0/8",
    "net 2001:db8::/32", "ip6 host 2001:db8::80", "host 10.9.9.9",
    "tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] = tcp-syn|tcp-ack", "tcp[2:2] = 443",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "udp[8:4] = 0x71756572",
    "ip[8] < 10", "ip[6:2] & 0x1fff != 0", "ip[0] & 0xf != 5", "ip6[6] = 44", "ip6 protochain 6",
    "proto 6", "ip proto 47", "ip proto \\tcp", "ip6 proto 58",
    "less 70", "greater 1000", "len > 100 and len < 2000",
    "ether host 02:00:00:00:00:01", "ether dst 02:00:00:00:00:80", "ether broadcast",
    "ether multicast", "ether proto 0x0806", "vlan", "vlan 10", "vlan 10 and port 80",
    "vlan and vlan", "vlan 100 and vlan 20", "not vlan", "port 80 or vlan", "vlan or port 80",
    "pppoes", "pppoes and port 80", "mpls and tcp",
    "wlan host 02:00:00:00:00:01", "wlan type data", "link[0] = 2",
]  # fmt: skip
LINKS = [ETHERNET, RAW, SLL, SLL2, NULL, BIG_NULL, LOOP, PPP, RADIOTAP]


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump gives the expected verdicts")
@pytest.mark.parametrize("link", LINKS)
def test_frames_of_a_link_type_match_as_in_tcpdump(link: int) -> None:
    frames = frames_of(link)
    cut = random.Random(link)
    for expression in EXPRESSIONS:
        expected = tcpdump_verdict(link, frames, expression)
        frame_filter = FrameFilter(expression)
        for i, frame in enumerate(frames):
            whole = frame_filter.matches(frame, max(link, 0))
            cuts = [cut.randint(1, len(frame)) for _ in range(cut.randrange(5) if frame else 0)]
            pieces = frame_filter.matches(frame, max(link, 0), cuts=cuts)
            assert whole == (i in (expected or ())), (expression, i)
            assert pieces == whole, (expression, i, cuts)
        assert (expected is None) == bool(frame_filter.uncompilable), expression


@pytest.mark.parametrize("expression", [None, "", "  \n"])
def test_empty_expression_any_frame_matches(expression: str | None) -> None:
    frame_filter = FrameFilter(expression)
    assert frame_filter.expression is None
    assert frame_filter.matches(b"", 4711)
    assert frame_filter.matches(ethernet(NETWORK_PACKETS[0]), cuts=[3])


def test_expression_of_no_meaning_on_a_link_type_matches_nothing_and_is_recorded_once() -> None:
    frame_filter = FrameFilter("ether host 02:00:00:00:00:01")
    assert frame_filter.uncompilable == {}
    for _ in range(3):
        assert not frame_filter.matches(NETWORK_PACKETS[0], RAW)
    assert list(frame_filter.uncompilable) == [RAW]
    assert "ethernet" in frame_filter.uncompilable[RAW].lower()
    assert frame_filter.matches(ethernet(NETWORK_PACKETS[0]))


def test_expression_for_one_link_type_only_is_accepted() -> None:
    frame_filter = FrameFilter("wlan type data")
    assert frame_filter.matches(radiotap(NETWORK_PACKETS[0]), RADIOTAP)
    assert not frame_filter.matches(ethernet(NETWORK_PACKETS[0]))
    assert ETHERNET in frame_filter.uncompilable


@pytest.mark.parametrize("link", [RAW, 12, 14])
def test_raw_ip_under_any_of_its_numbers_matches(link: int) -> None:
    assert Filter("tcp port 80", link).matches(NETWORK_PACKETS[0])
    assert FrameFilter("tcp port 80").matches(NETWORK_PACKETS[13], link)


def test_more_link_types_than_slots_still_match() -> None:
    expression, frame = "link[0] = 0x45 or tcp port 80", NETWORK_PACKETS[0]
    links = [RAW, 1, 9, 105, 113, 127, 276, 117, 143, 147, 148, 149]
    alone = [FrameFilter(expression).matches(frame, link) for link in links]
    assert len(set(alone)) == 2
    frame_filter = FrameFilter(expression)
    for _ in range(3):
        assert [frame_filter.matches(frame, link) for link in links] == alone


def test_cut_frame_judged_by_its_length_on_the_wire() -> None:
    frame = ethernet(NETWORK_PACKETS[0])
    assert FrameFilter("greater 1000").matches(frame, wire_len=1500)
    assert not FrameFilter("greater 1000").matches(frame)
    assert not FrameFilter("tcp port 80").matches(frame[:30], wire_len=54)


def test_large_frame_in_many_pieces_matches_in_its_last_byte() -> None:
    frame = ethernet(ip4(6, tcp(1, 2, data=bytes(65000) + b"\x2a"))) + bytes(20000)
    place = frame.rindex(b"\x2a")
    frame_filter = FrameFilter(f"ether[{place}] = 42")
    assert frame_filter.matches(frame, cuts=range(0, len(frame), 997))
    assert not frame_filter.matches(frame.replace(b"\x2a", b"\x2b"), cuts=[256])


def test_reach_is_the_last_byte_a_program_can_load() -> None:
    assert Filter("ip").reach == 14
    assert Filter("ip[8] = 1").reach == 23
    assert Filter("tcp port 80").reach == 60 + 16 + 2
    assert Filter("tcp[tcp[12] >> 2] = 1").reach is None
    assert Filter("less 100").reach == 0


@pytest.mark.parametrize("tags", [[10], [100, 10]])
def test_stripped_tags_match_as_if_they_were_in_the_frame(tags: list[int]) -> None:
    bare = ethernet(NETWORK_PACKETS[0])
    tpids = [0x88A8, 0x8100][-len(tags) :]
    full = ethernet(NETWORK_PACKETS[0], *zip(tpids, tags, strict=True))
    for expression in [*EXPRESSIONS, "ether[12:2] = 0x8100", "vlan 100 and vlan 10 and port 80"]:
        frame_filter = FrameFilter(expression)
        expected = frame_filter.matches(full)
        for cuts in ([], [5], [12, 40]):
            assert frame_filter.matches(bare, vlan=tags, cuts=cuts) == expected, (expression, cuts)


@pytest.mark.parametrize(("expression", "expected"), [
    ("inbound", [False, True, False]), ("outbound", [False, False, True]),
    ("not inbound", [False, False, True]), ("inbound and port 22", [False, False, False]),
    ("outbound or tcp port 80", [False, True, True]), ("port 80", [True, True, True]),
])  # fmt: skip
def test_direction_in_an_expression_is_the_frame_s(expression: str, expected: list[bool]) -> None:
    frame_filter = FrameFilter(expression)
    frame = ethernet(NETWORK_PACKETS[0])
    assert [frame_filter.matches(frame, direction=d) for d in (0, INBOUND, OUTBOUND)] == expected


def test_direction_of_a_cooked_frame_is_in_its_header() -> None:
    sent = frames_of(SLL)[0]
    assert FrameFilter("outbound").matches(sent, SLL)
    assert not FrameFilter("inbound").matches(sent, SLL)


def test_combine_two_filters_both_count() -> None:
    assert combine(None, None) is None
    assert combine("port 80", "") == "port 80"
    assert combine(" ", "udp") == "udp"
    both = combine("port 80 or port 22", "ip6 or udp")
    assert both == "(port 80 or port 22) and (ip6 or udp)"
    assert [FrameFilter(both).matches(p, RAW) for p in NETWORK_PACKETS].count(True) == 2


def test_filter_of_a_wrong_type_raises() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        FrameFilter(b"port 80")  # type: ignore[arg-type]


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def compile_and_drop(rounds: int) -> None:
    for _ in range(rounds):
        frame_filter = FrameFilter("inbound and (tcp port 80 or vlan 3)")
        frame_filter.matches(b"\2\0\0\0" + NETWORK_PACKETS[0], NULL, cuts=[9])
        with pytest.raises(FilterError):
            Filter("tcp port 80 and (udp prot 53)")


def test_compiling_again_and_again_keeps_memory_bounded() -> None:
    compile_and_drop(300)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    compile_and_drop(1500)
    assert resident() - before < 2 << 20
    assert len(os.listdir("/proc/self/fd")) == files
