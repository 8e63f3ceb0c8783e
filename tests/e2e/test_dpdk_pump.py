"""The receive pump over DPDK's memory: while a handler blocks, a thread goes on receiving."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from dpdk_kit import needs_dpdk, needs_root
from test_dpdk_workers import (
    DATAGRAMS,
    FLOWS,
    Tap,
    Told,
    alone_with,
    app_of,
    ended,
    huge,  # noqa: F401  (a fixture)
    rows_of,
    space,  # noqa: F401  (another)
)

pytestmark = [needs_dpdk, needs_root]

#: The first flow's first datagram holds the core until a file is there, for 200 ms at least.
BLOCKS = DATAGRAMS.replace("import json, os", "import json, os, pathlib, time").replace(
    "        said =",
    "        while flow.client.port == 10_000 and datagram.data == b'hold 0':\n"
    "            time.sleep(0.2)\n"
    "            if pathlib.Path('{flag}').exists():\n"
    "                break\n"
    "        said =",
)
#: Datagrams that the tap's own queue has room for, in the kernel, while nobody reads it.
QUEUE = 1000


def taken():
    """Frames that DPDK has read from the tap, by the kernel's count."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "tap0":
            return int(numbers.split()[9])
    raise AssertionError


def say_many(run, place, tap, words):
    """Datagrams of all flows, no faster than DPDK reads them; until it has read all."""
    with place.entered():
        for _ in range(words):
            tap.say("word")
            run.until(lambda: taken() >= tap.count - QUEUE // 2)
        run.until(lambda: taken() >= tap.count)


@pytest.mark.parametrize(
    ("args", "words"),
    [(("--huge", "no"), 300), (("--huge", "yes"), 300), (("--workers", 2), 100)],
    ids=["no huge pages", "huge pages", "two workers"],
)
def test_handler_blocks_the_receive_pump_loses_nothing_and_pools_are_clean(
    space,  # noqa: F811  (pytest asks for the fixture)
    tmp_path,
    huge,  # noqa: F811  (pytest asks for the fixture)
    args,
    words,
):
    """All frames are received while the handler blocks, twelve times what would wait for it."""
    flag = tmp_path / "flag"
    app, program = app_of(tmp_path, BLOCKS.replace("{flag}", str(flag))), alone_with(huge)
    options = ("--dpdk", "net_tap0,iface=tap0", "--receive-pump", *args)
    with live.started(space, tmp_path / "run", app, *options, program=program) as run:
        run.until_ready()
        with contextlib.closing(Tap(space, "tap0")) as tap:
            tap.say("hold")
            run.until(lambda: "has blocked the core" in run.err)
            say_many(run, space, tap, words)
            assert "[10000, " not in run.out
            flag.touch()
            run.until(lambda: len(run.lines) >= tap.count)
            run.until_settled()
            rows = rows_of(run)
        run.send(signal.SIGINT)
        ended(run)
    assert Told(run).said == tap.said
    assert [row.unaccounted for row in rows] == [0] * len(rows)
    assert sum(row.dropped + row.lost for row in rows) == 0
    assert sum(row.processed for row in rows) == tap.count == FLOWS * (1 + words)
