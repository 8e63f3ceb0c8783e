"""A run asks the garbage collector to be patient, and leaves nothing behind for it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, tape_of, whole

import aiomos

#: In a process of its own: the leak check of these tests holds engines.
RUNS = """
import gc, sys
import aiomos
from aiomos._engine.core import Core

async def reads(flow):
    await flow.client.read()

for _ in range(3):
    assert aiomos.run(reads, sys.argv[1], tasks=sys.argv[2]).handlers_started
    print(sum(isinstance(thing, Core) for thing in gc.get_objects()))
"""


@both_tasks
def test_run_that_is_over_holds_no_engine(tasks, captures):
    command = [sys.executable, "-c", RUNS, captures / "ssh.pcap", tasks]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"0\n0\n0\n", b"")


async def reads(flow):
    await flow.client.read()


def test_runs_at_once_in_threads_leave_the_collector_as_it_was():
    """The second begins after the first and ends after it: it must not take the first's patience
    for what was there before."""
    settings, both = gc.get_threshold(), threading.Barrier(2, timeout=30)
    order = []

    async def first(flow):
        both.wait()

    async def second(flow):
        both.wait()
        while not order:
            await asyncio.to_thread(threading.Event().wait, 0.001)

    def run(handler):
        aiomos.run(handler, tape_of(whole(b"abc")).source(), stall=None)
        order.append(handler)

    threads = [threading.Thread(target=run, args=(handler,)) for handler in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order == [first, second]
    assert gc.get_threshold() == settings
    assert gc.get_freeze_count() == 0


def test_collector_switched_off_by_the_program_stays_so():
    settings = gc.get_threshold()
    gc.set_threshold(0)
    try:
        play(reads, whole(b"abc"))
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*settings)


def test_run_that_fails_gives_the_collector_back():
    settings = gc.get_threshold()
    with pytest.raises(aiomos.SourceError):
        aiomos.run(reads, "no such file.pcap")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (settings, 0)
