"""Where workers stand: which frames come to each, and what is opened for that.

Of files every worker reads all and takes its own flows. A kernel interface gives each worker a
socket of one fanout group, by the hash that is everybody's (aiomos.rss); frames that meet the
wrong worker all the same (fragments, what is in a tunnel) go to the right one by a ring.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import attrs

from aiomos._engine.errors import ConfigError
from aiomos._launch import MOST_WORKERS, Launch, Place
from aiomos._supervisor import Supervisor

log = logging.getLogger("aiomos")

#: Bytes of a ring from one worker to another.
HAND_OVER = 4 << 20


@contextlib.contextmanager
def deployed(
    launch: Launch,
    count: int,
    cores: tuple[int, ...],
    drain: float,
    io_patience: float,
    engine: dict[str, Any],
) -> Iterator[Supervisor]:
    """A supervisor of so many workers, with all that it owns.

    Raises:
        ConfigError: there cannot be so many, or not on such a source.
        SourceError: the source cannot be opened.
    """
    cores = _checked(launch, count, cores)
    launch = attrs.evolve(launch, engine=engine, io_patience=io_patience)
    places = [Place(number=number, count=count, cores=cores) for number in range(count)]
    with contextlib.ExitStack() as stack:
        if launch.live:
            places = stack.enter_context(_fanout(launch, places))
            places = stack.enter_context(_hand_over(places))
        yield Supervisor(launch, places, drain)


def _checked(launch: Launch, count: int, cores: tuple[int, ...]) -> tuple[int, ...]:
    """The cores to use."""
    if not 1 <= count <= MOST_WORKERS:
        raise ConfigError(f"--workers {count}: there are 1 to {MOST_WORKERS}")
    allowed = sorted(os.sched_getaffinity(0))
    for core in cores:
        if core not in allowed:
            listed = ",".join(map(str, allowed))
            raise ConfigError(f"--cores: there is no core {core} for this process; it has {listed}")
    if "-" in launch.files and count > 1:
        raise ConfigError("standard input can be read by one process only: leave --workers out")
    if launch.exclusive and count > 1:
        raise ConfigError("--exclusive is for one worker: leave --workers out")
    if cores and len(cores) < count:
        raise ConfigError(f"--cores names {len(cores)} cores for {count} workers")
    if count > len(allowed):
        log.warning("%d workers share %d cores", count, len(allowed))
    return cores or tuple(allowed)


@contextlib.contextmanager
def _fanout(launch: Launch, places: list[Place]) -> Iterator[list[Place]]:
    """A socket of one fanout group for each."""
    from aiomos._engine.interface import InterfaceGroup

    assert launch.interface is not None
    group = InterfaceGroup(
        launch.interface,
        len(places),
        ring_bytes=launch.buffer,
        promiscuous=launch.promiscuous,
        direction=launch.direction,
    )
    with group:
        yield [attrs.evolve(place, packet=group.filenos(n)) for n, place in enumerate(places)]


@contextlib.contextmanager
def _hand_over(places: list[Place]) -> Iterator[list[Place]]:
    """A ring from each to each other."""
    from aiomos._engine.rings import Ring

    with contextlib.ExitStack() as stack:
        inbox: dict[int, list[tuple[int, int]]] = {p.number: [] for p in places}
        outbox: dict[int, list[tuple[int, int, int]]] = {p.number: [] for p in places}
        for sender in inbox:
            for receiver in inbox:
                if sender != receiver:
                    ring = stack.enter_context(Ring.create(HAND_OVER))
                    descriptors = ring.fileno(), ring.bell
                    inbox[receiver].append(descriptors)
                    outbox[sender].append((receiver, *descriptors))
        yield [
            attrs.evolve(p, inbox=tuple(inbox[p.number]), outbox=tuple(outbox[p.number]))
            for p in places
        ]
