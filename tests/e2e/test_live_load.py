"""Handlers that block while traffic is at its fullest, and runs that have nothing to do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

REQUESTS = 20_000 if live.FULL else 2_000
IDLE_SECONDS, IDLE_SHARE = 5.0, 0.02
BLOCKS = """
import time
import aiomos

app = aiomos.App()
blocked = 0

@app.tcp("port 80")
async def requests(flow):
    global blocked
    async for line in flow.client.lines():
        if line.startswith(b"GET /200000") and blocked < 5:
            blocked += 1
            time.sleep(0.2)
        if line.startswith((b"GET", b"HEAD")):
            print(line.decode().split(" HTTP")[0], flush=True)
"""


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "blocks.py"
    path.write_text(BLOCKS)
    return path


def under_load(wire, tmp_path, app, *args):
    """A run through a load of requests: itself, its statistics, and what nginx saw."""
    wire.offloads(on=False)  # as many frames as there can be
    with (
        live.nginx(wire.server, tmp_path) as log,
        live.running(wire.server, tmp_path / "run", app, *args) as run,
    ):
        live.load(wire, REQUESTS)
        truth = live.logged_by_nginx(log, REQUESTS)
        total = run.until_settled()
        assert run.end() == 0
    assert total.unaccounted == 0
    return run, total, truth


def test_handler_blocks_the_receive_pump_loses_nothing(wire, tmp_path, app):
    ring = ("-B", 256 << 10) if live.FULL else ()  # ten times the traffic, on a busy machine too
    run, total, truth = under_load(wire, tmp_path, app, "--receive-pump", *ring)
    assert total.dropped == 0
    assert total.counters["gaps"] == 0
    asked = sorted(request for (_, _, request), many in truth.items() for _ in range(many))
    assert sorted(run.lines) == asked
    assert "has blocked the core" in run.err


def test_handler_blocks_a_tiny_ring_overflows_and_what_is_lost_is_counted(wire, tmp_path, app):
    run, total, _ = under_load(wire, tmp_path, app, "-B", 64)
    assert total.dropped > 0
    assert total.received == total.processed + total.dropped
    assert f"{total.dropped} packets dropped" in run.err
    assert f"{total.processed} packets processed" in run.err


# ---- idle ------------------------------------------------------------------------------------


def cpu_seconds(pid):
    """User and system time of a process and of its children."""
    spent, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            spent += cpu_seconds(int(child))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return spent + (int(fields[11]) + int(fields[12])) / ticks


@pytest.mark.full
@pytest.mark.parametrize("kind", [(), ("--workers", 2), ("--receive-pump",)])
def test_no_traffic_a_run_sleeps(wire, tmp_path, app, kind, record_property):
    """Also while a flow is open and its handler waits."""
    with (
        live.running(wire.server, tmp_path / "run", app, *kind) as run,
        wire.server.listen(live.SERVER, 80),
        wire.connect(80),
    ):
        run.until(lambda: run.total().handlers == 1)
        run.until_settled()
        before, began = cpu_seconds(run.process.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (cpu_seconds(run.process.pid) - before) / (time.monotonic() - began)
        assert run.end() == 0
    print(f"idle: {share:.2%} of a core")
    record_property("idle_share", share)
    assert share < IDLE_SHARE
