"""Two workers behind the distributor, on a DPDK device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from dpdk_kit import needs_dpdk
from test_workers import CAPTURES, WHOLE, ended

pytestmark = needs_dpdk


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
    """The summary. To workers the device is live, so stamps of a capture are a jump of the clock."""
    lines = run.err.splitlines()
    first = next(i for i, line in enumerate(lines) if line.endswith("received by filter"))
    return [line for line in lines[first:] if "jumped" not in line]


def test_unknown_device_is_told_of_and_no_worker_begins(start):
    run = start("--dpdk", "net_pcap0,rx_pcap=/absent.pcap", "--workers", 2)
    assert ended(run) == 2, run
    assert run.lines == []
    assert "Traceback" not in run.err
