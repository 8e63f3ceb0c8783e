"""Fragments of IPv4 and IPv6: what becomes of them, what is told, what is held (test-cases 48-55)."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    ICMP,
    IP6,
    MILLISECOND,
    SECOND,
    START,
    SYN,
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
    udp,
)

from aiomos._engine._testcore import CoreDriver

MF, DF = 0x2000, 0x4000
ENDS = ("10.0.0.1", "10.0.0.2")
ENDS6 = ("fd00::1", "fd00::2")
WORDS = bytes(i * 7 & 0xFF for i in range(4000))


@pytest.fixture
def driver():
    made = CoreDriver(listen=["Anomaly"])
    yield made
    assert_idle(made)
    held = made.usage()
    assert (held["datagrams"], held["fragment_bytes"]) == (0, 0)


def part4(data, offset, more, *, ident=1, protocol=UDP, ends=ENDS, flags=0, **fields):
    """A frame with bytes [offset, offset + len) of a datagram."""
    field = flags | (MF if more else 0) | offset >> 3
    packet = ipv4(data, *ends, protocol, ident=ident, fragment=field, **fields)
    return ethernet(packet)


def part6(data, offset, more, *, ident=1, protocol=UDP, ends=ENDS6, before=()):
    chain = [*before, fragment6(offset >> 3, more, ident)]
    return ethernet(ipv6(data, *ends, protocol, extensions=chain), IP6)


def cut(part, body, size, **fields):
    """A whole body in fragments of `size` bytes, in order."""
    return [
        part(body[at : at + size], at, at + size < len(body), **fields)
        for at in range(0, len(body), size)
    ]


def body_of(part, payload, sport=5000):
    return udp(sport, 53, payload, ends=ENDS if part is part4 else ENDS6)


def feed(driver, frames, at=START, **meta):
    for i, frame in enumerate(frames):
        driver.input(frame, at + i * MILLISECOND, **meta)


def delivered(driver):
    return [data for flow in driver.flows for _, data, _ in flow.datagrams]


both = pytest.mark.parametrize("part", [part4, part6])


# ---- whole datagrams ---------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [8, 24, 576, 1480, 2000])
def test_fragments_in_order_are_one_datagram(driver, part, size):
    feed(driver, cut(part, body_of(part, WORDS[:3000]), size))
    assert delivered(driver) == [WORDS[:3000]]
    assert driver.counters()["reassembled"] == 1
    assert driver.counters()["fragments"] == len(cut(part, body_of(part, WORDS[:3000]), size))


@both
def test_fragments_in_any_order_are_one_datagram(driver, part):
    chance = random.Random(5)
    for ident in range(40):
        frames = cut(part, body_of(part, WORDS), 400, ident=ident)
        chance.shuffle(frames)
        feed(driver, frames, START + ident * SECOND)
    assert delivered(driver) == [WORDS] * 40


@both
def test_fragments_of_several_datagrams_mixed_are_told_apart(driver, part):
    sets = [
        cut(part, body_of(part, bytes([n]) * 900, sport=5000 + n), 304, ident=n) for n in range(8)
    ]
    feed(driver, [frame for row in zip(*sets, strict=True) for frame in row])
    assert sorted(delivered(driver)) == [bytes([n]) * 900 for n in range(8)]


@both
def test_datagram_whole_carries_the_time_of_its_last_fragment(driver, part):
    frames = cut(part, body_of(part, WORDS[:100]), 56)
    feed(driver, frames[::-1])
    ((_, data, stamp),) = driver.flows[0].datagrams
    assert (data, stamp) == (WORDS[:100], START + (len(frames) - 1) * MILLISECOND)


@both
def test_tcp_in_fragments_and_whole_is_one_stream(driver, part):
    """Whole packets of the flow meet it: the fragmented part is data like any other."""
    hosts = ENDS if part is part4 else ENDS6
    frames = []
    talk = Talk(lambda raw, at: frames.append(raw), client=(hosts[0], 40000), server=(hosts[1], 80))
    talk.handshake()
    talk.c(b"GET / ")
    big = tcp(
        40000, 80, talk.ends[CLIENT].number(6), talk.ends[1].number(0), ACK, WORDS, ends=hosts
    )
    talk.skip(CLIENT, len(WORDS))
    frames += cut(part, big, 1240, protocol=TCP)
    talk.c(b"tail")
    talk.close()
    feed(driver, frames)
    assert driver.flows[0].data(CLIENT) == b"GET / " + WORDS + b"tail"
    assert len(driver.flows) == 1


@both
def test_nine_and_more_fragments_are_accepted_up_to_the_own_cap(driver, part):
    """Row 52."""
    for ident, n in enumerate([9, 64, 500]):
        feed(driver, cut(part, body_of(part, WORDS[: 8 * n - 8]), 8, ident=ident))
    assert [len(d) for d in delivered(driver)] == [64, 504, 3992]
    feed(driver, cut(part, body_of(part, bytes(8 * 600)), 8, ident=77), START + SECOND)
    assert len(delivered(driver)) == 3
    assert driver.counters()["fragment_too_many"] == 1
    assert driver.counters()["fragment_late"] == 601 - 513
    assert driver.anomalies().count("too_many_fragments") == 1


@both
def test_fragments_across_segments_are_one_datagram(driver, part):
    frames = cut(part, body_of(part, WORDS), 1200)
    for i, frame in enumerate(frames):
        driver.input(frame, START + i, cuts=range(3, len(frame), 11))
    assert delivered(driver) == [WORDS]


@both
def test_fragment_cut_by_the_capture_gives_what_was_captured(driver, part):
    frames = cut(part, body_of(part, WORDS[:1992]), 1000)
    driver.input(frames[0], START)
    driver.input(frames[1][:-600], START + 1, wire_len=len(frames[1]))
    assert delivered(driver) == [WORDS[:1392]]


def test_header_options_and_trailing_padding_of_fragments_are_not_data(driver):
    body = body_of(part4, WORDS[:96])
    first = ethernet(ipv4(body[:40], *ENDS, UDP, ident=3, fragment=MF, options=b"\x94\x04\0\0"))
    last = part4(body[40:], 40, False, ident=3) + b"PADDING"
    feed(driver, [last, first])
    assert delivered(driver) == [WORDS[:96]]


def test_fragments_of_another_protocol_are_put_together_and_left(driver):
    feed(driver, cut(part4, b"\x08\0" + bytes(1998), 1000, protocol=ICMP))
    assert driver.counters()["reassembled"] == 1
    assert driver.flows == []


# ---- identity: rows 50 and the keys -------------------------------------------------------------


def test_same_identification_of_another_protocol_is_another_datagram(driver):
    """Row 50."""
    datagram = cut(part4, body_of(part4, WORDS[:100]), 56, ident=9)
    segment = tcp(1, 2, 5, 0, SYN, WORDS[:100], ends=ENDS)
    pieces = cut(part4, segment, 64, ident=9, protocol=TCP)
    feed(driver, [datagram[0], pieces[0], datagram[1], pieces[1]])
    assert delivered(driver) == [WORDS[:100]]
    assert driver.counters()["reassembled"] == 2


def test_next_header_of_a_later_ip6_fragment_does_not_matter(driver):
    body = body_of(part6, WORDS[:100])
    feed(driver, [part6(body[56:], 56, False, protocol=TCP), part6(body[:56], 0, True)])
    assert delivered(driver) == [WORDS[:100]]


@both
@pytest.mark.parametrize("other", ["source", "destination", "ident"])
def test_fragments_that_differ_in_their_key_do_not_meet(driver, part, other):
    body = body_of(part, WORDS[:100])
    a, b = ENDS if part is part4 else ENDS6
    fields = {
        "source": {"ends": (b, b)},
        "destination": {"ends": (a, a)},
        "ident": {"ident": 2},
    }[other]
    feed(driver, [part(body[:56], 0, True), part(body[56:], 56, False, **fields)])
    assert delivered(driver) == []
    assert driver.usage()["datagrams"] == 2


@pytest.mark.parametrize(("in_key", "meet"), [(False, True), (True, False)])
def test_fragments_on_two_vlans_meet_unless_the_tag_is_in_the_key(in_key, meet):
    driver = CoreDriver(vlan_in_key=in_key)
    body = body_of(part4, WORDS[:100])
    for vlan, data, at, more in [(5, body[:56], 0, True), (6, body[56:], 56, False)]:
        packet = ipv4(data, *ENDS, UDP, fragment=(MF if more else 0) | at >> 3)
        driver.input(ethernet(packet, vlan=[vlan]), START)
    assert bool(delivered(driver)) is meet
    assert_idle(driver)


# ---- overlaps: rows 48, 49 -----------------------------------------------------------------------

TEARDROPS = {
    # (offset, bytes, more): a second fragment that lies inside, in front of, behind, over the first
    "inside": [(0, b"A" * 48, True), (8, b"B" * 16, True), (48, b"C" * 8, False)],
    "behind": [(0, b"A" * 48, True), (24, b"B" * 40, False)],
    "front": [(24, b"A" * 40, False), (0, b"B" * 48, True)],
    "over": [(8, b"A" * 16, True), (0, b"B" * 48, True), (48, b"C" * 8, False)],
    "same place": [(0, b"A" * 48, True), (0, b"B" * 48, True), (48, b"C" * 8, False)],
    "one unit": [(0, b"A" * 48, True), (40, b"B" * 24, False)],
}


@both
@pytest.mark.parametrize("name", TEARDROPS)
def test_fragments_that_overlap_drop_the_whole_datagram(driver, part, name):
    """Row 48, RFC 5722: also those that come later are discarded."""
    body = body_of(part, bytes(64))
    frames = [part(data, at, more) for at, data, more in TEARDROPS[name]]
    feed(driver, [*frames, *cut(part, body, 24)])
    assert delivered(driver) == []
    counters = driver.counters()
    assert counters["fragment_overlaps"] == 1
    assert counters["fragment_late"] == len(frames) - 2 + len(cut(part, body, 24))
    assert "reassembled" not in counters
    assert [a for a in driver.anomalies() if "small" not in a] == ["fragment_inconsistency"]


@both
def test_fragments_that_overlap_with_the_same_bytes_are_an_overlap(driver, part):
    body = body_of(part, WORDS[:400])
    feed(driver, [part(body[:160], 0, True), part(body[80:240], 80, True)])
    assert driver.anomalies() == ["fragment_overlap"]
    assert driver.counters()["fragment_overlaps"] == 1


@both
def test_exact_duplicates_of_fragments_are_tolerated(driver, part):
    """Row 49."""
    frames = cut(part, body_of(part, WORDS[:1000]), 296)
    feed(driver, [frames[0], frames[0], frames[2], frames[1], frames[2], frames[1], frames[3]])
    assert delivered(driver) == [WORDS[:1000]]
    assert driver.counters()["fragment_duplicates"] == 3
    assert driver.anomalies() == []


@both
@pytest.mark.parametrize(("policy", "winner"), [("first", b"old!old!"), ("last", b"new!new!")])
def test_overlap_policy_says_whose_bytes_stay(part, policy, winner):
    driver = CoreDriver(fragments=policy, listen=["Anomaly"])
    old, new = (
        body_of(part, b"........" + word + b"........") for word in (b"old!old!", b"new!new!")
    )
    size = len(old)
    frames = [
        part(old[:24], 0, True),
        part(new[16:24], 16, True),  # the word, once more
        part(old[24:size], 24, False),
    ]
    feed(driver, frames)
    (data,) = delivered(driver)
    assert data == b"........" + winner + b"........"
    assert "fragment_inconsistency" in driver.anomalies()
    assert_idle(driver)


@both
def test_datagram_given_up_is_forgotten_after_its_time(driver, part):
    body = body_of(part, WORDS[:400])
    feed(driver, [part(body[:160], 0, True), part(body[80:240], 80, True)])
    patience = 30 if part is part4 else 60
    feed(driver, cut(part, body, 104), START + patience * SECOND)
    assert delivered(driver) == [WORDS[:400]]


# ---- sizes: rows 51, 55 --------------------------------------------------------------------------


@both
def test_fragment_beyond_64_kib_drops_its_datagram(driver, part):
    """Row 51: ping of death."""
    feed(driver, cut(part, bytes(65000), 1480, protocol=ICMP))
    driver.input(part(bytes(1000), 65528, False, protocol=ICMP), START + SECOND)
    assert driver.counters()["fragment_too_large"] == 1
    assert driver.anomalies() == ["fragment_too_large"]


@both
def test_datagram_too_large_only_with_its_headers_is_dropped(driver, part):
    frames = cut(part, bytes(65528), 8192)
    if part is part6:
        frames[0] = part(bytes(8192), 0, True, before=[extension(60, bytes(6 + 8))])
    feed(driver, frames)
    assert driver.counters()["fragment_too_large"] == 1
    assert "reassembled" not in driver.counters()


@both
def test_datagram_of_the_largest_size_is_delivered(driver, part):
    most = 65535 - 8 - (20 if part is part4 else 0)
    payload = random.Random(1).randbytes(most)
    feed(driver, cut(part, body_of(part, payload), 1448))
    assert delivered(driver) == [payload]


SIZES = {
    "beyond the end": [(96, 96, False), (192, 96, True), (0, 96, True)],
    "two ends": [(0, 96, True), (192, 96, False), (96, 48, False)],
    "end before what came": [(96, 96, True), (0, 96, True), (96, 40, False)],
    "longer last": [(192, 96, False), (192, 104, False)],
}


@both
@pytest.mark.parametrize("name", SIZES)
def test_fragment_that_contradicts_the_size_drops_its_datagram(driver, part, name):
    body = body_of(part, bytes(400))
    feed(driver, [part(body[at : at + n], at, more) for at, n, more in SIZES[name]])
    counters = driver.counters()
    assert delivered(driver) == []
    assert counters.get("fragment_bad_size", 0) == 1
    assert "fragment_size_inconsistency" in driver.anomalies()


@both
def test_small_fragment_before_the_last_is_told(driver, part):
    """Row 55; the datagram counts all the same."""
    feed(driver, cut(part, body_of(part, WORDS[:120]), 56))
    assert driver.anomalies() == ["excessively_small_fragment"] * 2
    assert delivered(driver) == [WORDS[:120]]


def test_fragment_with_df_is_told_and_counts(driver):
    feed(driver, cut(part4, body_of(part4, WORDS[:200]), 104, flags=DF))
    assert driver.anomalies() == ["fragment_with_DF"] * 2
    assert delivered(driver) == [WORDS[:200]]


@both
def test_fragment_without_bytes_is_dropped(driver, part):
    feed(driver, [part(b"", 0, True), part(b"", 64, False)])
    assert driver.counters()["fragment_malformed"] == 2
    assert driver.usage()["datagrams"] == 0


def test_ip6_fragment_of_no_whole_units_is_discarded(driver):
    body = body_of(part6, WORDS[:200])
    feed(
        driver,
        [part6(body[:101], 0, True), part6(body[:104], 0, True), part6(body[104:], 104, False)],
    )
    assert driver.counters()["fragment_malformed"] == 1
    assert "fragment_malformed" in driver.anomalies()
    assert delivered(driver) == [WORDS[:200]]


def test_ip4_fragment_of_no_whole_units_counts_by_its_units(driver):
    """Linux and the BSDs round down."""
    body = body_of(part4, WORDS[:200])
    feed(driver, [part4(body[:109], 0, True), part4(body[104:], 104, False)])
    assert delivered(driver) == [WORDS[:200]]
    assert "fragment_malformed" in driver.anomalies()


# ---- IPv6 chains: row 53 -------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [8, 16])
def test_tiny_first_fragment_without_the_tcp_header_is_put_together(driver, part, size):
    hosts = ENDS if part is part4 else ENDS6
    segment = tcp(40000, 80, 100, 0, SYN, ends=hosts)
    feed(driver, cut(part, segment, size, protocol=TCP))
    assert [flow.look()["client"][1] for flow in driver.flows] == [40000]
    assert set(driver.anomalies()) == {"excessively_small_fragment"}


def test_ip6_atomic_fragment_is_processed_alone(driver):
    """RFC 6946: whatever else has its identification."""
    body = body_of(part6, WORDS[:200])
    alone = body_of(part6, b"alone")
    feed(
        driver, [part6(body[:104], 0, True), part6(alone, 0, False), part6(body[104:], 104, False)]
    )
    assert delivered(driver) == [b"alone", WORDS[:200]]
    assert driver.counters()["fragments"] == 2


@pytest.mark.parametrize("inside", [False, True])
def test_ip6_extension_headers_on_both_sides_of_the_fragment_header_are_walked(driver, inside):
    """In front of it they stay; behind it they are part of what is cut."""
    body = body_of(part6, WORDS[:200])
    before = [extension(0, bytes(6)), extension(60, bytes(6 + 16))]
    first = UDP
    if inside:
        kind, rest = extension(60, bytes(6 + 8))
        body, first = bytes([UDP]) + rest + body, kind
    feed(driver, cut(part6, body, 64, before=before, protocol=first))
    assert delivered(driver) == [WORDS[:200]]


def test_ip6_header_chain_itself_in_fragments_is_put_together(driver):
    """The upper-layer header comes only in the third fragment."""
    body = body_of(part6, WORDS[:64])
    kind, rest = extension(60, bytes(6 + 16))
    chain = bytes([kind]) + rest + bytes([UDP]) + rest
    feed(driver, cut(part6, chain + body, 16, protocol=kind))
    assert delivered(driver) == [WORDS[:64]]


@pytest.mark.parametrize(("levels", "whole"), [(2, True), (4, True), (5, False)])
def test_fragments_inside_fragments_are_bounded_in_depth(driver, levels, whole):
    body, protocol = body_of(part6, WORDS[:64]), UDP
    for ident in range(levels):  # the rest of each is what the next one cuts
        driver.input(part6(body[:8], 0, True, ident=ident, protocol=protocol), START)
        body = bytes([protocol]) + fragment6(1, False, ident)[1] + body[8:]
        protocol = 44
    driver.input(ethernet(ipv6(body, *ENDS6, protocol), IP6), START + SECOND)
    assert delivered(driver) == [WORDS[:64]] * whole


# ---- time and memory: row 54 ---------------------------------------------------------------------


@pytest.mark.parametrize(("part", "patience"), [(part4, 30), (part6, 60)])
def test_fragments_wait_for_their_time_from_the_first_on(driver, part, patience):
    frames = cut(part, body_of(part, WORDS[:400]), 136)
    feed(driver, frames[:2])
    driver.input(frames[2], START + patience * SECOND - 1)
    assert delivered(driver) == [WORDS[:400]]
    feed(driver, frames[:2], START + 100 * SECOND)
    driver.input(frames[2], START + (100 + patience) * SECOND)
    assert driver.counters()["reassembled"] == 1
    assert driver.counters()["fragment_timeouts"] == 1


@both
def test_fragments_without_successors_go_when_time_passes(driver, part):
    feed(driver, cut(part, body_of(part, WORDS[:400]), 136)[:2])
    assert driver.usage()["datagrams"] == 1
    driver.tick(START + 61 * SECOND)
    assert driver.usage()["datagrams"] == 0
    assert driver.usage()["fragment_bytes"] == 0
    assert driver.counters()["fragment_timeouts"] == 1


def test_fragments_left_at_the_end_are_counted(driver):
    feed(driver, cut(part4, body_of(part4, WORDS[:400]), 136)[:2])
    driver.close_all()
    assert driver.counters()["fragment_unfinished"] == 1


@both
def test_fragment_flood_stays_in_its_budget_and_sheds_the_oldest(part):
    """Row 54."""
    budget = 1 << 20
    driver = CoreDriver(fragment_memory=budget, fragment_datagrams=1 << 16)
    for ident in range(20_000):
        driver.input(part(WORDS[:1400], 8, True, ident=ident), START + ident)
        if ident % 1000 == 0:
            assert driver.usage()["buffer_bytes"] <= budget
    held, counters = driver.usage(), driver.counters()
    assert held["buffer_bytes"] == held["fragment_bytes"] <= budget
    assert held["buffer_bytes_peak"] <= budget
    assert counters["fragment_shed"] + held["datagrams"] == 20_000
    # the youngest are there: this completes one of them
    body = body_of(part, WORDS[:1400])
    feed(driver, cut(part, body, 704, ident=50_000), START + SECOND)
    assert delivered(driver) == [WORDS[:1400]]
    assert_idle(driver)


def test_fragment_flood_stays_in_its_number_of_datagrams():
    driver = CoreDriver(fragment_datagrams=100)
    for ident in range(5_000):
        driver.input(part4(WORDS[:64], 8, True, ident=ident), START + ident)
    assert driver.usage()["datagrams"] == 100
    assert driver.counters()["fragment_shed"] == 4_900
    assert_idle(driver)


def test_fragment_offsets_promise_no_memory(driver):
    """What is held follows what came, not where it says that it belongs."""
    for ident in range(100):
        driver.input(part4(WORDS[:64], 60_000, True, ident=ident), START)
    assert driver.usage()["fragment_bytes"] < 100 * 600


def test_fragments_refused_by_the_core_budget_are_dropped():
    small = CoreDriver(memory=4096)
    feed(small, cut(part4, body_of(part4, WORDS), 1480))
    feed(small, cut(part4, body_of(part4, WORDS[:300]), 160, ident=8))
    assert small.counters()["fragment_refused"] == 1
    assert delivered(small) == [WORDS[:300]]
    assert_idle(small)


@both
@pytest.mark.parametrize("policy", ["discard", "first", "last"])
def test_any_fragments_at_all_leave_nothing_behind(part, policy):
    chance = random.Random(policy)
    driver = CoreDriver(fragments=policy, fragment_memory=1 << 16, fragment_datagrams=20)
    for i in range(3000):
        data = chance.randbytes(chance.choice([0, 1, 8, 16, 17, 64, 200, 1400]))
        offset = chance.choice([0, 0, 8, 16, 64, 200, 1400, 8000, 65528])
        frame = part(data, offset, chance.random() < 0.7, ident=chance.randrange(30))
        driver.input(frame, START + i * MILLISECOND * chance.choice([1, 1, 1, 30]))
        assert driver.usage()["fragment_bytes"] <= 1 << 16
    assert driver.usage()["datagrams"] <= 20
    assert_idle(driver)


# ---- options -------------------------------------------------------------------------------------


def test_option_with_no_such_policy_is_refused():
    with pytest.raises(ValueError, match="fragments='maybe': it is one of 'discard'"):
        CoreDriver(fragments="maybe")
