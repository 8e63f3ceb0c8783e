"""Rings of frames between processes, either of which may be killed."""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import ring_peer
from ring_peer import content

from aiomos._engine.rings import Ring, RingWriter, ring_source
from aiomos._engine.source import Source

PEER = Path(ring_peer.__file__)
FRAMES = 100_000
PATIENCE = 120  # seconds; nothing here waits for time to pass


class Peer:
    """A process that inherits a ring."""

    def __init__(self, ring: Ring, role: str, *arguments: int) -> None:
        descriptors = ring.fileno(), ring.bell
        command = [sys.executable, PEER, role, *map(str, descriptors + arguments)]
        self.process = subprocess.Popen(command, pass_fds=descriptors)

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(PATIENCE) == -signal.SIGKILL

    def finish(self, status: int = 0) -> None:
        assert self.process.wait(PATIENCE) == status


StartPeer: TypeAlias = Callable[..., Peer]


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring.create(1 << 18) as ring:
        yield ring


@pytest.fixture
def start(ring: Ring) -> Iterator[StartPeer]:
    """Starts a peer on the ring; none is left behind."""
    peers: list[Peer] = []

    def start(role: str, *arguments: int) -> Peer:
        peers.append(Peer(ring, role, *arguments))
        return peers[-1]

    yield start
    for peer in peers:
        peer.process.kill()
        peer.process.wait()


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.002)


def take_in_order(source: Source, first: int) -> int:
    """Takes a burst, whose frames are whole and numbered from ``first`` on; how many there were."""
    frames = source.take()
    for number, frame in enumerate(frames, first):
        assert frame.raw.time_ns == number
        assert frame.data == content(number)
        frame.release()
    return len(frames)


def test_frames_cross_processes_whole_and_no_bell_is_missed(ring: Ring, start: StartPeer) -> None:
    expected = 0
    with ring_source(ring, end=True) as source, select.epoll() as epoll:
        epoll.register(source.fileno(), select.EPOLLIN)
        peer = start("write", 0, FRAMES)
        while source.result == 0:
            taken = take_in_order(source, expected)
            expected += taken
            if taken < 64 and source.result == 0:
                assert epoll.poll(PATIENCE), f"no bell after {expected} frames"
        peer.finish()
        assert expected == FRAMES
        stats = ring.stats()
        assert (stats.pushed, stats.taken, stats.released) == (FRAMES,) * 3
        assert (stats.dropped, stats.abandoned, stats.used) == (0, 0, 0)


def test_killed_reader_loses_what_it_held_and_nothing_else(ring: Ring, start: StartPeer) -> None:
    with RingWriter(ring) as writer:
        for number in range(100):
            assert writer.push(content(number), number)
        writer.publish()
        start("take_and_die", 40).finish(-signal.SIGKILL)
        before = ring.stats()
        assert (before.taken, before.abandoned) == (40, 0)
        with ring_source(ring) as source:
            frames = source.take()
            assert [frame.raw.time_ns for frame in frames] == list(range(40, 100))
            assert all(frame.data == content(frame.raw.time_ns) for frame in frames)
            for frame in frames:
                frame.release()
        stats = ring.stats()
        assert (stats.abandoned, stats.released, stats.taken) == (20, 80, 100)
        assert stats.used == 0


def test_readers_killed_again_and_again_account_for_every_frame(
    ring: Ring, start: StartPeer
) -> None:
    rng = random.Random(3)
    writing = start("write", 0, 30_000)
    for _ in range(4):
        taken = ring.stats().taken
        reader = start("read")
        goal = taken + rng.randrange(100, 4000)
        wait_until("a reader at work", lambda goal=goal: ring.stats().taken >= goal)
        reader.kill()
    taken = ring.stats().taken
    start("read").finish()
    writing.finish()
    stats = ring.stats()
    assert taken < stats.taken == stats.pushed == 30_000
    assert stats.released + stats.abandoned == 30_000
    assert stats.abandoned <= 4 * 64
    assert stats.dropped == stats.used == 0


def test_successor_begins_where_the_killed_reader_stopped_taking(
    ring: Ring, start: StartPeer
) -> None:
    writing = start("write", 0, 20_000)
    reader = start("read")
    wait_until("a reader at work", lambda: ring.stats().taken >= 1000)
    reader.kill()
    expected = ring.stats().taken
    with ring_source(ring, end=True) as source:
        while source.result == 0:
            expected += take_in_order(source, expected)
    writing.finish()
    assert expected == 20_000


def test_nothing_half_written_of_a_killed_writer_is_seen(ring: Ring, start: StartPeer) -> None:
    with ring_source(ring) as source:
        start("write_and_die", 10, 25).finish(-signal.SIGKILL)
        frames = source.take()
        assert [frame.data for frame in frames] == [content(number) for number in range(10)]
        assert ring.stats().pushed == 10
        with RingWriter(ring) as writer:
            writer.push(b"next")
        assert [frame.data for frame in source.take()] == [b"next"]


def test_writers_killed_at_any_moment_are_succeeded(ring: Ring, start: StartPeer) -> None:
    rng = random.Random(4)
    expected = 0
    with ring_source(ring, end=True) as source:
        for life in range(5):
            first = ring.stats().pushed
            peer = start("write", first, 2000 if life == 4 else 1_000_000)
            goal = first + rng.randrange(1, 3000)
            while source.result == 0:
                taken = take_in_order(source, expected)
                expected += taken
                if life < 4 and expected >= goal:
                    break
                if taken < 64 and source.result == 0:
                    select.select([source.fileno()], [], [], PATIENCE)
            if life < 4:
                peer.kill()
            else:
                peer.finish()
        stats = ring.stats()
        assert expected == stats.pushed == stats.released
        assert stats.abandoned == stats.dropped == 0
