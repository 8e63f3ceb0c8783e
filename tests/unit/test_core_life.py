"""Flows by the clock and in numbers: expiry, budgets, full buffers, UDP, counters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine import names
from aiomos._engine._testcore import CoreDriver
from aiomos._engine._teststorage import FLOW_SIZE, HOT_FLOW_SIZE

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    ARP,
    CLIENT,
    FIN,
    ICMP,
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

TICK = 1 << 20
YEAR = 365 * 24 * 3600 * SECOND


@pytest.fixture
def talk(driver):
    return Talk(driver.input)


def open_flow(talk):
    talk.handshake()


def embryonic(talk):
    talk.c(flags=SYN)


def half_closed(talk):
    talk.handshake()
    talk.c(flags=FIN | ACK)


def handshake_unfinished(talk):
    talk.step = 0
    talk.c(flags=SYN)
    talk.s(flags=SYN | ACK)
    talk.step = MILLISECOND


def one_sided(talk):
    talk.c(b"nobody answers")


def both_fins(talk):
    """All that is missing is the last acknowledgement."""
    half_closed(talk)
    talk.s(flags=FIN | ACK)


LIMITS = [
    (embryonic, 5),
    (handshake_unfinished, 5),
    (open_flow, 3600),
    (half_closed, 600),
    (both_fins, 120),
]


# ---- expiry ----


@pytest.mark.parametrize(("state", "seconds"), [*LIMITS, (one_sided, 600)])
@pytest.mark.parametrize("at", [START, 0, 5 * SECOND])
def test_idle_flow_expires_at_the_limit_of_its_state(driver, state, seconds, at):
    talk = Talk(driver.input, at=at)
    state(talk)
    last = round(driver.core.now * SECOND) // MILLISECOND * MILLISECOND
    driver.tick(last + seconds * SECOND - MILLISECOND)
    assert driver.counters().get("flows_closed", 0) == 0
    driver.tick(last + seconds * SECOND + 2 * MILLISECOND)
    assert driver.flows[0].events[-1] == ("close", "TIMEOUT")
    assert driver.usage()["flow_entries"] == 0


@pytest.mark.parametrize(("state", "seconds"), LIMITS)
def test_packet_before_the_limit_prolongs(driver, talk, state, seconds):
    state(talk)
    for _ in range(3):
        talk.rest(seconds - 1)
        talk.say(SERVER, ACK, at=-1)
    assert driver.counters().get("flows_closed", 0) == 0
    assert len(driver.flows) == 1


def test_limits_of_other_lengths_hold():
    driver = CoreDriver(
        embryonic=5,
        established=30,
        half_closed=10,
        closing=20,
        time_wait=2,
        udp_idle=7,
        one_sided=15,
    )
    for i, (state, _) in enumerate([*LIMITS, (one_sided, 0)]):
        state(Talk(driver.input, client=("10.0.0.1", 1000 + i)))
    driver.input(datagram(b"x"), START + SECOND)
    closed = []
    for second in range(2, 40):
        driver.tick(START + second * SECOND)
        closed.append(driver.counters().get("flows_closed", 0))
    assert [closed.index(n) + 2 for n in (2, 3, 4, 5, 6, 7)] == [6, 9, 11, 16, 21, 31]
    assert_idle(driver)


def test_one_sided_flow_whose_other_end_speaks_up_lives_as_long_as_any(driver, talk):
    one_sided(talk)
    talk.rest(500)
    talk.s(b"late")
    driver.tick(talk.now + 3500 * SECOND)
    assert driver.flows[0].events[-1][0] != "close"
    driver.tick(talk.now + 3601 * SECOND)
    assert driver.flows[0].events[-1] == ("close", "TIMEOUT")


def test_syn_sent_again_and_again_is_one_flow(driver, talk):
    """Linux: after 1, 3, 7, 15, 31 and 63 seconds (RFC 6298), given up at 127."""
    for second in (0, 1, 3, 7, 15, 31, 63):
        talk.now = START + second * SECOND
        talk.c(flags=SYN, at=-1)
    assert driver.counters()["flows"] == 1
    driver.tick(START + 127 * SECOND)
    assert driver.usage()["flows"] == 1
    driver.tick(START + 132 * SECOND)
    assert driver.flows[0].events[-1] == ("close", "TIMEOUT")


def test_syn_sent_for_hours_has_a_bounded_rest(driver, talk):
    for second in range(0, 7200, 100):
        talk.now = START + second * SECOND
        talk.c(flags=SYN, at=-1)
    driver.tick(START + 7100 * SECOND + 126 * SECOND)
    assert driver.usage()["flows"] == 0


def test_expired_tcp_flow_goes_on_as_a_new_one(driver, talk):
    talk.handshake()
    talk.c(b"before")
    talk.rest(3700)
    talk.c(b"after")
    talk.s(b"answer")
    assert [log.items for log in driver.flows] == [([b"before"], []), ([b"after"], [b"answer"])]


def test_embryonic_expiry_lets_a_late_handshake_through(driver, talk):
    talk.c(flags=SYN)
    talk.rest(32)
    talk.handshake()
    talk.c(b"hello")
    assert driver.flows[-1].items[CLIENT] == [b"hello"]


def test_old_active_flow_in_front_of_idle_ones_holds_none_of_them_up(driver):
    """Each flow expires at its own time, whatever the one before it does."""
    old = Talk(driver.input)
    old.handshake()
    for i in range(50):
        Talk(driver.input, client=("10.0.1.1", 1000 + i), at=START + i * SECOND).handshake()
    gone = {}
    for second in range(60, 3700):
        old.now = START + second * SECOND
        old.c(b"x")
        for i, log in enumerate(driver.flows[1:]):
            if log.reason and i not in gone:
                gone[i] = second
    assert gone == {i: 3601 + i for i in range(50)}
    assert driver.flows[0].reason == ""


def test_flows_in_time_wait_cost_one_look_each(driver):
    """However many have closed, packets of others do not walk over them."""
    closed = 5000
    for i in range(closed):
        talk = Talk(driver.input, client=("10.0.1.1", 1000 + i), at=START)
        talk.step = 1000
        talk.handshake()
        talk.close()
    before = driver.usage()["timer_looks"]
    busy = Talk(driver.input, at=START + SECOND)
    busy.handshake()
    for _ in range(5000):
        busy.c(b"x")
    assert driver.usage()["timer_looks"] - before <= 1
    driver.tick(START + 70 * SECOND)
    assert driver.usage()["timer_looks"] - before <= closed + 1
    assert driver.usage()["flow_entries"] == 1


def test_jump_of_ten_years_expires_everything(driver):
    for i in range(200):
        Talk(driver.input, client=("10.0.0.1", 1000 + i), at=START + i * SECOND).handshake()
    driver.tick(START + 10 * YEAR)
    assert driver.counters()["flows_closed"] == 200
    assert driver.usage()["timers"] == 0


def on_clock(driver):
    """Frames whose times are stamps of a capture, which the engine's clock judges."""
    return lambda frame, ns: driver.burst([(frame, ns)], clocked=True)


@pytest.mark.parametrize("step", [-30, -10 * 365 * 86400, 0])
def test_stamps_that_step_back_expire_nothing(driver, step):
    """Row 47: the clock of the capture is set back, by seconds or by years."""
    talks = [Talk(on_clock(driver), client=("10.0.0.1", 1000 + i)) for i in range(100)]
    for talk in talks:
        talk.handshake()
    frames = [(talk.segment(CLIENT, ACK, b"x"), talk.now + step * SECOND) for talk in talks]
    for i in range(0, 100, 50):
        driver.burst(frames[i : i + 50], clocked=True)
    assert driver.counters().get("flows_closed", 0) == 0
    assert all(log.data(CLIENT) == b"x" for log in driver.flows)


def test_one_stamp_years_ahead_expires_nothing(driver):
    talks = [Talk(on_clock(driver), client=("10.0.0.1", 1000 + i)) for i in range(60)]
    for talk in talks:
        talk.handshake()
    frames = [(talk.segment(CLIENT, ACK, b"x"), talk.now) for talk in talks]
    frames[30] = frames[30][0], frames[30][1] + 48 * YEAR
    driver.burst(frames, clocked=True)
    assert driver.counters().get("flows_closed", 0) == 0


def test_flows_expire_in_the_order_of_their_last_packets(driver):
    talks = [Talk(driver.input, client=("10.0.0.1", 1000 + i), at=START) for i in range(20)]
    for talk in talks:
        talk.handshake()
    for i, talk in enumerate(reversed(talks)):
        talk.now = START + (i + 1) * SECOND
        talk.c(b"x")
    order = []
    for second in range(3600, 3630):
        driver.tick(START + second * SECOND)
        order += [
            log.client[1] for log in driver.flows if log.reason and log.client[1] not in order
        ]
    assert order == [1019 - i for i in range(20)]


# ---- bounds ----


def test_table_full_new_flows_are_refused_and_old_ones_go_on():
    driver = CoreDriver(max_flows=10)
    talks = [Talk(driver.input, client=("10.0.0.1", 1000 + i)) for i in range(15)]
    for talk in talks:
        talk.handshake()
        talk.c(b"still ")
    assert driver.counters()["flows"] == 10
    assert driver.counters()["table_full"] >= 5
    talks[3].c(b"fine")
    assert driver.flows[3].items[CLIENT] == [b"still fine"]
    talks[3].close()
    driver.tick(talks[3].now + 61 * SECOND)
    talks[12].now = talks[3].now + 62 * SECOND
    talks[12].c(b"now there is room")
    assert driver.flows[-1].items[CLIENT] == [b"now there is room"]
    assert_idle(driver)


def test_syn_flood_costs_entries_and_nothing_else(driver):
    driver.burst([])
    for i in range(0, 20_000, 64):
        frames = [
            ethernet(ipv4(tcp(1024 + j % 60_000, 80, j, flags=SYN), f"10.1.{j % 250}.{j % 199}"))
            for j in range(i, i + 64)
        ]
        driver.burst([(frame, START + i) for frame in frames])
    assert driver.usage()["blocks"] == 0
    assert driver.usage()["heap_calls"] == 0
    assert driver.counters()["flows"] > 19_000
    driver.tick(START + 21 * SECOND)
    assert driver.usage()["flows"] == 0


def test_mass_expiry_overfills_the_records_and_loses_none():
    driver = CoreDriver(start="syn")
    talks = [Talk(driver.input, client=("10.0.0.1", 1000 + i), at=START) for i in range(5000)]
    for talk in talks:
        talk.c(flags=SYN)
    driver.input(datagram(b"x"), START + 30 * SECOND)
    assert driver.interruptions >= 4
    assert driver.counters()["flows_closed"] == 5000
    closes = [[event for event in log.events if event[0] == "close"] for log in driver.flows]
    assert closes[:5000] == [[("close", "TIMEOUT")]] * 5000
    assert_idle(driver)


def test_mass_close_overfills_the_records_and_loses_none():
    driver = CoreDriver()
    for i in range(3000):
        talk = Talk(driver.input, client=("10.0.0.1", 1000 + i), at=START)
        talk.handshake()
        talk.skip(CLIENT, 5)
        talk.c(b"x")
    driver.close_all("SHUTDOWN")
    assert driver.interruptions >= 8
    assert all(log.events[-1] == ("close", "SHUTDOWN") for log in driver.flows)
    assert all(log.items[CLIENT] == [(0, 5, "lost"), b"x"] for log in driver.flows)
    assert_idle(driver)


def test_entries_are_used_again():
    driver = CoreDriver(max_flows=100)
    now = START
    for i in range(1000):
        talk = Talk(driver.input, client=("10.0.0.1", 1000 + i), at=now)
        talk.handshake()
        talk.c(b"%d" % i)
        talk.close()
        now = talk.now + SECOND
    assert driver.counters()["flows"] == 1000
    assert "table_full" not in driver.counters()
    assert [log.data(CLIENT) for log in driver.flows] == [b"%d" % i for i in range(1000)]
    assert len({log.id for log in driver.flows}) == 1000
    assert_idle(driver)


def test_side_at_its_limit_ends_the_burst():
    driver = CoreDriver(reading=False)
    talk = Talk(driver.input)
    talk.handshake((window_scale(7), window_scale(7)))
    talk.s()
    frames = [talk.segment(CLIENT, ACK, b"x" * 10_000) for _ in range(20)]
    driver.burst([(frame, talk.now) for frame in frames])
    assert driver.interruptions == 20 - 6
    driver.close_all()
    assert driver.flows[0].data(CLIENT) == b"x" * 200_000


def test_flow_fits_its_budget():
    assert HOT_FLOW_SIZE == 128
    assert FLOW_SIZE <= 384


def test_steady_traffic_asks_for_no_memory(driver, talk):
    talk.handshake()
    talk.c(b"x" * 1000)
    talk.s(b"y" * 1000)
    before = driver.usage()["heap_calls"]
    for _ in range(200):
        talk.c(b"x" * 1000)
        talk.s(b"y" * 1000)
    assert driver.usage()["heap_calls"] == before


# ---- UDP ----


def udp(driver, payload, seconds, back=False):
    ends = [("10.0.0.1", 5000), ("10.0.0.2", 53)]
    if back:
        ends.reverse()
    driver.input(datagram(payload, *ends), START + round(seconds * SECOND))


def test_udp_datagrams_of_both_ends_wait_in_order(driver):
    udp(driver, b"query", 0)
    udp(driver, b"answer", 0.5, back=True)
    udp(driver, b"", 1)
    (log,) = driver.flows
    assert log.datagrams == [
        (CLIENT, b"query", START),
        (SERVER, b"answer", START + SECOND // 2),
        (CLIENT, b"", START + SECOND),
    ]
    assert log.client[1] == 5000
    assert [half["packets"] for half in log.half] == [2, 1]


def test_udp_idle_flow_expires(driver):
    udp(driver, b"query", 0)
    driver.tick(START + 60 * SECOND - 1)
    assert driver.flows[0].reason == ""
    driver.tick(START + 60 * SECOND + 2 * TICK)
    assert driver.flows[0].events[-1] == ("close", "TIMEOUT")
    assert driver.usage()["flow_entries"] == 0


def test_udp_every_64_seconds_is_a_flow_each(driver):
    """NTP's own rhythm: the packet that brings the time of its flow's expiry is a new flow's."""
    for i in range(5):
        udp(driver, b"%d" % i, 64 * i)
    assert [log.datagrams[0][1] for log in driver.flows] == [b"0", b"1", b"2", b"3", b"4"]


def test_udp_every_50_seconds_is_one_flow(driver):
    for i in range(5):
        udp(driver, b"%d" % i, 50 * i)
    assert len(driver.flows) == 1
    assert len(driver.flows[0].datagrams) == 5


def test_udp_queue_is_bounded_and_drops_are_counted():
    driver = CoreDriver(reading=False)
    for i in range(1000):
        udp(driver, b"x" * 1400, i / 1000)
    driver.close_all()
    kept = len(driver.flows[0].datagrams)
    assert driver.counters()["udp_dropped"] == 1000 - kept
    assert 1 << 20 <= kept * (1400 + 16) <= (1 << 20) + 1500
    assert_idle(driver)


def test_udp_memory_refused_keeps_the_queue_whole():
    driver = CoreDriver(reading=False, memory=256 + 2048)
    for i in range(10):
        udp(driver, b"%d" % i * 500, i)
    driver.close_all()
    kept = [data for _, data, _ in driver.flows[0].datagrams]
    assert kept == [b"%d" % i * 500 for i in range(3)]
    assert driver.counters()["memory_refused"] == 7
    assert_idle(driver)


@pytest.mark.parametrize("sides", [1, 2, 3])
def test_udp_any_side_wanted_brings_both(sides):
    driver = CoreDriver(sides=sides)
    udp(driver, b"query", 0)
    udp(driver, b"answer", 1, back=True)
    assert len(driver.flows[0].datagrams) == 2
    assert_idle(driver)


# ---- counters ----


def test_every_frame_is_counted_by_what_became_of_it(driver, talk):
    talk.handshake()
    udp(driver, b"x", 0)
    for frame, link in [
        (ethernet(bytes(46), ARP), 1),
        (ethernet(ipv4(b"\x08\0\0\0", protocol=ICMP)), 1),
        (ethernet(ipv4(tcp(), fragment=0x2000)), 1),
        (b"\0", 1),
        (b"\0", 147),
    ]:
        driver.input(frame, talk.now, link_type=link)
    counters = driver.counters()
    assert counters["frames"] == 9 == sum(counters.get(name, 0) for name in names.STATUSES)
    assert counters["tcp"] == 3
    for name in ("udp", "not_ip", "other_ip", "fragments", "bad_link_header", "unknown_link_type"):
        assert counters[name] == 1
    assert counters["flows"] == 2
    assert counters["bytes"] > 0


def test_names_are_as_many_as_the_engine_counts():
    counters = CoreDriver().core.counters()
    assert set(names.COUNTERS) | set(names.STATUSES) <= set(counters)
    assert len(set(names.COUNTERS + names.STATUSES)) == len(names.COUNTERS) + len(names.STATUSES)


def test_usage_of_an_idle_core_is_zero():
    assert_idle(CoreDriver())
