"""Flow filters: what they may ask, what they answer, and the frame they are judged on."""

from __future__ import annotations

import ipaddress
import itertools
import random

import pytest

from aiomos._engine.errors import ConfigError, FilterError
from aiomos._engine.filters import Filter
from aiomos._engine.flowfilters import FilterSet, probe_frame

TCP, UDP = 6, 17
CLIENT4, SERVER4 = bytes([10, 0, 0, 1]), bytes([192, 0, 2, 80])
CLIENT6 = bytes.fromhex("20010db8000000000000000000000001")
SERVER6 = bytes.fromhex("20010db8000000000000000000000080")
CLIENT_MAC, SERVER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000080")

WEB4 = (TCP, CLIENT4, 40000, SERVER4, 80)
WEB6 = (TCP, CLIENT6, 40000, SERVER6, 80)
SSH4 = (TCP, CLIENT4, 40001, SERVER4, 22)
DNS4 = (UDP, CLIENT4, 5353, SERVER4, 53)
DNS6 = (UDP, CLIENT6, 5353, SERVER6, 53)
FLOWS = {"WEB4": WEB4, "WEB6": WEB6, "SSH4": SSH4, "DNS4": DNS4, "DNS6": DNS6}
Flow = tuple[int, bytes, int, bytes, int]


def answer(expression: str | None, flow: Flow, vlan: tuple[int, ...] = ()) -> bool:
    flows = FilterSet()
    flows.add("tcp" if flow[0] == TCP else "udp", expression)
    return flows.matches(*flow, src_mac=CLIENT_MAC, dst_mac=SERVER_MAC, vlan=vlan) == 1


# expression and the names of the flows that pass
QUESTIONS = [
    (None, "WEB4 WEB6 SSH4 DNS4 DNS6"),
    ("", "WEB4 WEB6 SSH4 DNS4 DNS6"),
    ("port 80", "WEB4 WEB6"),
    ("tcp port 80", "WEB4 WEB6"),
    ("dst port 80", "WEB4 WEB6"),
    ("src port 80", ""),
    ("src port 40000", "WEB4 WEB6"),
    ("udp port 53", "DNS4 DNS6"),
    ("port http or port domain", "WEB4 WEB6 DNS4 DNS6"),
    ("portrange 20-60", "SSH4 DNS4 DNS6"),
    ("not port 22", "WEB4 WEB6 DNS4 DNS6"),
    ("not portrange 1-1023", ""),
    ("ip", "WEB4 SSH4 DNS4"),
    ("ip6", "WEB6 DNS6"),
    ("ip6 and port 80", "WEB6"),
    ("tcp or udp", "WEB4 WEB6 SSH4 DNS4 DNS6"),
    ("tcp", "WEB4 WEB6 SSH4"),
    ("udp", "DNS4 DNS6"),
    ("icmp", ""),
    ("arp", ""),
    ("proto 6", "WEB4 WEB6 SSH4"),
    ("ip proto \\tcp", "WEB4 SSH4"),
    ("ip6 proto 17", "DNS6"),
    ("(ip6[6] == 6)", "WEB6"),
    ("ip[9] = 17", "DNS4"),
    ("ip6 protochain 6", "WEB6"),
    ("host 10.0.0.1", "WEB4 SSH4 DNS4"),
    ("dst host 10.0.0.1", ""),
    ("src host 10.0.0.1 and dst host 192.0.2.80", "WEB4 SSH4 DNS4"),
    ("host 2001:db8::80", "WEB6 DNS6"),
    ("src host 2001:db8::80", ""),
    ("net 10.0.0.0/8", "WEB4 SSH4 DNS4"),
    ("dst net 192.0.2.0/24 or dst net 2001:db8::/32", "WEB4 WEB6 SSH4 DNS4 DNS6"),
    ("net 172.16.0.0/12", ""),
    ("ip[12] = 10", "WEB4 SSH4 DNS4"),
    ("ip[16:4] = 0xc0000250", "WEB4 SSH4 DNS4"),
    ("ip[6:2] & 0x1fff = 0", "WEB4 SSH4 DNS4"),
    ("ip[0] & 0xf = 5", "WEB4 SSH4 DNS4"),
    ("ether[14] & 0xf0 = 0x60", "WEB6 DNS6"),
    ("tcp[tcpflags] & tcp-syn != 0", "WEB4 SSH4"),
    ("tcp[13] = 2", "WEB4 SSH4"),
    ("tcp[tcpflags] & tcp-ack != 0", ""),
    ("tcp[0:2] > 40000", "SSH4"),
    ("tcp[2:2] + 1 = 81", "WEB4"),
    ("tcp[2:2] * 2 - 4 = tcp[0:2] / 1000", "SSH4"),
    ("udp[2:2] = 53", "DNS4"),
    ("ip6[42:2] = 80", "WEB6"),
    ("ip[20:2] = 5353", "DNS4"),
    ("ether host 02:00:00:00:00:01", "WEB4 WEB6 SSH4 DNS4 DNS6"),
    ("ether dst 02:00:00:00:00:01", ""),
    ("ether src 02:00:00:00:00:01 and port 53", "DNS4 DNS6"),
    ("ether proto 0x86dd", "WEB6 DNS6"),
    ("ether multicast", ""),
    ("pppoes and port 80", ""),
    ("mpls", ""),
    ("vlan", ""),
    ("atalk or iso", ""),
    ("src or dst port 22", "SSH4"),
    ("tcp[tcp[13] - 2 : 2] = 40000", "WEB4"),  # a known place, though computed
]


@pytest.mark.parametrize(("expression", "passing"), QUESTIONS)
def test_question_a_flow_can_answer(expression: str | None, passing: str) -> None:
    assert [name for name in FLOWS if answer(expression, FLOWS[name])] == passing.split()


REFUSED = [
    ("ip[8] > 3", "ip[8]", "ip[8], the time to live"),
    ("tcp and ip[8] = 64", "ip[8]", "ip[8], the time to live"),
    ("ip[1] = 0", "ip[1]", "ip[1], the type of service"),
    ("ip[2:2] > 20", "ip[2:2]", "ip[2], the total length"),
    ("ip[4:2] = 7", "ip[4:2]", "ip[4], the identification"),
    ("ip[8:2] & 0xff = 6", "ip[8:2]", "ip[8], the time to live"),
    ("ip[10:4] = 0", "ip[10:4]", "ip[10], the header checksum"),
    ("ip6[0:4] & 0xfffff = 5", "ip6[0:4]", "ip6[1], the traffic class and flow label"),
    ("ip6[4:2] > 20", "ip6[4:2]", "ip6[4], the payload length"),
    ("ip6[7] < 5", "ip6[7]", "ip6[7], the hop limit"),
    ("tcp[4:4] = 1", "tcp[4:4]", "tcp[4], the sequence number"),
    ("port 80 and tcp[8:4] != 0", "tcp[8:4]", "tcp[8], the acknowledgement number"),
    ("tcp[12] & 0xf0 > 0x50", "tcp[12]", "tcp[12], the header length"),
    ("tcp[12:2] & 2 != 0", "tcp[12:2]", "tcp[12], the header length"),
    ("tcp[14:2] = 0", "tcp[14:2]", "tcp[14], the window"),
    ("tcp[16:2] = 0", "tcp[16:2]", "tcp[16], the checksum"),
    ("tcp[18:2] = 0", "tcp[18:2]", "tcp[18], the urgent pointer"),
    ("tcp[20:4] = 0x47455420", "tcp[20:4]", "the payload"),
    ("port 80 and tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
     "tcp[((tcp[12:1] & 0xf0) >> 2):4]", "tcp[12], the header length"),
    ("udp[4:2] > 8", "udp[4:2]", "udp[4], the length"),
    ("udp[6:2] = 0", "udp[6:2]", "udp[6], the checksum"),
    ("udp[8] = 1", "udp[8]", "the payload"),
    ("ether[100] = 1", "ether[100]", "the payload"),
    ("less 100", "less 100", "the length of a frame"),
    ("udp and greater 100", "greater 100", "the length of a frame"),
    ("port 80 and len > 100", "len", "the length of a frame"),
    ("port 80 and inbound", "inbound", "the direction of a frame"),
    ("udp port 6081 and geneve", "geneve", "the payload"),
    ("tcp[tcp[0]] = 2", "tcp[tcp[0]]", "a byte whose place differs from flow to flow"),
    ("vlan and ip[8] > 3", "ip[8]", "ip[8], the time to live"),
    ("vlan and vlan and tcp[4] = 1", "tcp[4]", "tcp[4], the sequence number"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "marked", "what"), REFUSED)
def test_question_only_packets_answer_refused_by_name(
    expression: str, marked: str, what: str
) -> None:
    column = expression.index(marked) + 1
    flows = FilterSet()
    with pytest.raises(FilterError) as caught:
        flows.add("tcp", expression)
    first, shown, mark, *advice = str(caught.value).split("\n")
    assert first == f"filter cannot be judged once a flow: it reads {what} (column {column})"
    assert (shown, mark) == (f"  {expression}", " " * (column + 1) + "^" + "~" * (len(marked) - 1))
    assert "@app.packet" in " ".join(advice)
    assert caught.value.column == column
    assert len(flows) == 0


MOVED = ["vlan or port 80", "vlan 10 or vlan 20", "not vlan and tcp"]


@pytest.mark.parametrize("expression", MOVED)
def test_words_that_vlan_moved_refused_with_the_cure(expression: str) -> None:
    with pytest.raises(FilterError, match="write it last") as caught:
        FilterSet().add("tcp", expression)
    assert caught.value.column == expression.index("vlan") + 1
    assert "behind the word 'vlan'" in caught.value.reason


@pytest.mark.parametrize(("expression", "tags", "expected"), [
    ("port 80", (), True),
    ("port 80", (10,), True),  # no tag in the probe: the word vlan is not used
    ("port 80", (100, 10), True),
    ("vlan", (), False),
    ("vlan", (10,), True),
    ("vlan", (100, 10), True),
    ("vlan 10", (10,), True),
    ("vlan 10", (0xE00A,), True),  # priority bits are no part of the number
    ("vlan 10", (11,), False),
    ("vlan 10 and port 80", (10,), True),
    ("vlan 10 and port 22", (10,), False),
    ("vlan and vlan", (10,), False),
    ("vlan and vlan", (100, 10), True),
    ("vlan 100 and vlan 10 and port 80", (100, 10), True),
    ("vlan 10 and vlan 100 and port 80", (100, 10), False),
    ("port 80 or vlan 3", (3,), True),
    ("port 22 or vlan 4", (3,), False),
    ("port 80 and not vlan", (), True),
    ("ether[14:2] & 0xfff = 10 and vlan", (10,), None),
    ("vlan and ether[14:2] & 0xfff = 10", (10,), True),
    ("vlan and ether[14:2] & 0xe000 = 0xe000", (0xE00A,), True),
    ("ether proto 0x8100", (10,), False),
])  # fmt: skip
@pytest.mark.parametrize("flow", [WEB4, WEB6])
def test_tag_is_there_only_for_the_word_vlan(
    expression: str, tags: tuple[int, ...], expected: bool | None, flow: Flow
) -> None:
    if expected is None:  # reads behind the EtherType of untagged flows, too
        with pytest.raises(FilterError):
            answer(expression, flow, tags)
    else:
        assert answer(expression, flow, tags) is expected


def test_64_filters_one_bit_each_and_no_more() -> None:
    flows = FilterSet()
    for i in range(64):
        expression = None if i == 62 else f"dst port {1000 + i}"
        assert flows.add("udp" if i % 2 else "tcp", expression) == i
    for i in range(0, 62, 2):
        assert flows.matches(TCP, CLIENT4, 1, SERVER4, 1000 + i) == 1 << i | 1 << 62
        assert flows.matches(TCP, CLIENT4, 1, SERVER4, 1001 + i) == 1 << 62
        assert flows.matches(UDP, CLIENT4, 1, SERVER4, 1001 + i) == 1 << (i + 1)
    assert flows.matches(UDP, CLIENT6, 1, SERVER6, 1063) == 1 << 63
    assert flows.matches(132, CLIENT4, 1, SERVER4, 1063) == 0
    with pytest.raises(ConfigError, match="more than 64"):
        flows.add("tcp")
    assert len(flows) == 64


def test_several_expressions_of_one_filter_all_count_each_by_itself() -> None:
    flows = FilterSet()
    flows.add("tcp", "vlan 10", None, "port 80")  # joined by "and" the word vlan would move port 80
    flows.add("tcp", "port 80", "vlan 10")
    flows.add("tcp", "port 80", "vlan 11")
    assert flows.matches(*WEB4, vlan=(10,)) == 0b011
    assert flows.matches(*WEB4) == 0
    assert flows.filters[0] == ("tcp", ("vlan 10", "port 80"))


def test_filter_no_flow_can_pass_is_listed() -> None:
    flows = FilterSet()
    for protocol, expression in itertools.product(("tcp", "udp"), ("port 80", "icmp", "tcp")):
        flows.add(protocol, expression)
    assert flows.never == [1, 4, 5]


@pytest.mark.parametrize("protocol", ["TCP", "sctp", ""])
def test_protocol_of_a_wrong_name_raises(protocol: str) -> None:
    with pytest.raises(ValueError, match="'tcp' or 'udp'"):
        FilterSet().add(protocol, None)  # type: ignore[arg-type]


def test_refused_filter_leaves_the_set_as_it_was() -> None:
    flows = FilterSet()
    flows.add("tcp", "port 80")
    with pytest.raises(FilterError):
        flows.add("tcp", "port 22", "less 100")
    assert flows.add("tcp", "port 22") == 1
    assert flows.matches(*SSH4) == 0b10


# ---- the probe, read by somebody else ------------------------------------------------


@pytest.mark.parametrize("tags", [(), (10,), (100, 0xE014)])
@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_probe_is_a_well_formed_frame(flow: Flow, tags: tuple[int, ...]) -> None:
    scapy = pytest.importorskip("scapy.layers.l2", reason="scapy reads the probe independently")
    pytest.importorskip("scapy.layers.inet6")
    frame = scapy.Ether(probe_frame(*flow, src_mac=CLIENT_MAC, dst_mac=SERVER_MAC, vlan=tags))
    protocol, src, sport, dst, dport = flow
    assert (frame.src, frame.dst) == (CLIENT_MAC.hex(":"), SERVER_MAC.hex(":"))
    for tag in tags:
        frame = frame.payload
        assert frame.prio << 13 | frame.dei << 12 | frame.vlan == tag
    network = frame.payload
    assert ipaddress.ip_address(network.src).packed == src
    assert ipaddress.ip_address(network.dst).packed == dst
    transport = network.payload
    assert (transport.sport, transport.dport) == (sport, dport)
    assert transport.name == ("TCP" if protocol == TCP else "UDP")
    assert transport.name == "UDP" or transport.flags == "S"
    assert not transport.payload


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_probe_has_the_lengths_its_headers_say(flow: Flow) -> None:
    dpkt = pytest.importorskip("dpkt", reason="dpkt reads the probe independently")
    raw = probe_frame(*flow)
    network = dpkt.ethernet.Ethernet(raw).data
    size = network.len if len(flow[1]) == 4 else 40 + network.plen
    assert size == len(raw) - 14
    assert len(network.data) == (20 if flow[0] == TCP else 8)
    assert flow[0] == TCP or network.data.ulen == 8


def test_probe_of_another_protocol_has_no_transport_header() -> None:
    assert len(probe_frame(50, CLIENT4, 0, SERVER4, 0)) == 34
    assert len(probe_frame(50, CLIENT6, 0, SERVER6, 0, vlan=(1, 2))) == 62
    assert len(probe_frame(*WEB6, vlan=(1, 2), with_vlan=False)) == 74


# ---- what was accepted reads nothing else ----------------------------------------------

PIECES = [
    "port 80", "tcp port 22", "udp dst port 53", "host 10.0.0.1", "net 2001:db8::/32", "ip", "ip6",
    "tcp", "udp", "icmp", "arp", "vlan", "vlan 10", "ether host 02:00:00:00:00:01", "proto 6",
    "portrange 50-90", "ip protochain 6", "ip6 protochain 17", "sctp", "tcp[13] & 2 != 0",
]  # fmt: skip


def random_piece(choice: random.Random) -> str:
    if choice.random() < 0.6:
        return choice.choice(PIECES)
    header = choice.choice(["ether", "ip", "ip6", "tcp", "udp"])
    size = choice.choice([1, 2, 4])
    test = choice.choice(["= 2", "> 9", "& 1 = 0", "& 0xf0 != 0", "!= 80"])
    return f"{header}[{choice.randrange(44)}:{size}] {test}"


def random_expression(choice: random.Random) -> str:
    text = random_piece(choice)
    for _ in range(choice.randrange(4)):
        join = choice.choice(["and", "or", "and not", "or not"])
        text = f"({text}) {join} {random_piece(choice)}"
    return text


def with_other_contents(frame: bytes, n_tags: int, choice: random.Random) -> bytes:
    """The same flow's frame, as another packet of it might look."""
    ip = 14 + 4 * n_tags
    is_ip4 = frame[ip] >> 4 == 4
    l4 = ip + (20 if is_ip4 else 40)
    places = [ip + i for i in ((1, 2, 3, 4, 5, 8, 10, 11) if is_ip4 else (1, 2, 3, 4, 5, 7))]
    is_tcp = frame[ip + (9 if is_ip4 else 6)] == TCP
    places += [l4 + i for i in ((*range(4, 13), *range(14, 20)) if is_tcp else range(4, 8))]
    other = bytearray(frame) + choice.randbytes(choice.randrange(60))
    for place in places:
        other[place] = choice.randrange(256)
    return bytes(other)


def accepted(expression: str) -> bool:
    try:
        FilterSet().add("tcp", expression)
    except FilterError:
        return False
    return True


def test_accepted_filters_give_one_verdict_for_all_packets_of_a_flow() -> None:
    choice = random.Random(8)
    expressions = [random_expression(choice) for _ in range(1500)]
    good = [expression for expression in expressions if accepted(expression)]
    assert 300 < len(good) < 1300
    for expression in good:
        judge = Filter(expression)
        for flow in FLOWS.values():
            tags = choice.choice([(), (10,), (100, 10)]) if "vlan" in expression else ()
            frame = probe_frame(*flow, src_mac=CLIENT_MAC, dst_mac=SERVER_MAC, vlan=tags)
            verdicts = {
                judge.matches(with_other_contents(frame, len(tags), choice)) for _ in range(5)
            }
            assert verdicts == {answer(expression, flow, tags)}, (expression, flow, tags)
