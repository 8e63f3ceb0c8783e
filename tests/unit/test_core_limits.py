"""Bounds and what gives way: handshakes, the table, memory; floods of each kind."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest

from aiomos._engine._testcore import CoreDriver
from aiomos._engine._testframes import decode
from aiomos._engine._teststorage import FLOW_SIZE

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    MILLISECOND,
    SECOND,
    SERVER,
    START,
    SYN,
    Talk,
    assert_idle,
    datagram,
    ethernet,
    ipv4,
    tcp,
    window_scale,
)


def talk_to(driver, number, **fields):
    return Talk(driver.input, client=(f"10.0.{number >> 8}.{number & 255}", 40000), **fields)


def open_flows(driver, n, at=START, step=MILLISECOND):
    """Handshakes one after the other, one byte of the client each."""
    talks = []
    for number in range(n):
        talk = talk_to(driver, number, at=at + number * step)
        talk.step = 0
        talk.handshake()
        talk.c(b"x")
        talks.append(talk)
    return talks


def reasons(driver):
    return [log.reason for log in driver.flows]


def spoofed_syns(n, seed=1):
    """SYNs of as many addresses, each frame cut from one that is right."""
    rng = random.Random(seed)
    frame = bytearray(ethernet(ipv4(tcp(1024, 80, 1, flags=SYN))))
    for _ in range(n):
        struct.pack_into(">I", frame, 26, rng.getrandbits(32))
        struct.pack_into(">H", frame, 34, rng.getrandbits(16))
        yield bytes(frame)


def flood(driver, frames, at, rate=100_000):
    """Frames at so many a second, in bursts of 64; the time behind the last."""
    batch = []
    for frame in frames:
        at += SECOND // rate
        batch.append((frame, at))
        if len(batch) == 64:
            driver.burst(batch)
            batch = []
    driver.burst(batch)
    return at


# ---- handshakes ----


def test_embryonic_full_oldest_handshake_goes_and_readers_are_told():
    driver = CoreDriver(max_embryonic=5, start="syn")
    for number in range(8):
        talk_to(driver, number, at=START + number).c(flags=SYN)
    assert reasons(driver) == ["EVICTED"] * 3 + [""] * 5
    assert driver.flows[0].events[-1] == ("close", "EVICTED")
    assert driver.counters()["evicted_embryonic"] == 3
    assert driver.usage()["embryonic"] == 5
    assert_idle(driver)


def test_embryonic_full_refuse_lets_the_old_ones_be():
    driver = CoreDriver(max_embryonic=5, on_embryonic_full="refuse")
    talks = [talk_to(driver, number) for number in range(8)]
    for talk in talks:
        talk.c(flags=SYN)
    assert reasons(driver) == [""] * 5
    assert driver.counters()["embryonic_full"] == 3
    talks[0].s(flags=SYN | ACK)
    talks[0].c(b"hello")
    talk_to(driver, 9).c(flags=SYN)
    assert driver.counters()["flows"] == 6
    assert_idle(driver)


def test_embryonic_full_says_nothing_to_flows_that_are_picked_up():
    driver = CoreDriver(max_embryonic=2)
    for number in range(2):
        talk_to(driver, number).c(flags=SYN)
    talk_to(driver, 5).c(b"in the middle")
    assert driver.usage() | {"flows": 3, "embryonic": 2} == driver.usage()
    assert "evicted_embryonic" not in driver.counters()


@pytest.mark.parametrize(
    ("cap", "spoofed"), [(10_000, 100_000), pytest.param(50_000, 10**6, marks=pytest.mark.full)]
)
def test_syn_flood_leaves_established_flows_alone_and_makes_no_reader(cap, spoofed):
    """Row 38: no handler begins, the table keeps to its cap."""
    driver = CoreDriver(max_embryonic=cap, max_flows=cap + 200)
    talks = open_flows(driver, 100)
    most = 0
    at = talks[-1].now
    for part in range(10):
        at = flood(driver, spoofed_syns(spoofed // 10, seed=part), at)
        most = max(most, driver.usage()["flows"])
        for talk in talks:
            talk.now = at
            talk.c(b"y")
            talk.s(b"z")
    assert most <= cap + 100
    assert sum(log.start is not None for log in driver.flows) == 100
    assert reasons(driver)[:100] == [""] * 100
    assert all(log.data(CLIENT) == b"x" + b"y" * 10 for log in driver.flows[:100])
    assert driver.counters()["evicted_embryonic"] >= spoofed - cap - 5
    assert driver.usage()["blocks"] == 200
    driver.tick(at + 6 * SECOND)
    assert driver.usage()["flows"] == 100


def test_spoofed_syn_stands_for_five_seconds():
    driver = CoreDriver()
    flood(driver, spoofed_syns(1000), START)
    driver.tick(START + 4900 * MILLISECOND)
    assert driver.usage()["flows"] == 1000
    driver.tick(START + 5100 * MILLISECOND)
    assert driver.usage()["flows"] == 0
    assert driver.usage()["blocks"] == driver.usage()["heap_calls"] == 0


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_what_a_flood_evicts_does_not_depend_on_bursts(burst):
    frames = []
    noise = [(frame, START + i * MILLISECOND) for i, frame in enumerate(spoofed_syns(3000))]
    for number in range(200):
        talk = Talk(lambda raw, ns: frames.append((raw, ns)), at=START + number * 7 * MILLISECOND)
        talk.ends[CLIENT].port = 1000 + number
        talk.handshake()
        talk.c(b"x")
        if number % 3 == 0:
            talk.close()
    frames = sorted(frames + noise, key=lambda frame: frame[1])
    told = []
    for size in (64, burst):
        driver = CoreDriver(max_embryonic=50, max_flows=120, evict_idle=0.05)
        for i in range(0, len(frames), size):
            driver.burst(frames[i : i + size])
        told.append([(log.id, log.client, log.reason, log.data(CLIENT)) for log in driver.flows])
        counters = driver.counters()
        assert counters["evicted_embryonic"]
        assert counters["evicted_lingering"]
        assert counters["evicted_idle"]
        assert driver.usage()["flows"] <= 120
        assert_idle(driver)
    assert told[0] == told[1]


# ---- the table ----


def test_table_full_of_active_flows_refuses_new_ones():
    driver = CoreDriver(max_flows=10)
    talks = open_flows(driver, 10)
    talk_to(driver, 50, at=talks[-1].now + 500 * MILLISECOND).c(flags=SYN)
    assert driver.counters()["flows"] == 10
    assert driver.counters()["table_full"] == 1


def test_table_full_longest_idle_flow_goes_for_a_new_one():
    driver = CoreDriver(max_flows=10)
    talks = open_flows(driver, 10)
    for number, talk in enumerate(talks):
        if number != 6:
            talk.now = START + 20 * SECOND
            talk.c(b"y")
    talk_to(driver, 50, at=START + 30 * SECOND).handshake()
    assert [i for i, reason in enumerate(reasons(driver)) if reason] == [6]
    assert driver.flows[6].events[-1] == ("close", "EVICTED")
    assert driver.flows[6].data(CLIENT) == b"x"
    assert driver.counters()["evicted_idle"] == 1
    assert_idle(driver)


def test_table_full_closed_flows_entries_go_first():
    driver = CoreDriver(max_flows=10)
    talks = open_flows(driver, 10)
    talks[7].close()
    talks[3].close()
    for number in (50, 51):
        talk_to(driver, number, at=START + 30 * SECOND).handshake()
    assert driver.counters()["evicted_lingering"] == 2
    assert sorted(reasons(driver)) == [""] * 10 + ["FIN"] * 2
    assert_idle(driver)


def test_table_full_flow_without_data_goes_before_one_with():
    driver = CoreDriver(max_flows=3)
    talks = open_flows(driver, 2)
    mute = talk_to(driver, 8, at=START + 5 * SECOND)
    mute.handshake()
    talk_to(driver, 9, at=START + 7 * SECOND).handshake()
    assert reasons(driver) == ["", "", "EVICTED", ""]
    assert talks


def test_table_full_refuse_keeps_idle_flows():
    driver = CoreDriver(max_flows=10, on_flows_full="refuse")
    open_flows(driver, 10)
    talk_to(driver, 50, at=START + 30 * SECOND).c(flags=SYN)
    assert driver.counters()["table_full"] == 1
    assert reasons(driver) == [""] * 10


def test_table_full_of_handshakes_just_begun_gives_the_oldest_of_them():
    driver = CoreDriver(max_flows=10)
    for number in range(11):
        talk_to(driver, number, at=START + number).c(flags=SYN)
    assert reasons(driver) == ["EVICTED"] + [""] * 10


def test_table_full_udp_flow_goes_too_and_its_reader_is_told():
    driver = CoreDriver(max_flows=2)
    for number in range(2):
        driver.input(datagram(b"a", (f"10.0.0.{number + 1}", 5000)), START + number)
    driver.input(datagram(b"b", ("10.0.0.9", 5000)), START + 2 * SECOND)
    assert reasons(driver) == ["EVICTED", "", ""]
    assert driver.flows[0].events[-1] == ("close", "EVICTED")
    assert_idle(driver)


def test_flow_evicted_with_a_hole_tells_the_gap_first():
    driver = CoreDriver(max_flows=1)
    talk = talk_to(driver, 0)
    talk.handshake()
    talk.skip(CLIENT, 100)
    talk.c(b"behind the hole")
    talk_to(driver, 1, at=START + 10 * SECOND).handshake()
    assert driver.flows[0].items[CLIENT] == [(0, 100, "lost"), b"behind the hole"]
    assert reasons(driver) == ["EVICTED", ""]


def test_evicted_flow_goes_on_as_one_picked_up():
    driver = CoreDriver(max_flows=1)
    talk = talk_to(driver, 0)
    talk.handshake()
    talk.c(b"before")
    talk_to(driver, 1, at=START + 10 * SECOND).handshake()
    talk.now = START + 20 * SECOND
    talk.c(b"after")
    assert [log.data(CLIENT) for log in driver.flows] == [b"before", b"", b"after"]
    assert_idle(driver)


def test_flood_of_handshakes_takes_the_place_of_its_own_kind():
    """Row 39: real handshakes and not a byte. Flows that talk stay, memory stays in its bounds."""
    cap = 2000
    driver = CoreDriver(max_flows=cap)
    talks = open_flows(driver, 50)
    at = talks[-1].now
    for number in range(1000, 9000):
        at += MILLISECOND
        mute = talk_to(driver, number, at=at)
        mute.step = 0
        mute.handshake()
        if number % 500 == 0:
            for talk in talks:
                talk.now = at
                talk.c(b"y")
    assert reasons(driver)[:50] == [""] * 50
    assert driver.usage()["flows"] <= cap
    assert driver.counters()["evicted_idle"] == 8000 + 50 - cap
    assert "table_full" not in driver.counters()


@pytest.mark.parametrize("statistics", [False, True])
def test_memory_of_open_flows_is_within_its_budget(statistics):
    """Row 39 and semantics.md 15: entry, key, trackers, timers, basic statistics: 384 bytes."""
    driver = CoreDriver(handlers=False, statistics=statistics)
    open_flows(driver, 5000)
    usage = driver.usage()
    assert usage["flows"] == 5000
    assert usage["flow_bytes"] / 5000 == FLOW_SIZE <= 384
    assert (usage["flow_bytes"] + usage["index_bytes"]) / 5000 <= 384
    assert usage["buffer_bytes"] == usage["stats_bytes"] == (5000 * 512 if statistics else 0)
    assert_idle(driver)


def test_entries_of_evicted_flows_are_used_again():
    driver = CoreDriver(max_flows=10, max_embryonic=10)
    flood(driver, spoofed_syns(5000), START)
    assert driver.usage()["flow_entries"] == 10
    assert driver.counters()["flows"] == 5000


# ---- memory ----


BUDGET = 1 << 20


def hoarders(driver, n, size=20_000):
    """Flows whose reader takes nothing of what the client says."""
    talks = []
    for number in range(n):
        talk = talk_to(driver, number, at=START + number * MILLISECOND)
        talk.step = 0
        talk.handshake((window_scale(7), window_scale(7)))
        talk.s()
        for _ in range(size // 1000):
            talk.c(b"h" * 1000)
        talks.append(talk)
    return talks


def test_memory_short_slow_readers_lose_what_they_did_not_read():
    driver = CoreDriver(memory=BUDGET, reading=False)
    hoarders(driver, 100)
    assert driver.counters()["shed_reader_bytes"] > 0
    assert "memory_refused" not in driver.counters()
    assert driver.usage()["memory_held"] <= BUDGET
    driver.close_all()
    assert all(log.reason == "CAPTURE_END" for log in driver.flows)
    assert any("memory" in str(log.items[CLIENT]) for log in driver.flows)
    for log in driver.flows:
        lost = sum(item[1] for item in log.gap_list(CLIENT))
        assert len(log.data(CLIENT)) + lost == 20_000
        assert {cause for _, _, cause in log.gap_list(CLIENT)} <= {"memory"}
    assert_idle(driver)


def test_memory_short_history_goes_before_anything_that_is_missed():
    """Delivered bytes are kept where somebody wants to hear of repeats; they go first."""
    driver = CoreDriver(memory=BUDGET, listen=["Retransmission"])
    talks = open_flows(driver, 380)
    for talk in talks:
        talk.now = START + SECOND
        talk.c(b"y" * 1400)
    counters = driver.counters()
    assert counters["shed_history_bytes"] > 0
    assert not [name for name in counters if name.startswith(("evicted", "shed_r", "shed_e"))]
    assert all(log.data(CLIENT) == b"x" + b"y" * 1400 for log in driver.flows)
    assert_idle(driver)


def test_memory_short_datagrams_in_fragments_go_before_anything_of_a_flow():
    """A flood of first fragments: oldest first, and all that it costs conversations is nothing."""
    driver = CoreDriver(memory=BUDGET)
    talk = talk_to(driver, 1)
    talk.handshake()
    talk.skip(CLIENT, 10)
    talk.c(b"e" * 5000)
    held = []
    for number in range(1500):
        part = ethernet(ipv4(b"f" * 1000, protocol=17, ident=number, fragment=0x2000))
        driver.input(part, START + SECOND)
        held.append(driver.usage()["memory_held"])
    counters = driver.counters()
    assert counters["shed_fragment_bytes"] > 0
    assert counters["fragment_shed"] * 1000 < counters["shed_fragment_bytes"]
    assert not [
        n
        for n in counters
        if n.startswith("evicted")
        or n in ("shed_early_bytes", "memory_refused", "fragment_refused")
    ]
    assert max(held) <= BUDGET
    rest = ethernet(ipv4(b"last", protocol=17, ident=1499, fragment=1000 >> 3))
    driver.input(rest, START + SECOND)
    assert driver.counters()["reassembled"] == 1
    assert_idle(driver)


def test_memory_short_history_in_front_of_unread_bytes_goes_too():
    """Readers that stop in the midst of a stream: what is known of its past goes, no byte of theirs."""
    driver = CoreDriver(memory=BUDGET, listen=["Retransmission"])
    talks = open_flows(driver, 50)
    for talk in talks:
        talk.c(b"r" * 7000)
    driver.reading = False
    for talk in talks:
        talk.c(b"u" * 1000)
    assert "shed_history_bytes" not in driver.counters()
    for number in range(500, 504):
        talk = talk_to(driver, number, at=START + SECOND)
        talk.handshake()
        for _ in range(20):
            talk.c(b"h" * 1000)
    counters = driver.counters()
    assert counters["shed_history_bytes"] > 0
    assert not [name for name in counters if name.startswith(("evicted", "shed_r", "shed_e"))]
    driver.reading = True
    driver.close_all()
    said = [log.data(CLIENT) for log in driver.flows]
    assert said == [b"x" + b"r" * 7000 + b"u" * 1000] * 50 + [b"h" * 20_000] * 4
    assert_idle(driver)


def test_memory_short_early_bytes_go_before_idle_flows():
    driver = CoreDriver(memory=BUDGET)
    for number in range(200):
        talk = talk_to(driver, number)
        talk.handshake()
        talk.skip(CLIENT, 10)
        for _ in range(10):
            talk.c(b"e" * 1000)
    counters = driver.counters()
    assert counters["shed_early_bytes"] > 0
    assert "evicted_idle" not in counters
    assert driver.usage()["memory_held"] <= BUDGET
    assert_idle(driver)


def test_memory_short_handshakes_go_before_readers_lose_anything():
    """SYNs with data (RFC 7413) hold memory before anybody is there to read it."""
    driver = CoreDriver(memory=BUDGET)
    for number in range(1000):
        talk_to(driver, number).c(b"d" * 1000, flags=SYN)
    counters = driver.counters()
    assert counters["evicted_embryonic"] > 0
    assert "shed_reader_bytes" not in counters
    assert driver.usage()["memory_held"] <= BUDGET
    assert_idle(driver)


def test_memory_short_idle_flows_go_when_there_is_nothing_else():
    driver = CoreDriver(memory=BUDGET, reading=False)
    for number in range(1000):
        talk = talk_to(driver, number, at=START + number * 10 * MILLISECOND)
        talk.handshake()
        talk.c(b"small")
    counters = driver.counters()
    assert counters["evicted_idle"] > 0
    assert "shed_reader_bytes" not in counters
    assert reasons(driver)[-1] == ""
    assert driver.usage()["memory_held"] <= BUDGET
    assert_idle(driver)


def test_memory_short_refuse_takes_no_new_flow():
    driver = CoreDriver(memory=BUDGET, reading=False, on_memory_full="refuse", evict_idle=1000)
    for number in range(1000):
        talk = talk_to(driver, number)
        talk.handshake()
        talk.c(b"small")
    assert driver.counters()["memory_full"] > 0
    assert driver.counters()["flows"] < 1000
    assert driver.usage()["memory_short"] is True
    assert_idle(driver)


def test_memory_returned_ends_the_shortage():
    driver = CoreDriver(memory=BUDGET, reading=False)
    hoarders(driver, 60)
    driver.close_all()
    driver.input(datagram(b"x"), START + 2 * SECOND)
    driver.input(datagram(b"x"), START + 3 * SECOND)
    assert driver.usage()["memory_short"] is False
    assert_idle(driver)


def test_memory_is_charged_to_its_owners():
    driver = CoreDriver(reading=False, statistics=True)
    talk = talk_to(driver, 0)
    talk.handshake()
    talk.c(b"r" * 3000)
    talk.skip(CLIENT, 10)
    talk.c(b"e" * 1000)
    usage = driver.usage()
    owners = [usage[f"{name}_bytes"] for name in ("reader", "early", "stats")]
    assert all(owners)
    assert sum(owners) == usage["buffer_bytes"] == usage["memory_held"]
    driver.close_all()
    driver.tick(talk.now + 100 * SECOND)
    usage = driver.usage()
    assert [usage[f"{name}_bytes"] for name in ("reader", "early", "stats")] == [0, 0, 0]


def test_cached_blocks_are_counted_and_never_exceed_the_budget():
    driver = CoreDriver(memory=BUDGET)
    for number in range(100):
        talk = talk_to(driver, number)
        talk.handshake()
        talk.skip(CLIENT, 10)
        for size in (100, 1000, 1400):
            talk.c(b"e" * size)
        talk.close(SERVER)
        held = driver.usage()
        assert held["cached_bytes"] + held["memory_held"] <= BUDGET
    assert_idle(driver)


# ---- the hash ----


KNOWN, SECRET = b"known".ljust(32, b"."), b"secret".ljust(32, b"-")


def index_of(frame, seed):
    return decode(frame, seed=seed)["hash"]


def test_tuples_that_collide_under_one_seed_spread_under_another():
    """Row 40: who knows the seed of one run knows nothing of another's."""
    slots = 1 << 12
    found = []
    for frame in spoofed_syns(200_000, seed=9):
        if index_of(frame, KNOWN) & (slots - 1) < 8:
            found.append(frame)
        if len(found) == 300:
            break
    assert len(found) == 300
    others = {index_of(frame, SECRET) & (slots - 1) for frame in found}
    assert len(others) > 250
    told = []
    for seed in (KNOWN, SECRET):
        driver = CoreDriver(seed=seed)
        flood(driver, found, START)
        told.append(driver.probe_most())
        assert driver.usage()["flows"] == 300
    assert told[0] >= 100
    assert told[1] <= 12


def test_seed_is_another_in_every_run():
    assert CoreDriver(seed=None).seed() != CoreDriver(seed=None).seed()
    assert CoreDriver(seed=b"a").seed() == CoreDriver(seed=b"a").seed()


def test_probe_lengths_stay_short_in_a_full_index():
    driver = CoreDriver(handlers=False)
    flood(driver, spoofed_syns(40_000), START)
    assert driver.probe_most() <= 64


@pytest.mark.parametrize("flags", [FIN | ACK, ACK])
def test_flood_of_spoofed_acks_does_not_push_out_conversations(flags):
    """One-sided flows go before those whose both ends were seen."""
    driver = CoreDriver(max_flows=1000, handlers=False)
    talks = open_flows(driver, 50)
    for talk in talks:
        talk.s(b"answer")
    frames = [frame[:47] + bytes([flags]) + frame[48:] for frame in spoofed_syns(20_000)]
    flood(driver, frames, START + 2 * SECOND, rate=1000)
    assert reasons(driver)[:50] == [""] * 50
