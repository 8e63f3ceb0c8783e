"""What is known of a process that was killed: its ledger, and what outlived it, add up."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import datagram
from line import serve, until

import aiomos
from aiomos._engine.ledger import Ledger, Noted
from aiomos._engine.rings import Ring, RingWriter, ring_source
from aiomos._metrics import WorkerStats
from aiomos._remains import Untold, stats_of_dead


def noted(**counters):
    return Noted(7, 2, 0, {"frames": 0, "other_workers": 0, "wrong_core": 0} | counters)


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [90, 100, 137])
def test_what_was_taken_and_not_counted_is_lost(taken):
    told = WorkerStats(
        received=111, processed=60, waiting=30, dropped_kernel=21, dropped_pool=4, flows=9
    )
    dead = stats_of_dead(
        told, noted(frames=80, wrong_core=13), taken=taken, untold=Untold({"cut": 5})
    )
    assert (dead.filtered, dead.processed, dead.handed_over) == (7, 80, 13)
    assert (dead.lost, dead.dropped, dead.handler_errors) == (max(taken - 100, 0), 21, 2)
    assert (dead.waiting, dead.flows, dead.dropped_pool, dead.cut) == (0, 0, 4, 5)
    assert dead.unaccounted == 0


def test_process_without_a_burst_is_known_by_what_it_told():
    told = WorkerStats(received=90, processed=60, waiting=30)
    dead = stats_of_dead(told, None, taken=85)
    assert (dead.processed, dead.lost, dead.waiting, dead.unaccounted) == (60, 25, 0, 0)


def test_process_that_opened_its_source_by_itself_is_known_by_what_it_noted_and_told():
    told = WorkerStats(received=91, processed=60, waiting=30, dropped_nic=1)
    dead = stats_of_dead(told, noted(frames=75), taken=None)
    assert (dead.processed, dead.filtered, dead.lost, dead.dropped_nic) == (75, 7, 8, 1)
    assert dead.unaccounted == 0
    later = stats_of_dead(told, noted(frames=500), taken=None)
    assert (later.received, later.lost, later.unaccounted) == (508, 0, 0)


@pytest.mark.parametrize(("given", "lost"), [(0, 10), (505, 5), (510, 0)])
def test_distributor_is_known_by_what_it_gave_to_workers(given, lost):
    note = noted()._replace(filtered=0, distributed=500)
    dead = stats_of_dead(WorkerStats(), note, taken=510, given=given)
    assert (dead.handed_over, dead.lost, dead.unaccounted) == (510 - lost, lost, 0)


@pytest.mark.parametrize(("told", "most"), [(3, 9), (12, 12)])
def test_drops_that_only_the_device_knows_are_those_of_the_row(told, most):
    row = WorkerStats(received=60 + told, processed=60, dropped_nic=told)
    dead = stats_of_dead(row, None, taken=60, untold=Untold({"dropped_nic": 9}))
    assert (dead.dropped_nic, dead.received, dead.unaccounted) == (most, 60 + most, 0)


@pytest.mark.parametrize(
    ("rings", "lost", "dropped"), [(0, 0, 500), (40, 40, 500), (600, 500, 600)]
)
def test_what_a_receive_pump_dropped_is_not_lost_as_well(rings, lost, dropped):
    """Its thread had taken them: the socket counts them among those taken."""
    told = WorkerStats(received=1500, processed=1000, dropped_ring=500)
    dead = stats_of_dead(told, None, taken=1500, untold=Untold(rings=rings))
    assert (dead.lost, dead.dropped_ring, dead.unaccounted) == (lost, dropped, 0)


def test_nothing_goes_back_that_was_told_after_it_was_noted():
    told = WorkerStats(
        received=80, processed=80, handler_errors=3, counters={"frames": 80, "tcp": 9}
    )
    note = Noted(0, 2, 0, {"frames": 80, "other_workers": 0, "wrong_core": 0, "tcp": 8})
    dead = stats_of_dead(told, note, taken=80)
    assert (dead.handler_errors, dead.counters["tcp"]) == (3, 9)


# ---- the ledger ----------------------------------------------------------------------------------


def test_ledger_has_what_the_engine_counted_up_to_its_last_burst():
    made = Ledger.create()
    seen = []
    app = aiomos.App()

    @app.udp()
    async def raises(flow):
        raise LookupError("by intent")

    async def story(line, engine):
        engine.pump.ledger = Ledger.attach(made.fd)
        for port in (53, 53, 54):
            line.give(datagram(b"x", ("10.0.0.1", 5000), ("10.0.0.2", port)))
        await until(lambda: engine.core.counters()["frames"] == 2 and engine.pump.filtered == 1)
        await until(lambda: engine.pump.handler_errors == 1)
        line.give(datagram(b"x", ("10.0.0.1", 5000), ("10.0.0.2", 53)))
        await until(lambda: engine.core.counters()["frames"] == 3)
        await asyncio.sleep(0)
        seen.append((made.read(), engine.core.counters()))

    assert made.read() is None
    serve(asyncio.new_event_loop, app, story, filter="port 53")
    ((found, counters),) = seen
    assert found == Noted(1, 1, 0, counters)
    made.clear()
    assert made.read() is None
    made.close()
    made.close()


def test_ledger_outlives_who_writes_it():
    made = Ledger.create()
    os.set_inheritable(made.fd, True)
    child = os.fork()
    if child == 0:
        from aiomos._engine.distributor import Distributor
        from aiomos._engine.source import MemorySource

        distributor = Distributor(MemorySource([b"x"] * 70), [Ring.create(1 << 16)])
        distributor.ledger = Ledger.attach(made.fd)
        while distributor.turn() > 0:
            pass
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert made.read().distributed == 70
    made.close()


# ---- rings ---------------------------------------------------------------------------------------


def test_drops_between_two_readers_are_the_next_ones():
    with Ring.create(4096) as ring, RingWriter(ring) as writer:

        def overfill():
            before = ring.stats().dropped
            while writer.push(bytes(500)):
                pass
            writer.publish()
            return ring.stats().dropped - before

        with ring_source(ring, settled=True) as first:
            overfill()
            writer.push(bytes(500))
            assert first.stats().dropped_ring == 2
        assert ring.settle() == 2
        overfill()
        with ring_source(ring, settled=True) as second:
            assert second.stats().dropped_ring == 1
        assert ring.settle() == 1
        assert ring.settle() == 0
