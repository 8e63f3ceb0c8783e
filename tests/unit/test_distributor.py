"""The software distributor: each frame to the ring of the worker whose flow it is of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, ICMP, IP4, TCP, UDP, datagram, ethernet, frame, ipv4, tcp, udp

import aiomos
from aiomos import rss
from aiomos._distributor import Distributing
from aiomos._engine.distributor import Distributor
from aiomos._engine.errors import ConfigError
from aiomos._engine.rings import Ring, RingWriter, ring_source
from aiomos.testing.frames import framed, packets

ENDS = "10.0.0.1", "10.0.0.2"
ENDS6 = "2001:db8::1", "2001:db8::2"


class Shared:
    """What workers were given of some frames."""

    def __init__(self, frames, count, size=1 << 20):
        rings = [Ring.create(size, shared=False) for _ in range(count)]
        with aiomos.MemorySource(frames) as source:
            distributor = Distributor(source, rings)
            while distributor.turn() >= 0:
                assert not distributor.blocked
            self.distributed = distributor.distributed
            assert source.stats().outstanding == 0
        self.stats = [ring.stats() for ring in rings]
        self.given = [taken(ring) for ring in rings]


def taken(ring):
    """All that a worker finds in its ring: it was published."""
    found = []
    with ring_source(ring) as source:
        while burst := source.take():
            for one in burst:
                found.append(bytes(one.data))
                one.release()
    return found


def flows(count=40):
    """Both ends of so many flows: the frame, and the flow's ends and ports."""
    for n in range(count):
        for ends in (ENDS, ENDS6):
            for ports, (source, target) in (((5000 + n, 53), ends), ((53, 5000 + n), ends[::-1])):
                key = (source, ports[0], target, ports[1])
                for protocol in (TCP, UDP):
                    if protocol == TCP:
                        body = tcp(*ports, 1, 1, ACK, ends=(source, target))
                    else:
                        body = udp(*ports, b"x", ends=(source, target))
                    yield frame(body, (source, target), protocol), key


@pytest.mark.parametrize("count", [1, 2, 3, 7, 128])
def test_frames_of_flows_go_where_rss_says(count):
    given = list(flows())
    shared = Shared([raw for raw, _ in given], count)
    for number, found in enumerate(shared.given):
        assert found == [raw for raw, key in given if rss.worker_of(key, count) == number]
    assert shared.distributed == len(given)


def test_fragments_of_a_datagram_meet_at_one_worker():
    frames = []
    for ident in range(20):
        body = udp(5000 + ident, 53, bytes(1000), ends=ENDS)
        frames += map(framed, packets(body, ENDS, UDP, fragment=400, ident=ident))
    found = [len(given) for given in Shared(frames, 3).given]
    assert sorted(found) == [0, 0, len(frames)]  # all are of one pair of addresses


def test_icmp_error_goes_where_the_flow_goes_that_it_quotes():
    for port in range(5000, 5010):
        quoted = ipv4(udp(port, 53, b"q", ends=ENDS), *ENDS, UDP)
        error = ipv4(b"\x03\x03\0\0\0\0\0\0" + quoted, "192.0.2.1", ENDS[0], ICMP)
        shared = Shared([ethernet(quoted, IP4), ethernet(error, IP4)], 5)
        assert sorted(map(len, shared.given)) == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("raw", [b"", b"\0" * 14, b"\xff" * 60], ids=["empty", "no type", "noise"])
def test_what_is_no_packet_goes_to_the_first(raw):
    assert [len(given) for given in Shared([raw], 4).given] == [1, 0, 0, 0]


# ---- full rings --------------------------------------------------------------------------------


def numbered(count, sports=(5000,), size=1000):
    """Datagrams in turns from these ports, each with its number."""
    return [
        datagram(
            n.to_bytes(4, "big") + bytes(size), (ENDS[0], sports[n % len(sports)]), (ENDS[1], 53)
        )
        for n in range(count)
    ]


@contextlib.contextmanager
def sharing(source, count=2, size=1 << 16):
    """A distributor and the workers' ends of their rings, which are small."""
    rings = [Ring.create(size, shared=False) for _ in range(count)]
    with source, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(ring_source(ring, captured=True)) for ring in rings]
        yield Distributor(source, rings), workers, rings


def until_blocked(distributor):
    """Gives what there is room for; False: nothing is left."""
    while (moved := distributor.turn()) > 0:
        pass
    assert moved < 0 or distributor.blocked
    return moved == 0


def read(worker, most=10**9):
    """What a worker finds now, given back at once."""
    found = []
    while len(found) < most and (burst := worker.take(min(64, most - len(found)))):
        found += [bytes(one.data) for one in burst]
        for one in burst:
            one.release()
    return found


@pytest.mark.parametrize("step", [1, 7, 64, 10**9])
def test_capture_waits_for_room_and_loses_nothing(step):
    given = numbered(1000, sports=range(5000, 5010))
    with sharing(aiomos.MemorySource(given)) as (distributor, workers, rings):
        assert distributor.patient
        found = [[], []]
        while until_blocked(distributor):
            assert distributor.turn() == 0
            for worker, taken in zip(workers, found, strict=True):
                taken += read(worker, step)
        for worker, taken in zip(workers, found, strict=True):
            taken += read(worker)
        assert distributor.distributed == 1000
        assert [ring.stats().dropped for ring in rings] == [0, 0]
        assert all(taken == sorted(taken, key=given.index) for taken in found)
        assert sorted(found[0] + found[1]) == sorted(given)
        assert distributor.source.stats().outstanding == 0


def test_frame_larger_than_its_ring_ever_takes_is_waited_for_in_vain_and_so_dropped():
    given = numbered(2) + numbered(1, size=3000) + numbered(2)
    with sharing(aiomos.MemorySource(given), 1, size=4096) as (distributor, workers, rings):
        found = []
        while until_blocked(distributor):
            found += read(workers[0])
        found += read(workers[0])
        assert [len(one) for one in found] == [len(given[0])] * 4
        stats = rings[0].stats()
        assert (stats.dropped, stats.pushed, distributor.distributed) == (1, 4, 5)


def test_nobody_waits_for_a_worker_that_is_gone():
    sports = range(5000, 5010)
    given = numbered(1000, sports)
    with sharing(aiomos.MemorySource(given)) as (distributor, workers, rings):
        assert until_blocked(distributor)
        distributor.forget(0)
        found = read(workers[1])
        while until_blocked(distributor):
            found += read(workers[1])
        found += read(workers[1])
        mine = [p for p in sports if rss.worker_of((ENDS[0], p, ENDS[1], 53), 2) == 1]
        assert len(found) == len(mine) * 100
        assert distributor.distributed == 1000
        assert rings[0].stats().dropped + rings[0].stats().pushed == 1000 - len(found)
        assert rings[1].stats().dropped == 0


def test_live_source_does_not_wait_what_finds_no_room_is_dropped_and_counted():
    before = Ring.create(1 << 20, shared=False)
    with RingWriter(before) as writer:
        for frame_ in numbered(500):
            assert writer.push(frame_)
        writer.publish()
        with sharing(ring_source(before)) as (distributor, workers, rings):
            while distributor.turn() > 0:
                assert not distributor.blocked
            stats = [ring.stats() for ring in rings]
            assert sum(one.pushed + one.dropped for one in stats) == distributor.distributed == 500
            assert sum(one.dropped for one in stats) > 0
            assert sum(len(read(one)) for one in workers) == sum(one.pushed for one in stats)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "behind the end"])
def test_distributor_told_to_go_behind_the_stop_leaves_its_source_alone(late):
    """A process that is stopped while it begins hears both: it may have closed everything."""
    failures = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        ours, theirs = socket.socketpair()
        with ours, aiomos.MemorySource([raw for raw, _ in flows(3)]) as source:
            moving = Distributor(source, [Ring.create(1 << 20, shared=False)])
            distributing = Distributing(moving, theirs, 1)
            ours.send(b'{"kind": "stop"}\n' + (b"" if late else b'{"kind": "go"}\n'))
            assert await distributing.run() == 0
            source.close()
            if late:
                ours.send(b'{"kind": "go"}\n')
            for _ in range(3):
                await asyncio.sleep(0)
            distributing.channel.close()
        return moving.distributed

    assert asyncio.run(main()) == 0
    assert failures == []


@pytest.mark.parametrize("count", [0, 129])
def test_workers_that_there_cannot_be_are_refused(count):
    rings = [Ring.create(4096, shared=False) for _ in range(count)]
    with pytest.raises(ConfigError, match="128"):
        Distributor(aiomos.MemorySource([]), rings)
