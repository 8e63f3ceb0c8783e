"""examples/http_log.py on a mirror port that AF_XDP takes: nginx's traffic, copied by nftables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live
from test_live_http import HTTP_LOG, REQUESTS, RING, logged_by_aiomos

#: Requests at once: no more than the rings have room for, however busy this machine is.
ROUND = 2_500
#: As docs/interfaces.md has it; the queue waits for the pair (Linux 6.16), else frames are lost.
MIRROR = (
    "ip link add mirror0 type veth peer name mirror1",
    "ip link set mirror0 up",
    "ip link set mirror1 up",
    "ethtool -K mirror0 tx off tso off gso off",
    "tc qdisc add dev mirror0 root pfifo limit 100000",
)
RULES = """\
table netdev mirror {
  chain in { type filter hook ingress device s0 priority 0; dup to mirror0; }
  chain out { type filter hook egress device s0 priority 0; dup to mirror0; }
}
"""


@pytest.fixture(scope="module")
def wire():
    for program in ("nft", "tc"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, for the mirror")
    with live.wire() as built:
        for line in MIRROR:
            built.server.do(*line.split())
        built.server.do("nft", RULES)
        yield built


def mirrored(wire):
    """Frames that were sent to the port, and those that the pair dropped."""
    command = f"ip netns exec {wire.server.name} ip -j -s link show mirror0"
    words = command.split()
    shown = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    sent = shown[0]["stats64"]["tx"]
    return sent["packets"], sent["dropped"]


@pytest.mark.parametrize("workers", [(), ("--workers", 2)], ids=["alone", "distributed"])
def test_mirror_port_is_taken_all_requests_are_logged_as_nginx_does(wire, tmp_path, workers):
    with live.nginx(wire.server, tmp_path) as log:
        arguments = ("--exclusive", "-B", RING, *workers)
        run_here = live.running(
            wire.server, tmp_path / "run", HTTP_LOG, *arguments, interface="mirror1"
        )
        before = mirrored(wire)
        with run_here as run:
            for _ in range(REQUESTS // ROUND):
                live.load(wire, ROUND)
                run.until_settled()
            truth = live.logged_by_nginx(log, REQUESTS)
            total = run.until_settled()
            report = run.report()
            status = run.end()
    sent, lost = (now - then for now, then in zip(mirrored(wire), before, strict=True))
    assert status == 0, run
    taken = report["distributor"] or report["workers"][0]
    assert taken["received"] == sent
    assert total.unaccounted == 0
    assert [lost, total.dropped, taken["dropped_nic"]] == [0, 0, 0]
    print(run.err, {k: v for k, v in total.counters.items() if v})  # if it fails
    assert logged_by_aiomos(run) == truth


def test_interface_in_use_is_not_taken(wire, tmp_path):
    arguments = ("-i", live.INTERFACE, "--exclusive")
    with live.started(wire.server, tmp_path, HTTP_LOG, *arguments) as run:
        assert run.process.wait(live.PATIENCE) == 2
    assert run.err.startswith("aiomos: ")
    assert "--force" in run.err
    assert len(run.err.splitlines()) == 1
