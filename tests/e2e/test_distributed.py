"""Two workers behind the distributor, on a DPDK device."""

from __future__ import annotations

import signal
import struct
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from craft import datagram
from dpdk_kit import needs_dpdk
from test_workers import CAPTURES, WHOLE, ended

pytestmark = needs_dpdk

#: Dies once, of a datagram in the middle of the capture.
KILLS = """
import os, signal
from pathlib import Path
import aiomos

app = aiomos.App()

@app.packet("udp")
def dies(packet):
    if b"10000" in bytes(packet) and not Path({marker!r}).exists():
        Path({marker!r}).touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""
TWO = ("--workers", 2, "--huge", "no")
#: The same program with rings of a few frames from the distributor to the workers.
SMALL_RINGS = (
    sys.executable,
    "-c",
    "import aiomos._deployment as d; d.DISTRIBUTED = 1 << 14; from aiomos.cli import main; main()",
)
#: Keeps its core for longer than any test.
BLOCKS = """
import time
import aiomos

app = aiomos.App()

@app.udp()
async def blocks(flow):
    print("blocked", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def start(start):
    """The same, without having to say with which app."""

    def run(*args, text=WHOLE, **options):
        return start(text, *args, **options)

    return run


def test_capture_through_the_distributor_gives_what_one_worker_gives(start):
    device = f"net_pcap0,rx_pcap={CAPTURES / 'http_demo.pcap'}"
    one = start("--dpdk", device)
    assert ended(one) == 0, one
    two = start("--dpdk", device, "--workers", 2)
    assert ended(two) == 0, two
    assert one.lines
    assert sorted(two.lines) == sorted(one.lines)
    assert told(two) == told(one)


def told(run):
    """The summary."""
    lines = run.err.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.endswith("received by filter")) :]


def long_capture(path, count, ports=range(10_000, 10_020)):
    """Datagrams of some flows, more than small rings have room for."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for number in range(count):
        ends = ("192.0.2.2", ports[number % len(ports)]), ("192.0.2.1", 7001)
        data = datagram(b"%d" % number, *ends)
        records.append(struct.pack("<IIII", 1000, number, len(data), len(data)) + data)
    path.write_bytes(b"".join(records))
    return f"net_pcap0,rx_pcap={path}"


def test_capture_is_read_no_faster_than_workers_take_it(start, tmp_path):
    device = long_capture(tmp_path / "long.pcap", 20_000)
    run = start("--dpdk", device, *TWO, program=SMALL_RINGS)
    assert ended(run) == 0, run
    assert "20000 packets processed\n0 packets dropped" in run.err, run
    assert sum(line.count("'client'") for line in run.lines) == 20_000


def test_distributor_that_waits_for_a_worker_answers_and_ends(start, tmp_path):
    device = long_capture(tmp_path / "long.pcap", 20_000)
    run = start("--dpdk", device, *TWO, program=SMALL_RINGS, text=BLOCKS)
    run.until(lambda: run.lines)
    run.until(lambda: (row := run.report()["distributor"])["pid"] and row["handed_over"])
    assert run.report()["distributor"]["handed_over"] < 20_000
    run.send(signal.SIGINT)
    run.until(lambda: run.report()["distributor"]["pid"] == 0)
    run.send(signal.SIGINT)  # the worker does not listen
    run.process.wait(live.PATIENCE)
    assert "Traceback" not in run.err


def test_worker_killed_the_capture_waits_for_its_successor(start, tmp_path):
    device = long_capture(tmp_path / "long.pcap", 20_000)
    kills = KILLS.format(marker=str(tmp_path / "killed"))
    run = start("--dpdk", device, *TWO, program=SMALL_RINGS, text=kills)
    assert ended(run) == 0, run
    assert "was killed by SIGKILL; another one in 0.1 s" in run.err
    processed, dropped = (int(line.split()[0]) for line in told(run)[1:3])
    assert processed + dropped == 20_000
    assert dropped <= 64, "more than the burst that it died with"


def test_device_of_several_captures_is_read_whole(start):
    names = ("http_demo", "dns")
    alone = [start("--dpdk", f"net_pcap0,rx_pcap={CAPTURES / name}.pcap") for name in names]
    assert [ended(run) for run in alone] == [0, 0], alone
    device = ",".join(["net_pcap0", *(f"rx_pcap={CAPTURES / name}.pcap" for name in names)])
    for words in ((), ("--workers", 2)):
        both = start("--dpdk", device, *words)
        assert ended(both) == 0, both
        assert keys(both) == sorted(keys(alone[0]) + keys(alone[1]))


def keys(run):
    """Of the flows that were told of, whose ends are another matter where captures are mixed."""
    return sorted(line.split(")")[0] for line in run.lines)


def test_unknown_device_is_told_of_and_no_worker_begins(start):
    run = start("--dpdk", "net_pcap0,rx_pcap=/absent.pcap", "--workers", 2)
    assert ended(run) == 2, run
    assert run.lines == []
    assert "Traceback" not in run.err
