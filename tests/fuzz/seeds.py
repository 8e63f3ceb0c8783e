"""The scripts that fuzzing begins with: conversations of every kind, tunnels, captures.

`python seeds.py FOLDER` writes them all. Reproducers of findings lie in `found/`, as they are.
"""

from __future__ import annotations

import gzip
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from script import BACK, DOWN, LATER, SAME, SCATTERED, TWICE, UP, Head, Link, Script

HERE = Path(__file__).parent
CAPTURES = HERE.parent / "captures"
FOUND = HERE / "found"
PICKUP, AGAIN = Head.PICKUP, Head.PICKUP | Head.TWICE
WRAPS = (1, 2, 3, 4, 5)
MOST_OF_A_CAPTURE = 24_000


def timestamp(value: int, echo: int = 0) -> bytes:
    return struct.pack(">BBBBII", 1, 1, 8, 10, value, echo)


SYN_OPTIONS = bytes.fromhex("020405b4 0402 0303 07 080a00000001 00000000 01".replace(" ", ""))


# ---- TCP, in order and not -----------------------------------------------------------------


def conversations() -> Iterator[tuple[str, Script]]:
    yield "plain", Script(AGAIN).open().segment(0, 100).segment(1, 500).close_both()
    for n in WRAPS:
        yield f"wrap_{n}", wrap(n)
    yield "several", several()
    yield "options", Script().options(SYN_OPTIONS).open().segment(0, 10).close_both()
    yield "bad_options", bad_options()
    yield "stamps", stamps()
    yield "resets", resets()
    yield "windows", windows()
    yield "urgent", Script().open().segment(0, 9, flags="UA").segment(0, 5).close_both()
    yield "kept_alive", kept_alive()
    yield "flags", every_flag()
    yield "read_late", late_reader()
    yield "snapped", Script().link(Link.ETHERNET, snap=60).open().segment(0, 90).close_both()
    yield "bad_sums", Script().open().segment(0, 9, bad_sum=True).segment(0, 9)


def wrap(n: int) -> Script:
    """Numbers that go through 2**32, or 2**31, in the middle of everything."""
    s = Script(AGAIN, burst=7).open(numbers=(n, 8 - n))
    s.segment(0, 5).segment(0, 30, at=20).segment(0, 40, at=-60).segment(1, 3000)
    s.segment(1, 100, at=100).segment(1, 300, at=-150).segment(0, at=-1, flags="A")
    return s.close_both()


def several() -> Script:
    s = Script(AGAIN)
    for pair in range(8):
        s.open(pair, side=pair & 1).segment(pair & 1, 300, pair=pair)
    for pair in range(8):
        s.segment(1, 50, pair=pair, at=7).segment(1, 7, pair=pair, at=-57).close_both(pair)
    return s


def bad_options() -> Script:
    s = Script()
    for option in ("0200", "0201", "080a0000", "03", "020405", "00ffffff", "0303ff01", "1e0c00"):
        s.options(bytes.fromhex(option)).open(keep=True).segment(0, 1)
    return s


def stamps() -> Script:
    s = Script(AGAIN).options(SYN_OPTIONS).open()
    for value in (10, 11, 5, 0x80000000, 12):
        s.options(timestamp(value, 1)).segment(0, 20).segment(1, 20)
    return s.close_both()


def resets() -> Script:
    s = Script(AGAIN)
    for at in (0, 1, -1, 100):
        s.open(at & 3).segment(0, 50, pair=at & 3).segment(0, pair=at & 3, flags="R", at=at)
        s.segment(1, pair=at & 3, flags="RA", at=at)
    return s


def windows() -> Script:
    s = Script(AGAIN).open()
    for window in range(1, 16):
        s.segment(1, 0, window=window).segment(0, 700)
    return s.segment(1, 0, window=1).segment(0, 1).segment(1, 0).segment(0, 2000, at=120, unit=536)


def kept_alive() -> Script:
    s = Script(AGAIN).open().segment(0, 10).segment(1, 0)
    for _ in range(3):
        s.wait(60_000).segment(0, 0, at=-1).segment(1, 0).segment(0, 1, at=-1).segment(1, 0)
    return s.wait(4_000_000).segment(0, 10)


def every_flag() -> Script:
    s = Script(Head.NO_EVENTS | PICKUP).open()
    for flags in [
        "A",
        "AP",
        "S",
        "SA",
        "UA",
        "-",
        "SF",
        "AFP",
        "RF",
        "SR",
        "P",
        "F",
        "FA",
        "R",
        "RA",
    ]:
        for pair in (0, 1, 2):
            s.segment(0, 5, pair=pair, flags=flags).segment(1, 5, pair=pair, flags=flags, at=3)
    return s


def late_reader() -> Script:
    s = Script(PICKUP | Head.READ_LATE).open()
    for _ in range(80):
        s.segment(0, 1400).segment(0, 10, at=5)
    return s.close_both()


# ---- beginnings and ends ----------------------------------------------------------------------


def beginnings() -> Iterator[tuple[str, Script]]:
    for skip in ("S", "SA", "A", "S SA", "SA A", "S SA A"):
        name = "without_" + skip.lower().replace(" ", "_")
        yield name, Script(AGAIN).open(without=skip).segment(0, 90).segment(1, 90).close_both()
        yield f"{name}_0", Script(Head.TWICE).open(without=skip).segment(1, 90).close_both()
    yield "syn_data", syn_data()
    yield "simultaneous", simultaneous()
    yield "two_numbers", two_numbers()
    yield "challenged", challenged()
    yield "reused", reused()
    yield "one_sided", one_sided()
    yield (
        "half_closed",
        Script(AGAIN).open().segment(0, flags="FA").segment(1, 900).close_both(0, 1),
    )
    yield "late", late()
    yield "few_flows", few_flows()
    yield "closed_from_outside", closed_from_outside()
    yield "expired", expired()
    yield "unread", Script(unread=3).open().segment(0, 500).segment(1, 500, at=5).close_both()
    yield "no_handlers", Script(PICKUP | Head.NO_HANDLERS).open().segment(0, 9).close_both()


def syn_data() -> Script:
    s = Script(AGAIN, start=0).open(syn_data=200).segment(0, 100).close_both()
    s.open(1, syn_data=100, without="A").segment(0, 50, pair=1, at=-50).segment(0, 20, pair=1)
    s.segment(0, 9, pair=2, flags="S").segment(1, pair=2, flags="SA", ack=-9)
    return s.segment(0, pair=2)


def simultaneous() -> Script:
    s = Script(AGAIN).segment(0, flags="S").segment(1, flags="S")
    s.segment(0, flags="SA", at=-1).segment(1, flags="SA", at=-1).segment(0, 10).segment(1, 10)
    return s.segment(0, flags="FA").segment(1, flags="FA", ack=-1).segment(0).segment(1)


def two_numbers() -> Script:
    s = Script(AGAIN).segment(0, flags="S").segment(0, flags="S", at=100)
    s.segment(1, flags="SA").segment(0).segment(0, 10)
    s.open(1, without="A").segment(1, pair=1, flags="SA", at=50).segment(0, pair=1, ack=-51)
    return s.segment(0, 20, pair=1).segment(1, 20, pair=1)


def challenged() -> Script:
    s = Script(AGAIN).open().segment(0, 100).segment(0, flags="S", at=50)
    s.segment(1).segment(0, 10, at=-51).segment(0, flags="S", at=70, unit=536)
    return s.segment(1, flags="SA").segment(0).segment(0, 77).segment(1, 5).close_both()


def reused() -> Script:
    s = Script(AGAIN).open().segment(0, 10).close_both()
    for n in range(6):
        s.open(numbers=(n, n)).segment(0, 10 + n).segment(1, 10, at=2).close_both(first=n & 1)
    return s.segment(0, flags="R").open(numbers=(6, 6)).segment(0, 4)


def one_sided() -> Script:
    s = Script(AGAIN).segment(0, 100).segment(0, 100, at=50).segment(0, 100, at=5).wait(1200)
    return s.segment(0, 20, later=LATER).segment(0, flags="FA").wait(5000)


def late() -> Script:
    s = Script(AGAIN).open().close_both().segment(0, 9, at=-9).segment(1, flags="R")
    return s.segment(1, 0).segment(0, flags="SF").wait(70_000).segment(0, 20).segment(1, 20)


def few_flows() -> Script:
    s = Script(PICKUP | Head.FEW_FLOWS)
    for n in range(3):
        for pair in range(7):
            s.open(pair, keep=n > 0).segment(0, 10, pair=pair)
        s.close_both(n).wait(30_000)
    return s


def closed_from_outside() -> Script:
    s = Script()
    for reason in range(10):
        pair = reason & 7
        s.open(pair, numbers=(pair, 0)).segment(0, 90, pair=pair, at=3).close(reason)
    return s


def expired() -> Script:
    s = Script(AGAIN).open(without="SA A").wait(25_000).open(1).segment(0, 5, pair=1)
    s.wait(3_700_000).open(2).segment(0, flags="FA", pair=2).wait(700_000).datagram(0, 9)
    return s.wait(61_000).datagram(1, 9).wait(1 << 31).segment(0, 3)


# ---- the out-of-order store ---------------------------------------------------------------------


def holes() -> Iterator[tuple[str, Script]]:
    for name, order in (("up", UP), ("down", DOWN), ("scattered", SCATTERED), ("twice", TWICE)):
        s = Script(AGAIN, burst=16).open(numbers=(2, 3)).run(0, 64, order=order, size=8, apart=3)
        yield f"run_{name}", s.segment(0, 900, at=-88, unit=8).segment(1).close_both()
        s = Script(AGAIN).open().run(0, 96, order=order, size=20, hole=40)
        yield f"touching_{name}", s.segment(1).segment(0, 40, at=-5, unit=536).close_both()
    yield "many", Script().open(numbers=(3, 3)).run(0, 2490, order=SCATTERED, apart=1)
    yield "overlaps", overlaps(Script(AGAIN).open(numbers=(3, 3)))
    yield "other_bytes", overlaps(Script(AGAIN).open().salt(0)).salt(7).segment(0, 90, at=-80)
    for n in range(12):  # every policy, handed out on arrival or when acknowledged
        how = bytes([n % 6 | n // 6 << 3])
        yield f"overlaps_{n}", overlaps(Script(AGAIN, more=how).open(numbers=(3, 3)))
        yield f"other_{n}", overlaps(Script(AGAIN, more=how).open(), salts=True)
        yield f"early_fins_{n}", early_fins(Script(AGAIN, more=how).open())
    yield "acked_unseen", acked_unseen()
    yield "full_store", full_store()
    yield "little_memory", little_memory()
    yield from short_memory()
    yield "behind_fin", behind_fin()
    yield "in_segments", overlaps(Script().link(Link.ETHERNET, cut=60).open()).close_both()


def overlaps(s: Script, salts: bool = False) -> Script:
    """Later copies that begin before, in, at and behind what is there; each its own, if salted."""
    s.segment(0, 20, at=40)
    for length, back in ((10, 25), (30, 30), (5, 20), (50, 55), (20, 90), (1, 1), (100, 100)):
        if salts:
            s.salt(length)
        s.segment(0, length, at=-back).segment(0, length, at=-back + 3)
    return s.segment(0, 40, at=-120).segment(1).close_both()


def early_fins(s: Script) -> Script:
    """FINs above a hole, in front of, in, and at the end of bytes there; bytes over all of them."""
    s.segment(0, 20, at=40)
    for back in (20, 10, 1, 5, 30, 0):
        s.segment(0, 0, flags="FA", at=-back).segment(0, 3, at=-back - 1)
        s.segment(0, 4, flags="FA", at=-back - 4).segment(0, 0, flags="FA", at=-back)
        s.salt(back).segment(0, 40, at=-back - 20)
    return s.segment(0, 60, at=-90).segment(1, ack=-20).segment(1).close_both()


def acked_unseen() -> Script:
    s = Script(AGAIN).open().segment(0, 100).segment(0, 50, at=60).segment(1)
    s.wait(300).segment(0, 10).segment(0, 10, at=30).segment(1, 0, ack=20)
    return s.segment(0, 10, later=LATER).segment(0, 10, later=LATER).close_both()


def full_store() -> Script:
    s = Script().open().run(0, 1500, order=UP, size=250, apart=120, hole=1)
    return s.segment(0, 1, at=0).run(0, 900, order=SCATTERED, size=100, apart=100).segment(1)


def little_memory() -> Script:
    s = Script(PICKUP | Head.LITTLE_MEMORY, memory=2)
    for pair in range(4):
        s.open(pair).run(0, 64, pair=pair, size=100, apart=5).segment(1, pair=pair)
        s.segment(1, 3000, pair=pair).segment(0, 1, pair=pair, at=-100, unit=8).wait(250)
    return s.close_both(1)


def short_memory() -> Iterator[tuple[str, Script]]:
    """Budgets that are relieved between bursts: what goes first, with and without readers."""
    for name, head in (("", PICKUP), ("_unread", PICKUP | Head.READ_LATE)):
        s = Script(head | Head.LITTLE_MEMORY, burst=8, memory=4)
        for n in range(120):
            s.hold().segment(0, 1200, flags="A").fragment(n % 3, 9 + n, later=SAME)
        yield f"short_fragments{name}", s.fragment(40).segment(1)
        s = Script(head | Head.LITTLE_MEMORY, burst=8, memory=5)
        for pair in range(7):
            s.open(pair).segment(0, 3000, pair=pair, at=1)
        for n in range(70):
            s.segment(n & 1, 3000, pair=n % 7)
        yield f"short_streams{name}", s.segment(0, 10, at=-90).wait(2000).close_both()
        s = Script(head | Head.LITTLE_MEMORY, burst=4, start=0, memory=4)
        for n in range(40):
            s.open(n % 7, numbers=(n % 8, 0), without="SA A", syn_data=1000)
        s.run(0, 256, size=90, ports=True, later=LATER)
        yield f"short_flows{name}", s.open(3, numbers=(1, 1)).segment(0, 900, pair=3)


def behind_fin() -> Script:
    s = Script(AGAIN).open().segment(0, 10, at=50).segment(0, flags="FA", at=-20)
    return s.segment(0, 50, at=-61).segment(0, 30).segment(1, ack=-30).close_both(0, 1)


# ---- below TCP ------------------------------------------------------------------------------------


def below() -> Iterator[tuple[str, Script]]:
    for link in Link:
        s = Script(AGAIN | Head.VLAN_IN_KEY).link(link, 0x21).open().segment(0, 30)
        yield f"link_{link.name.lower()}", s.open(5).datagram(1, 40).icmp().close_both(5)
    yield "datagrams", datagrams()
    yield "quotes", quotes()
    yield "fragments", fragments(0)
    yield "fragments_6", fragments(5)
    yield "fragments_twice", fragments_twice()
    for n in (1, 2):
        s = Script(AGAIN, more=bytes([n << 4 | 192])).open().hold().segment(0, 100)
        s.fragment(0, 5).fragment(3, 5, other=True).fragment(1, 2).fragment(7).fragment(2, 9)
        yield f"fragments_policy_{n}", s.segment(0, 9)
    yield "fragments_many", fragments_many()
    for link in Link:
        yield f"cut_{link.name.lower()}", cut_everywhere(link)
    yield "many_flows", Script().run(0, 2300, size=3, ports=True).wait(4_000_000).segment(0, 3)
    yield from tunnels()
    yield "time_back", Script().open().segment(0, 5, later=BACK).segment(0, 5).wait(5_000_000)


def cut_everywhere(link: Link) -> Script:
    """Headers that the capture cut, and headers that go on in a second segment."""
    s = Script(AGAIN).options(SYN_OPTIONS)
    for n in range(1, 96, 2):
        s.link(link, 3, snap=n).segment(0, 20, pair=n & 4).link(link, 3, cut=n)
        s.segment(0, 20, pair=n & 4).datagram(0, 5, pair=5).link(link, 3, snap=n).datagram(1, 5)
    return s


#: IP protocols and what stands behind their header: around an IPv4 packet, or not to be decoded.
INSIDE = bytes.fromhex(
    "45000028000100004006000001020304050607081234005000000001000000025010ffff0000"
)
ETHER = bytes(12) + b"\x08\x00" + INSIDE
IP_TUNNELS = {
    "gre_all": (47, "b000 0800 0000 0000 00000001 00000002"),
    "gre_routes": (47, "4000 0800 0000 0000 0001 0004 01020304 0000 0000"),
    "gre_routes_bad": (47, "4000 0800 0000 0000 0001 00ff 01020304"),
    "gre_version_2": (47, "0002 0800"),
    "gre_pptp": (47, "3081 880b 0004 0001 00000001 00000002 0021"),
    "gre_pptp_ack": (47, "2081 880b 0000 0001 00000002"),
    "gre_wccp": (47, "0000 883e 00000000"),
    "gre_erspan": (47, "1000 88be 00000001 1000 0000 00000000"),
    "gre_erspan_3": (47, "1000 22eb 00000001 2000 0000 00000000 00000001 00000000"),
    "gre_nvgre": (47, "2000 6558 00123400"),
    "gre_bridged": (47, "0000 6558"),
    "gre_mpls": (47, "0000 8847 00000140"),
    "gre_ip6": (47, "0000 86dd"),
    "gre_ppp": (47, "0000 880b ff03 0021"),
    "etherip": (97, "3000"),
    "etherip_bad": (97, "4000"),
    "mpls": (137, "00000040 00000140"),
    "mpls_deep": (137, "00000040" * 40),
    "mpls_word": (137, "00000140 00000000" + "00" * 14),
    "ah": (51, "0404 0000 00000001 00000001 00" + "00" * 11),
    "ah_bad": (51, "06ff 0000 00000001 00000001"),
    "esp_null": (50, "00000001 00000001"),
    "l2tp3": (115, "00000001 ff03 0021"),
    "sctp": (132, "00" * 12),
    "ip6_in_ip": (41, "60000000 0000 3b40" + "00" * 32),
}
UDP_TUNNELS = {
    "vxlan": (4789, "08000000 00000100"),
    "vxlan_gpe": (4790, "0c000001 00000100"),
    "vxlan_gpe_6": (4790, "0c000002 00000100"),
    "vxlan_gpe_ether": (4790, "0c000003 00000100"),
    "vxlan_gpe_mpls": (4790, "0c000005 00000100 00000140"),
    "vxlan_gpe_other": (4790, "0c000009 00000100"),
    "vxlan_bad": (4789, "00000000 00000100"),
    "geneve": (6081, "0000 6558 00000100"),
    "geneve_options": (6081, "0100 0800 00000100 00000000"),
    "geneve_long": (6081, "3f00 0800 00000100"),
    "gtp": (2152, "30ff 0026 00000001"),
    "gtp_more": (2152, "37ff 0030 00000001 0001 00 85 01 0000 00"),
    "gtp_chain": (2152, "34ff 0030 00000001 0001 00 85 00 0000 00"),
    "gtp_echo": (2152, "3201 0004 00000001 00000000"),
    "l2tp": (1701, "0002 0001 0001 ff03 0021"),
    "l2tp_all": (1701, "4b02 0040 0001 0001 0000 0001 0002 0000 ff03 0021"),
    "l2tp_control": (1701, "c802 000c 0001 0000 0000 0001"),
    "l2tp_long": (1701, "4002 ffff 0001 0001 0021"),
    "teredo": (3544, "60000000 0000 3b40" + "20010000" + "00" * 28),
    "teredo_heads": (3544, "0001 0000" + "00" * 9 + "0000 00000000 0000"),
    "mpls_udp": (6635, "00000140"),
    "esp_udp": (4500, "00000001 00000001"),
    "capwap": (5247, "0010 0320 0000 0000"),
    "lisp": (4341, "00000000 00000000"),
    "gue": (6080, "0004 0000"),
}
ETHER_TYPES = {
    "pppoe": "8864 1100 0001 0028 0021",
    "pppoe_session": "8863 1109 0000 0000",
    "pppoe_long": "8864 1100 0001 ffff 0021",
    "pppoe_compressed": "8864 1100 0001 0027 21",
    "pppoe_6": "8864 1100 0001 0028 0057",
    "mpls": "8847 00001040 00002140",
    "qinq": "88a8 0001 8100 0002 9100 0003 9200 0004 8100 0005 0800",
    "tags_deep": "8100 0001 " * 20 + "0800",
    "metadata": "8909 0101 0001 0005 0800",
    "trill": "22f3 0000 0001 0002" + "00" * 12 + "0800",
    "llc": "0030 aaaa03 000000 0800",
    "llc_ip": "0030 060603",
    "arp": "0806 0001 0800 0604",
    "backbone": "88e7 00000001" + "00" * 12 + "0800",
    "macsec": "88e5 2000 00000001",
    "hop_by_hop": "86dd 60000000 0028 0040" + "00" * 32 + "3c00 0104 00000000" * 3,
}
LINKS = {
    "ppp": (9, "ff03 0021"),
    "ppp_short": (9, "21"),
    "ppp_from": (166, "01 0021"),
    "ppp_hdlc": (50, "ff03 0021"),
    "cisco": (50, "0f00 0800"),
    "cisco_hdlc": (104, "0f00 0800"),
    "pppoe_alone": (51, "1100 0001 0028 0021"),
    "fddi": (10, "50" + "00" * 12 + "aaaa03 000000 0800"),
    "wifi": (105, "0801 0000" + "00" * 20 + "aaaa03 000000 0800"),
    "wifi_qos": (105, "8803 0000" + "00" * 26 + "0000 aaaa03 000000 0800"),
    "wifi_bundle": (105, "8801 0000" + "00" * 20 + "8000" + "00" * 12 + "0030 aaaa03 000000 0800"),
    "wifi_secret": (105, "0841 0000" + "00" * 20),
    "wifi_other": (105, "8000 0000" + "00" * 20),
    "wifi_part": (105, "0805 0000" + "00" * 20),
    "wifi_order": (105, "8881 0000" + "00" * 24 + "00000000 aaaa03 000000 0800"),
    "radiotap": (127, "0000 0900 02000000 10 0801 0000" + "00" * 20 + "aaaa03 000000 0800"),
    "radiotap_two": (127, "0000 1200 02000080 00000000 00 10 0000 00000000"),
    "radiotap_bad": (127, "0000 ffff 02000000"),
    "ppi": (192, "0000 0800 69000000 0801 0000" + "00" * 20 + "aaaa03 000000 0800"),
    "prism": (119, "00000044 00000090" + "00" * 136),
    "avs": (163, "80211001 00000040" + "00" * 56 + "0801 0000" + "00" * 20),
}


def tunnels() -> Iterator[tuple[str, Script]]:
    """Each way of carrying packets, whole and cut after every few bytes."""
    around = bytes.fromhex("0200000000010200000000020800")
    for name, (protocol, text) in IP_TUNNELS.items():
        yield from each_cut(f"ip_{name}", bytes.fromhex(text), 1, protocol)
    for name, (port, text) in UDP_TUNNELS.items():
        yield from each_cut(f"udp_{name}", bytes.fromhex(text), 1, 17, port)
    for name, text in ETHER_TYPES.items():
        yield from each_cut(f"ether_{name}", around[:12] + bytes.fromhex(text), 1)
    for name, (kind, text) in LINKS.items():
        yield from each_cut(f"link_{name}", bytes.fromhex(text), kind)


def each_cut(
    name: str, head: bytes, kind: int, protocol: int = 0, port: int = 0
) -> Iterator[tuple[str, Script]]:
    """The header before an IP packet and before a frame; the frame whole, short, in two parts."""
    for body in (INSIDE, ETHER, INSIDE[1:]):
        s = Script(AGAIN)
        inner = head + body
        if port:
            inner = struct.pack(">HHHH", port, port, 8 + len(inner), 0) + inner
        if protocol:
            s.ip(protocol, inner).ip(protocol, inner, pair=5)
        for n in range(0, len(head) + 60, 3):
            if protocol:
                s.link(Link.ETHERNET, cut=20 + n).ip(protocol, inner)
                s.link(Link.ETHERNET).ip(protocol, inner[:n])
            elif n <= len(inner):
                s.raw(inner[:n] or inner, kind)
        yield f"{name}_{len(body)}", s


def datagrams() -> Script:
    s = Script(AGAIN).datagram(0, 100).datagram(1, 0).datagram(0, 1).datagram(0, 4000, pair=5)
    for _ in range(6):
        s.datagram(0, 4000, later=SAME)
    return s.wait(61_000).datagram(1, 10)


def quotes() -> Script:
    s = Script().open().segment(0, 100).icmp(3, 4).icmp(11, 0).icmp(5, 1)
    s.datagram(0, 50, pair=2).icmp(3, 3).segment(0, 10, pair=5).icmp(1, 4).icmp(2, 0)
    return s.icmp(8, 0).icmp(3, 1, side=0).icmp(12, 0)


def fragments(pair: int) -> Script:
    """In order, from the back, twice, overlapping, with a hole, and without an end."""
    s = Script(AGAIN).open(pair).hold().segment(0, 100, pair=pair)
    s.fragment(0, 4).fragment(4, 4).fragment(8)
    s.hold().segment(0, 200, pair=pair).fragment(20).fragment(10, 10).fragment(0, 10)
    s.hold().segment(0, 90, pair=pair).fragment(0, 5).fragment(0, 5).fragment(3, 5).fragment(8)
    s.hold().segment(0, 60, pair=pair).fragment(0, 3).fragment(5).wait(35_000)
    s.hold().segment(0, 60, pair=pair).fragment(0, 3).fragment(6).fragment(2, 9)
    s.fragment(4, more=True)
    s.hold().datagram(0, 300, pair=pair).fragment(30).fragment(0, 30, other=True).fragment(0, 30)
    s.fragment(2, 2, last=True).fragment(1, 1, behind=True).fragment(0, ident=9)
    return s.segment(0, 100, pair=pair).wait(70_000).segment(0, 9, pair=pair)


def fragments_twice() -> Script:
    s = Script(AGAIN).link(Link.VLAN, 7).open().hold().segment(0, 100, flags="AP")
    for at in (9, 7, 5, 3, 1, 8, 6, 4, 2, 0):
        s.fragment(at, 1).fragment(at, 2)
    return s.fragment(10).segment(1).close_both()


def fragments_many() -> Script:
    s = Script(PICKUP | Head.LITTLE_MEMORY, memory=3).open()
    for n in range(60):
        s.hold().segment(0, 1200, flags="A").fragment(n % 3, 9 + n, later=SAME)
    return s.fragment(40).wait(31_000).segment(1)


# ---- captures -------------------------------------------------------------------------------------


def read_pcap(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(link type, frame) of a classic capture; pcapng and others give nothing."""
    magic = data[:4]
    little = magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
    if not little and magic not in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"):
        return
    order = "<" if little else ">"
    link_type = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at + 16 <= len(data):
        captured = struct.unpack_from(order + "I", data, at + 8)[0]
        if captured > 262144:
            return
        yield link_type, data[at + 16 : at + 16 + captured]
        at += 16 + captured


def from_capture(path: Path, most: int = MOST_OF_A_CAPTURE) -> Script | None:
    """The first frames of a capture as a script; None: nothing in it can be used."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    script = Script()
    for link_type, frame in read_pcap(data):
        if len(script.data) + len(frame) > most:
            break
        script.frames([(link_type, frame)])
    return script if len(script.data) > 8 else None


def captures(folder: Path, most: int = MOST_OF_A_CAPTURE) -> Iterator[tuple[str, Script]]:
    for path in sorted(folder.rglob("*.pcap*")):
        try:
            script = from_capture(path, most)
        except (OSError, EOFError, struct.error):
            continue
        if script is not None:
            yield f"capture_{path.relative_to(folder).as_posix().replace('/', '_')}", script


def corpus() -> Path | None:
    """The corpus of captures, where there is one."""
    folder = Path(os.environ.get("AIOMOS_CORPUS", HERE.parents[2] / "shared" / "corpus"))
    return folder if folder.is_dir() else None


# ---- all --------------------------------------------------------------------------------------------


def seeds() -> dict[str, bytes]:
    """Those that need nothing but this folder and the project's own captures."""
    found = {path.name: path.read_bytes() for path in sorted(FOUND.glob("*"))}
    for group in (conversations(), beginnings(), holes(), below(), captures(CAPTURES)):
        found.update({name: script.data for name, script in group})
    return found


def write_all(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    every = seeds()
    where = corpus()
    if where is not None:
        every.update({name: s.data for name, s in captures(where, 8_000)})
    for name, data in every.items():
        (folder / name).write_bytes(data)
    return len(every)


if __name__ == "__main__":
    print(write_all(Path(sys.argv[1])), "seeds")
