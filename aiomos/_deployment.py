"""Where workers stand: which frames come to each, and what is opened for that.

Of files every worker reads all and takes its own flows. A kernel interface gives each worker a
socket of one fanout group, by the hash that is everybody's (aiomos.rss); frames that meet the
wrong worker all the same (fragments, what is in a tunnel) go to the right one by a ring.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from aiomos._engine.errors import ConfigError
from aiomos._launch import MOST_WORKERS, Launch, Place
from aiomos._supervisor import Supervisor

if TYPE_CHECKING:
    from aiomos._engine.interface import InterfaceGroup
    from aiomos._engine.rings import Ring

#: By the numbers of the worker that writes and the one that reads.
Rings: TypeAlias = "dict[tuple[int, int], Ring]"

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
    launch = attrs.evolve(launch, engine=engine, io_patience=io_patience, drain=drain)
    places = [Place(number=number, count=count, cores=cores) for number in range(count)]
    group: InterfaceGroup | None = None
    rings: Rings = {}
    with contextlib.ExitStack() as stack:
        if launch.live:
            group = stack.enter_context(_group(launch, count))
            rings = _hand_over(stack, count)
            places = [
                attrs.evolve(
                    place,
                    packet=group.filenos(place.number),
                    inbox=tuple(_ends(r) for (_, to), r in rings.items() if to == place.number),
                    outbox=tuple(
                        (to, *_ends(r)) for (by, to), r in rings.items() if by == place.number
                    ),
                )
                for place in places
            ]

        def taken(number: int) -> int:
            """Frames that were given to the processes at one place so far, whatever they did."""
            from_rings = sum(r.stats().taken for (_, to), r in rings.items() if to == number)
            return from_rings + (group.stats()[number].frames if group is not None else 0)

        yield Supervisor(launch, places, taken)


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


def _group(launch: Launch, count: int) -> InterfaceGroup:
    """A socket of one fanout group for each worker."""
    from aiomos._engine.interface import InterfaceGroup

    assert launch.interface is not None
    return InterfaceGroup(
        launch.interface,
        count,
        ring_bytes=launch.buffer,
        promiscuous=launch.promiscuous,
        direction=launch.direction,
    )


def _hand_over(stack: contextlib.ExitStack, count: int) -> Rings:
    """A ring from each worker to each other, by their numbers."""
    from aiomos._engine.rings import Ring

    pairs = itertools.permutations(range(count), 2)
    return {pair: stack.enter_context(Ring.create(HAND_OVER)) for pair in pairs}


def _ends(ring: Ring) -> tuple[int, int]:
    """Descriptors of a ring."""
    return ring.fileno(), ring.bell
