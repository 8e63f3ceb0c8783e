"""Scripts of aiomos.testing: frames as scapy and dpkt read them, and ends that know what they got."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import IP, TCP, UDP, Dot1Q, Ether, IPv6, Raw, defragment

import aiomos
from aiomos.testing import START, Conversation, Datagrams, client, frames, server
from aiomos.testing._ends import Received


def parsed(script):
    return [Ether(frame.data) for frame in script]


def numbers(script):
    """Relative sequence and acknowledgement numbers, flags and payload of each segment."""
    out = []
    for packet in parsed(script):
        tcp = packet[TCP]
        mine, other = (1000, 500_000) if tcp.dport == 80 else (500_000, 1000)
        ack = tcp.ack - other if "A" in tcp.flags else None
        out.append((tcp.seq - mine, ack, str(tcp.flags), bytes(tcp.payload)))
    return out


def acks(script):
    return [ack for _, ack, _, _ in numbers(script)]


def assert_checksums(packet):
    fresh = Ether(bytes(packet))
    for layer in (IP, TCP, UDP):
        if layer in fresh:
            del fresh[layer].chksum
    assert bytes(fresh) == bytes(packet)


# ---- numbers ----------------------------------------------------------------------------------


def test_whole_conversation_numbers_follow_each_other():
    talk = Conversation().handshake().data(client, b"hello").data(server, b"hi").close()
    assert numbers(talk) == [
        (0, None, "S", b""),
        (0, 1, "SA", b""),
        (1, 1, "A", b""),
        (1, 1, "PA", b"hello"),
        (1, 6, "PA", b"hi"),
        (6, 3, "FA", b""),
        (3, 7, "FA", b""),
        (7, 4, "A", b""),
    ]


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_every_frame_has_right_checksums_and_lengths(host):
    other = "10.0.0.2" if "." in host else "fd00::2"
    talk = Conversation(client=(host, 1), server=(other, 2), vlan=[7])
    talk.handshake().data(client, b"odd").data(server, b"even", urgent=2).rst(client)
    for packet in parsed(talk):
        assert packet[Dot1Q].vlan == 7
        assert (IPv6 in packet) == (":" in host)
        assert_checksums(packet)


def test_udp_checksums_are_right_and_both_ends_speak():
    packets = parsed(Datagrams().data(client, b"who").data(server, b"me"))
    assert [(p[UDP].sport, bytes(p[UDP].payload)) for p in packets] == [(5000, b"who"), (53, b"me")]
    for packet in packets:
        assert_checksums(packet)


def test_syn_has_all_options_and_data_have_timestamps_that_are_echoed():
    talk = Conversation().handshake().data(client, b"x").data(server, b"y")
    options = [dict(p[TCP].options) for p in parsed(talk)]
    assert options[0].keys() - {"NOP"} == {"MSS", "SAckOK", "Timestamp", "WScale"}
    assert (options[0]["MSS"], options[0]["WScale"]) == (1460, 7)
    stamps = [one["Timestamp"] for one in options]
    sent = [value for value, _ in stamps]
    assert [echo for _, echo in stamps] == [0, sent[0], sent[1], sent[1], sent[3]]


def test_options_can_be_left_out_or_given():
    talk = Conversation(mss=None, window_scale=None, timestamps=False, sack=False)
    talk.syn().syn_ack(options=frames.mss(500))
    assert [p[TCP].options for p in parsed(talk)] == [[], [("MSS", 500)]]


def test_any_header_field_can_be_given():
    talk = Conversation().handshake()
    talk.segment(client, frames.ACK, b"z", seq=7, ack=8, window=9, check=10, ttl=11, ident=12)
    packet = parsed(talk)[-1]
    tcp = packet[TCP]
    assert (tcp.seq, tcp.ack, tcp.window, tcp.chksum) == (7, 8, 9, 10)
    assert (packet[IP].ttl, packet[IP].id) == (11, 12)


def test_keep_alive_stands_one_before_what_comes_next():
    talk = Conversation().handshake().data(client, b"abc").keep_alive(client).data(client, b"d")
    assert [seq for seq, *_ in numbers(talk)] == [0, 0, 1, 1, 3, 4]


def test_syn_with_data_is_acknowledged_with_them():
    assert acks(Conversation().syn(data=b"early").syn_ack()) == [None, 6]


def test_sequence_numbers_wrap():
    talk = Conversation(isn=(2**32 - 3, 5)).handshake().data(client, b"abcdef").data(client, b"g")
    assert [p[TCP].seq for p in parsed(talk)][-2:] == [2**32 - 2, 4]


# ---- borders ----------------------------------------------------------------------------------


def test_data_longer_than_the_mss_are_cut_with_room_for_timestamps():
    talk = Conversation().handshake().data(client, b"x" * 3000)
    assert [(len(data), flags) for *_, flags, data in numbers(talk)[3:]] == [
        (1448, "A"),
        (1448, "A"),
        (104, "PA"),
    ]


@pytest.mark.parametrize(
    ("cut", "sizes"), [(4, [4, 4, 2]), ([1, 3], [1, 3, 6]), ([20], [10]), (10, [10])]
)
def test_cut_gives_the_sizes_of_segments(cut, sizes):
    talk = Conversation().handshake().data(client, b"0123456789", cut=cut)
    said = [data for *_, data in numbers(talk)[3:]]
    assert [len(data) for data in said] == sizes
    assert b"".join(said) == b"0123456789"


def test_fin_with_much_data_ends_the_last_segment_only():
    talk = Conversation().handshake().fin(client, b"x" * 2000).ack(server)
    assert [flags for *_, flags, _ in numbers(talk)[3:]] == ["A", "FA", "A"]
    assert acks(talk)[-1] == 2002


# ---- what becomes of packets ------------------------------------------------------------------


def test_lost_at_the_tap_is_acknowledged():
    talk = Conversation().handshake().data(client, b"abc").lose().ack(server)
    assert numbers(talk)[3:] == [(1, 4, "A", b"")]


def test_gap_is_acknowledged_and_no_frame():
    talk = Conversation().handshake().gap(client, 100_000).data(client, b"x").ack(server)
    assert [(seq, ack) for seq, ack, *_ in numbers(talk)[3:]] == [(100_001, 1), (1, 100_002)]


@pytest.mark.parametrize(("where", "seen"), [("before", 0), ("behind", 1)])
def test_lost_on_the_way_is_acknowledged_when_it_came_again(where, seen):
    talk = Conversation().handshake()
    talk.data(client, b"abc").lose(where).data(client, b"def").ack(server)
    talk.data(client, b"abc", at=0).ack(server)
    assert len(talk.frames()) == 7 + seen
    server_said = [p for p in parsed(talk) if p[TCP].sport == 80][1:]
    assert [p[TCP].ack - 1000 for p in server_said] == [1, 7]
    assert [dict(p[TCP].options).get("SAck") for p in server_said] == [(1004, 1007), None]


def test_duplicate_is_the_same_frame_later():
    one, two, three = Datagrams().data(client, b"x").duplicate(2).frames()
    assert one.data == two.data == three.data
    assert one.time_ns < two.time_ns < three.time_ns


def test_reorder_lets_packets_overtake_and_time_does_not_go_back():
    talk = Datagrams()
    for word in (b"a", b"b", b"c"):
        talk.data(client, word)
    talk.reorder(2)
    assert [bytes(p[UDP].payload) for p in parsed(talk)] == [b"c", b"a", b"b"]
    times = [frame.time_ns for frame in talk]
    assert times == sorted(times)


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_are_put_together_by_others(version):
    ends = {} if version == 4 else {"client": ("fd00::1", 1), "server": ("fd00::2", 2)}
    talk = Datagrams(**ends).data(client, bytes(range(100))).fragment(30)
    assert len(talk.frames()) == 5  # 108 bytes in pieces of 24
    got = []

    async def handler(flow):
        got.extend([one.data async for one in flow])

    app = aiomos.App()
    app.udp()(handler)
    aiomos.run(app, aiomos.MemorySource(talk.frames()))
    assert got == [bytes(range(100))]
    if version == 4:
        whole = defragment([packet[IP] for packet in parsed(talk)])
        assert bytes(whole[0][UDP].payload) == bytes(range(100))


# ---- time -------------------------------------------------------------------------------------


def test_times_follow_pace_wait_and_after():
    talk = Datagrams(pace=0.5).data(client, b"").data(server, b"").wait(2)
    talk.data(client, b"").data(server, b"", after=0.125)
    assert [frame.time_ns / 1e9 - START for frame in talk] == [0, 0.5, 3, 3.125]


def test_first_step_may_come_after_something():
    assert Datagrams().data(client, b"", after=2).frames()[0].time_ns == (START + 2) * 1e9


# ---- values -----------------------------------------------------------------------------------


def test_script_grows_and_gives_the_same_frames_each_time():
    talk = Conversation()
    assert talk.handshake() is talk
    before = talk.frames()
    talk.data(client, b"x").lose("before")
    assert talk.frames() == before == list(talk)


def test_scapy_packets_are_taken_as_frames_and_as_data():
    packet = Ether() / IP(dst="10.0.0.9") / UDP(dport=53) / Raw(b"q")
    script = Datagrams().frame(packet).data(server, Raw(b"payload"))
    assert [p[UDP].payload.load for p in parsed(script)] == [b"q", b"payload"]


@pytest.mark.parametrize("name", ["talk.pcap", "talk.pcapng"])
def test_saved_capture_is_read_by_others(tmp_path, name):
    talk = Conversation().handshake().data(client, b"x", after=0.25)
    talk.save(tmp_path / name)
    with (tmp_path / name).open("rb") as file:
        reader = dpkt.pcap.UniversalReader(file)
        found = [(round((float(time) - START) * 1000), data) for time, data in reader]
    assert found == [(ms, frame.data) for ms, frame in zip((0, 1, 2, 252), talk, strict=True)]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Conversation().data("middle", b""),
        lambda: Conversation().data(client, b"x", cut=0),
        lambda: Conversation().data(client, b"x", cut=[3, -1]),
        lambda: Conversation().wait(-1),
        lambda: Conversation().lose(),
        lambda: Conversation().syn().wait(1).duplicate(),
        lambda: Conversation().syn().lose("somewhere"),
        lambda: Conversation().syn().fragment(7),
        lambda: Conversation().gap("c", 1),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_said(misuse):
    with pytest.raises(aiomos.ConfigError):
        misuse()


@pytest.mark.parametrize("thing", [5, "text", None, [b"x"]])
def test_what_has_no_bytes_is_no_data(thing):
    with pytest.raises(TypeError, match="bytes"):
        Conversation().data(client, thing)


def test_path_is_no_frame(tmp_path):
    with pytest.raises(TypeError, match="bytes"):
        Datagrams().frame(tmp_path)


# ---- what an end got --------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=30))
def test_received_is_the_set_of_offsets_that_came(pieces):
    received, came = Received(), set()
    for start, length in pieces:
        received.add(start, start + length)
        came |= set(range(start, start + length))
        following = next(n for n in range(100) if n not in came)
        assert received.next == following
        beyond = {n for start, end in received.blocks for n in range(start, end)}
        assert beyond == {n for n in came if n > following}
        ends = [n for block in received.blocks for n in block]
        assert ends == sorted(set(ends))
