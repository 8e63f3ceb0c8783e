"""The software distributor: each frame to the ring of the worker whose flow it is of."""

from __future__ import annotations

import asyncio
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
from aiomos._engine.rings import Ring, ring_source
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
                pass
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


def test_ring_that_is_full_loses_frames_and_counts_them():
    given = [datagram(bytes(1000), (ENDS[0], 5000), (ENDS[1], 53)) for _ in range(500)]
    shared = Shared(given, 2, size=1 << 16)
    assert shared.distributed == 500
    assert sum(stats.pushed + stats.dropped for stats in shared.stats) == 500
    assert sum(stats.dropped for stats in shared.stats) > 0
    assert sum(map(len, shared.given)) == sum(stats.pushed for stats in shared.stats)


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
