"""Two workers behind the distributor, on a DPDK device."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from dpdk_kit import needs_dpdk
from test_workers import CAPTURES, WHOLE, Here, ended

pytestmark = needs_dpdk


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def run(*args):
            app = tmp_path / "app.py"
            app.write_text(WHOLE)
            folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(live.started(Here(), folder, app, *args))

        yield run


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
