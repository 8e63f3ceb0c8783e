"""What is counted of a flow and of its ends: bytes, round trips, windows, options."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import aiomos
from aiomos._engine._testcore import CoreDriver

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    MILLISECOND,
    RST,
    SECOND,
    SYN,
    Talk,
    assert_idle,
    datagram,
    mss,
    sack_permitted,
    timestamp,
    window_scale,
)
from kit import START, Tape, aiomos_command, play, whole


def stats_of(script, *, statistics=True, reads=True):
    """The statistics of one conversation, after its end."""
    app = aiomos.App(statistics=statistics)
    found = []

    @app.tcp(start="syn", on_gap="skip")
    async def handler(flow):
        if reads:
            await flow.client.read()
            await flow.server.read()
        await flow.closed()
        found.append(flow.stats)

    play(app, script)
    (stats,) = found
    return stats


def plain(t):
    t.handshake()
    t.c(b"x" * 100)
    t.s(b"y" * 50)
    t.close()


# ---- bytes ----


def test_closed_counts_packets_and_bytes_of_each_end():
    stats = stats_of(plain)
    assert (stats.client.packets, stats.server.packets, stats.packets) == (5, 3, 8)
    assert (stats.client.payload_bytes, stats.server.payload_bytes) == (100, 50)
    assert (stats.client.unique_bytes, stats.server.unique_bytes) == (100, 50)
    assert stats.client.wire_bytes == 5 * 54 + 100
    assert stats.server.wire_bytes == 3 * 54 + 50
    assert stats.extended
    assert (stats.client.isn, stats.server.isn) == (1000, 500_000)


def test_without_statistics_the_extended_fields_are_none():
    stats = stats_of(plain, statistics=False)
    assert not stats.extended
    assert (stats.client.packets, stats.client.received, stats.client.isn) == (5, 100, 1000)
    basic = {"packets", "received", "retransmissions", "gaps", "isn", "mss"}
    for field in attrs.fields(aiomos.EndpointStats):
        if field.name not in basic:
            assert getattr(stats.client, field.name) is None, field.name
    assert stats.rtt is None


def test_statistics_are_a_picture_that_does_not_change():
    stats = stats_of(plain)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        stats.client.packets = 7


def test_retransmitted_bytes_are_counted_once_seen():
    def script(t):
        t.handshake()
        t.c(b"a" * 100)
        t.c(b"a" * 100, at=0)
        t.c(b"a" * 60 + b"b" * 40, at=40)
        t.s()
        t.close()

    client = stats_of(script).client
    assert client.payload_bytes == 300
    assert client.unique_bytes == 140
    assert client.retransmitted_bytes == 160
    assert client.retransmissions == 2


def test_out_of_order_bytes_are_counted_and_are_no_retransmission():
    def script(t):
        t.handshake()
        t.c(b"b" * 100, at=100)
        t.c(b"c" * 100, at=200)
        t.c(b"b" * 100, at=100)
        t.c(b"a" * 100, at=0)
        t.s()
        t.close()

    client = stats_of(script).client
    assert (client.out_of_order, client.out_of_order_bytes) == (3, 200)
    assert client.retransmitted_bytes == 100
    assert client.unique_bytes == 300
    assert client.gaps == client.gap_bytes == 0


def test_gap_bytes_are_no_unique_bytes():
    def script(t):
        t.handshake()
        t.c(b"a" * 10)
        t.skip(CLIENT, 500)
        t.c(b"b" * 10)
        t.s()
        t.rest(1)
        t.close()

    client = stats_of(script).client
    assert (client.received, client.unique_bytes) == (520, 20)
    assert (client.gap_bytes, client.gaps) == (500, 1)


def test_late_packets_of_a_closed_flow_count_for_nothing():
    def script(t):
        plain(t)
        t.c(b"late" * 10)

    assert stats_of(script) == stats_of(plain)


def test_connection_on_the_same_ports_begins_at_zero():
    driver = CoreDriver(statistics=True)
    talk = Talk(driver.input)
    plain(talk)
    again = Talk(driver.input, isn=(9_000_000, 8_000_000), at=talk.now + SECOND)
    again.handshake()
    again.c(b"z" * 7)
    assert driver.usage()["stats_bytes"] == 512
    assert_idle(driver)
    assert driver.usage()["stats_bytes"] == 0


def test_memory_refused_the_flow_goes_on_without_statistics():
    driver = CoreDriver(statistics=True, memory=0)
    talk = Talk(driver.input)
    plain(talk)
    assert driver.counters()["memory_refused"] >= 1
    assert [half["offset"] for half in driver.flows[0].half] == [100, 50]
    assert_idle(driver)


def test_udp_counts_packets_and_bytes():
    app = aiomos.App(statistics=True)
    found = []

    @app.udp()
    async def handler(flow):
        async for _ in flow:
            pass
        found.append(flow.stats)

    tape = Tape()
    ends = ("10.0.0.1", 5000), ("10.0.0.2", 53)
    tape.add(datagram(b"query", *ends), START)
    tape.add(datagram(b"the answer", *reversed(ends)), START + MILLISECOND)
    aiomos.run(app, tape.source())
    (stats,) = found
    assert (stats.client.payload_bytes, stats.server.payload_bytes) == (5, 10)
    assert (stats.client.wire_bytes, stats.server.wire_bytes) == (42 + 5, 42 + 10)
    assert stats.client.isn is None
    assert stats.client.rtt is None


# ---- round trips ----


def test_handshake_times_both_ways():
    def script(t):
        t.c(flags=SYN)
        t.now = START + 30 * MILLISECOND
        t.s(flags=SYN | ACK)
        t.now = START + 35 * MILLISECOND
        t.c()
        t.close()

    stats = stats_of(script)
    assert stats.server.handshake_rtt == pytest.approx(0.030)
    assert stats.client.handshake_rtt == pytest.approx(0.005)
    assert stats.rtt == pytest.approx(0.035)


def test_handshake_with_a_repeated_syn_has_no_time():
    """Karn: which of the two was answered is not known."""

    def script(t):
        t.c(flags=SYN)
        t.rest(1)
        t.c(flags=SYN, at=-1)
        t.s(flags=SYN | ACK)
        t.c()
        t.close()

    stats = stats_of(script)
    assert stats.server.handshake_rtt is None
    assert stats.client.handshake_rtt == pytest.approx(0.001)
    assert stats.rtt is None


def ts(value, echo=0):
    return {"options": timestamp(value, echo)}


def test_timestamps_time_the_way_to_the_end_that_echoes():
    def script(t):
        t.c(flags=SYN, **ts(100))
        t.s(flags=SYN | ACK, **ts(900, 100))
        t.c(**ts(101, 900))
        for value, wait in ((110, 20), (210, 40), (310, 30)):
            t.now = START + value * 10 * MILLISECOND
            t.c(b"x" * 10, **ts(value, 900))
            t.now = START + (value * 10 + wait) * MILLISECOND
            t.s(**ts(900 + value, value))
        t.close()

    server = stats_of(script).server
    assert server.rtt_samples == 3
    assert [server.rtt_min, server.rtt_max, server.rtt_last] == pytest.approx([0.02, 0.04, 0.03])
    assert server.rtt_mean == pytest.approx(0.03)
    assert server.timestamps is True


def test_timestamp_that_several_segments_carry_is_timed_from_the_first():
    """And the echo of one that was passed over times nothing."""

    def script(t):
        t.handshake((timestamp(1), timestamp(1, 1)))
        t.c(b"a", **ts(10, 1))
        t.c(b"b", **ts(10, 1))
        t.c(b"c", **ts(20, 1))
        t.rest(0.1)
        t.s(**ts(5, 20))
        t.c(b"d", **ts(20, 5))
        t.s(**ts(6, 20))
        t.close()

    server = stats_of(script).server
    assert server.rtt_samples == 0
    assert server.rtt_min is None


def test_pure_acknowledgements_demand_no_echo():
    """The other end says something when it likes: that would time its user."""

    def script(t):
        t.handshake((timestamp(1), timestamp(1, 1)))
        t.c(**ts(10, 1))
        t.rest(30)
        t.s(b"x", **ts(30, 10))
        t.close()

    assert stats_of(script).server.rtt_samples == 0


# ---- windows and options ----


def test_windows_are_scaled_and_their_closing_counted():
    def script(t):
        t.handshake((window_scale(3), window_scale(2)))
        for window in (100, 0, 0, 50, 0, 400):
            t.c(window=window)
        t.close()

    client = stats_of(script).client
    assert client.window_scale == 3
    assert (client.window_min, client.window_max, client.zero_windows) == (0, 65535 << 3, 2)


def test_windows_of_a_flow_picked_up_are_as_sent():
    def script(t):
        t.c(b"x", window=70)
        t.s(b"y", window=90)
        t.c(b"z", window=80)

    stats = stats_of(script)
    assert (stats.client.window_min, stats.client.window_max) == (70, 80)
    assert stats.client.window_scale is stats.client.sack_permitted is None


def test_options_of_each_syn():
    def script(t):
        t.handshake((mss(1400) + sack_permitted() + window_scale(7), mss(1200)))
        t.close()

    stats = stats_of(script)
    client, server = stats.client, stats.server
    assert (client.mss, client.sack_permitted, client.window_scale) == (1400, True, 7)
    assert (server.mss, server.sack_permitted, server.window_scale) == (1200, False, None)
    assert client.timestamps is False


@pytest.mark.parametrize("flags", [RST, FIN | ACK, SYN | FIN, 0])
def test_any_flags_hold_together(flags):
    driver = CoreDriver(statistics=True)
    talk = Talk(driver.input)
    talk.handshake()
    talk.c(b"x", flags=flags)
    talk.s(flags=flags)
    assert_idle(driver)


# ---- aiomos flows ----


def test_flows_lists_them_only_when_asked(tmp_path):
    path = Tape()
    path.talk(whole(b"hello", b"world!"))
    file = path.write(tmp_path / "a.pcap")
    short = json.loads(aiomos_command("flows", "--format", "jsonl", file).stdout)
    long = json.loads(aiomos_command("flows", "--stats", "--format", "jsonl", file).stdout)
    assert short.items() <= long.items()
    assert short["community_id"].startswith("1:")
    assert "client_wire_bytes" not in short
    assert (long["client_unique_bytes"], long["server_unique_bytes"]) == (5, 6)
    assert long["rtt"] == 0.002
    table = aiomos_command("flows", "--stats", file).stdout.decode()
    assert "client: wire_bytes" in table
    rows = aiomos_command("flows", "--stats", "--format", "csv", file).stdout.decode().split("\n")
    assert rows[0].split(",") == list(long)


def test_option_that_is_none_is_one_line_and_status_2(tmp_path):
    path = Tape()
    path.talk(whole(b"x"))
    file = path.write(tmp_path / "a.pcap")
    done = aiomos_command("flows", "--set", "max_flows=many", file)
    assert done.returncode == 2
    assert done.stderr == b"aiomos: max_flows='many': it is a whole number\n"
    assert aiomos_command("flows", "-q", "--set", "max_flows=10", file).returncode == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
@pytest.mark.parametrize("name", ["http_v6_reorder.pcap", "smtp_any.pcap", "ssh.pcap"])
def test_tshark_times_handshakes_alike(captures, name):
    app = aiomos.App(statistics=True)
    found = {}

    @app.tcp(start="syn")
    async def handler(flow):
        await flow.closed()
        found[flow.client.port] = flow.stats.rtt, flow.stats

    aiomos.run(app, captures / name)
    fields = ["tcp.srcport", "tcp.dstport", "tcp.analysis.initial_rtt"]
    command = ["tshark", "-n", "-r", captures / name, "-Y", fields[2], "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    compared = 0
    for line in done.stdout.splitlines():
        *ports, seconds = line.split("\t")
        (port,) = (int(p) for p in ports if int(p) in found)
        stats = found[port][1]
        if stats.client.handshake_rtt is not None and stats.server.handshake_rtt is not None:
            both = stats.client.handshake_rtt + stats.server.handshake_rtt
            assert both == pytest.approx(float(seconds), abs=2e-6)
            compared += 1
    assert compared
