"""A run whose processes are killed again and again is afterwards as it was: nothing piles up."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from dpdk_kit import needs_dpdk
from test_dpdk_workers import (
    DATAGRAMS,
    Tap,
    alone_with,
    app_of,
    ended,
    huge,  # noqa: F401  (a fixture)
    rows_of,
)
from test_live_statistics import FANOUT, PACKET, XDP, Watch, takers, tapped
from test_workers import is_gone

ROUNDS = 16 if live.FULL else 4
#: The same program, but for the time between a death and the next process.
HASTY = """
import aiomos._workerprocess as process
from aiomos.cli import main

process.BACK_OFF_MOST = process.BACK_OFF
main()
"""
PROGRAM = (sys.executable, "-c", HASTY)
#: Where processes leave what others are to find.
PLACES = ("/dev/shm", "/run", "/run/aiomos", "/var/run/dpdk", "/tmp")


@pytest.fixture(scope="module")
def wire():
    with live.wire() as built:
        yield built


def files():
    """Names in places that all share, other processes' included."""
    found = set()
    for place in PLACES:
        with contextlib.suppress(OSError):
            found |= {str(path) for path in Path(place).iterdir()}
    return found


def descriptors(pid):
    """Open files of a process, how many of each kind."""
    found = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[re.sub(r"\d+", "N", os.readlink(entry))] += 1
    return found


def belongings(pid):
    """What a supervisor may have too many of: open files, mappings of files, threads, children."""
    mapped = Counter()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        name = line.split(maxsplit=5)[5:]
        if name and (name[0].startswith("/memfd:") or "huge" in name[0] or "socket:" in name[0]):
            mapped[re.sub(r"\d+", "N", name[0])] += 1
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    children = [c for task in tasks for c in (task / "children").read_text().split()]
    assert not [child for child in children if is_gone(child)], "zombies"
    return descriptors(pid), mapped, len(children)


def serves(rows):
    return all(row.pid for row in rows)


def kill_all_again_and_again(run, tap):
    """All of a run's processes at once, each time when all serve and have nothing to do."""
    watch, gone = Watch(run), set()
    tap.say("first")
    run.until(lambda: len(run.lines) == tap.count)
    before = belongings(run.process.pid)
    for number in range(ROUNDS):
        watch.until(serves)
        rows = watch.until_settled()
        assert not gone & {row.pid for row in rows}
        for row in rows:
            os.kill(row.pid, signal.SIGKILL)
            gone.add(row.pid)
        tap.say("meanwhile")
        count = len(rows) * (number + 1)
        run.until(lambda count=count: run.report()["restarts"] == count)
    watch.until(serves)
    tap.say("last")
    return watch, before, gone


def is_as_before(run, before, gone):
    """Nothing is open that was not, and nobody is left."""
    run.until(lambda: belongings(run.process.pid) == before)
    assert all(map(is_gone, gone))


def leaves_nothing(run, was):
    """It ends in order; whatever it had put anywhere is away."""
    pids = {run.process.pid, *(row.pid for row in rows_of(run))}
    run.send(signal.SIGINT)
    ended(run)
    assert all(map(is_gone, pids))
    assert list((run.folder / "aiomos").iterdir()) == []
    left = {name for name in files() - was if any(str(pid) in name for pid in pids)}
    assert left == set()


@pytest.mark.parametrize("way", [PACKET, XDP, FANOUT], ids=["packet", "xdp", "fanout"])
def test_all_processes_killed_many_times_nothing_piles_up(wire, tmp_path, way):
    was = files()
    with tapped(wire, tmp_path, DATAGRAMS, *way, program=PROGRAM) as (run, tap):
        watch, before, gone = kill_all_again_and_again(run, tap)
        rows = watch.until_settled("" if way == XDP else "k0")
        if way != XDP:  # without a reader these are the kernel's own
            assert sum(row.received for row in takers(rows)) == tap.count
        if way != FANOUT:
            assert sum(row.received for row in rows[:2]) == rows[2].handed_over
        is_as_before(run, before, gone)
        leaves_nothing(run, was)


@needs_dpdk
def test_all_processes_on_shared_ports_killed_many_times_nothing_piles_up(
    wire,
    tmp_path,
    huge,  # noqa: F811  (pytest asks for the fixture)
):
    was, app = files(), app_of(tmp_path, DATAGRAMS)
    words = ("--dpdk", "net_tap0,iface=tap0", "--workers", 2)
    program = alone_with(huge, PROGRAM)
    with live.started(wire.server, tmp_path / "run", app, *words, program=program) as run:
        run.until_ready()
        with contextlib.closing(Tap(wire.server, "tap0")) as tap:
            watch, before, gone = kill_all_again_and_again(run, tap)
            rows = watch.until_settled()
            assert sum(row.received for row in rows[:2]) == rows[2].handed_over
            assert rows[2].received == tap.count
            is_as_before(run, before, gone)
        leaves_nothing(run, was)
