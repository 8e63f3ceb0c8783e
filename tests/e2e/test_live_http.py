"""examples/http_log.py on nginx's own interface: what it logs is what nginx does."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

from aiomos import rss
from aiomos._metrics import WorkerStats

HTTP_LOG = Path(__file__).parents[2] / "examples" / "http_log.py"
REQUESTS = 50_000 if live.FULL else 5_000
#: Of the kernel's ring, in KiB: all of the traffic of a small run finds room, however slowly it
#: is read on a machine that does other things too.
RING = 256 << 10


def logged_by_aiomos(run):
    """Its lines, as nginx has them: status, size of the body and request."""
    found = Counter()
    for line in run.lines:
        if " ms  " in line:
            before, _, request = line.partition(" ms  ")
            _, status, size, *_ = before.split()
            found[int(status), int(size), request] += 1
    return found


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "no_offloads"])
@pytest.mark.parametrize("workers", [(), ("--workers", 2)], ids=["alone", "two_workers"])
def test_nginx_serves_requests_all_are_logged_as_nginx_does(wire, tmp_path, offloads, workers):
    wire.offloads(on=offloads)
    with (
        live.nginx(wire.server, tmp_path) as log,
        live.running(wire.server, tmp_path / "run", HTTP_LOG, "-B", RING, *workers) as run,
    ):
        asked = live.load(wire, REQUESTS)
        truth = live.logged_by_nginx(log, REQUESTS)
        total = run.until_settled()
        each = [WorkerStats(**worker) for worker in run.shown()["workers"]]
        status = run.end()
    assert status == 0, run
    assert [worker.unaccounted for worker in each] == [0] * len(each)
    assert total.received == total.processed + total.dropped
    assert f"{total.dropped} packets dropped" in run.err
    assert not logged_by_aiomos(run) - truth
    if live.FULL and total.dropped:
        return  # exactly so many frames, and the requests in them, are missing
    assert total.dropped == 0, "the ring has room for all of a small run"
    assert logged_by_aiomos(run) == truth
    ends = ((live.CLIENT, one.port, live.SERVER, 80) for one in asked)
    busy = {rss.worker_of(key, len(each)) for key in ends}
    assert {worker.number for worker in each if worker.processed} == busy
