"""Where workers stand: which frames come to each, and what is opened for that.

Of files every worker reads all and takes its own flows. A kernel interface gives each worker a
socket of one fanout group, by the hash that is everybody's (aiomos.rss); frames that meet the
wrong worker all the same (fragments, what is in a tunnel) go to the right one by a ring. DPDK ports
are the supervisor's where memory can be shared (_dpdkports.py), and the distributor's where not.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from aiomos._dpdkports import SharedPorts, pages_shared, shared_ports, why_apart
from aiomos._engine.errors import ConfigError
from aiomos._engine.filters import FrameFilter
from aiomos._launch import MOST_WORKERS, Launch, Place
from aiomos._openfiles import make_room
from aiomos._supervisor import Supervisor
from aiomos._tallies import Rings, Tallies

if TYPE_CHECKING:
    from aiomos._engine.interface import InterfaceGroup
    from aiomos._engine.ledger import Ledger
    from aiomos._engine.rings import Ring

log = logging.getLogger("aiomos")

#: Bytes of a ring from one worker to another.
HAND_OVER = 4 << 20
#: ... and from the distributor to one.
DISTRIBUTED = 32 << 20


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
        FilterError: the filter does not compile.
        SourceError: the source cannot be opened.
    """
    cores = _checked(launch, count, cores)
    if engine.get("filter"):
        FrameFilter(engine["filter"])  # said once, and before a worker begins
    launch = attrs.evolve(launch, engine=engine, io_patience=io_patience, drain=drain)
    places = [Place(number=number, count=count, cores=cores) for number in range(count)]
    with contextlib.ExitStack() as stack:
        yield _deploy(launch, places, stack)


def _deploy(launch: Launch, places: list[Place], stack: contextlib.ExitStack) -> Supervisor:
    """Opens what the places need."""
    count = len(places)
    if not launch.live or (count == 1 and (launch.dpdk or launch.exclusive)):
        make_room(count, rings=0)
        places = [attrs.evolve(place, opens=launch.live) for place in places]
        ledgers = _ledgers(stack, places) if launch.live else {}
        tallies = Tallies(pumped=_pumped(launch, places))
        return Supervisor(launch, _with(ledgers, places), tallies, ledgers)
    apart = why_apart(launch, count) if launch.dpdk else None
    pages = pages_shared(launch, count) if launch.dpdk and not apart else 0
    make_room(count, rings=count * count, pages=pages)  # from each to each other, and from one more
    shared: SharedPorts | None = None
    if launch.dpdk and not apart:
        shared = stack.enter_context(shared_ports(launch, count))
    why = why_distributor(launch, shared) if count > 1 else None
    group: InterfaceGroup | None = None
    if not (launch.dpdk or launch.exclusive):
        group = stack.enter_context(_group(launch, 1 if why else count))
    pairs = [*itertools.permutations(range(count), 2)]
    rings = _rings(stack, pairs, HAND_OVER)
    if why and shared is None:
        rings |= _rings(stack, [(count, to) for to in range(count)], launch.buffer or DISTRIBUTED)
    if why:
        places = [*places, attrs.evolve(places[0], number=count, opens=not (group or shared))]
    places = [_endowed(place, rings, shared) for place in places]
    _tell(launch, why, apart)
    if group is not None:
        of = places[-1:] if why else places
        for index, place in enumerate(of):
            places[place.number] = attrs.evolve(place, packet=group.filenos(index))
    sockets = tuple(place.number for place in places if place.packet)
    ledgers = _ledgers(stack, places)
    return Supervisor(
        launch,
        _with(ledgers, places),
        Tallies(rings, group, sockets, shared, pumped=_pumped(launch, places)),
        ledgers,
        distributed=bool(why),
        shared=shared,
        settled=settled_by(rings, shared.waiting if shared else None),
    )


def _ledgers(stack: contextlib.ExitStack, places: list[Place]) -> dict[int, Ledger]:
    """One for each place, by its number."""
    from aiomos._engine.ledger import Ledger

    made = [stack.enter_context(contextlib.closing(Ledger.create())) for _ in places]
    return {place.number: ledger for place, ledger in zip(places, made, strict=True)}


def _with(ledgers: dict[int, Ledger], places: list[Place]) -> list[Place]:
    if not ledgers:
        return places
    return [attrs.evolve(place, ledger=ledgers[place.number].fd) for place in places]


def _pumped(launch: Launch, places: list[Place]) -> list[int]:
    """The numbers of those with a receive pump (_sources.py)."""
    if not launch.pump:
        return []
    return [
        place.number
        for place in places
        if place.opens or place.packet or (place.primary and not place.distributes)
    ]


def settled_by(
    rings: Rings, waiting: Callable[[int], int] | None = None
) -> Callable[[set[int]], bool]:
    """Whether no frame is on its way to one of the workers of these numbers.

    ``waiting``: how many frames wait for one in a fan, from which it may hand some over.

    A worker publishes what it hands over before it gives back the frame that this was made of. So
    if nothing was put into any ring while all were seen to be empty, one after the other, all are.
    """

    def pushed() -> list[int]:
        return [ring.stats().pushed for ring in rings.values()]

    def settled(alive: set[int]) -> bool:
        before = pushed()
        used = [ring.stats().used for (_, to), ring in rings.items() if to in alive]
        fed = [waiting(to) for to in alive] if waiting else []
        return not any(used) and not any(fed) and before == pushed()

    return settled


def _tell(launch: Launch, why: str | None, apart: str | None) -> None:
    """Which way the frames go, and why (docs/dpdk.md)."""
    if apart:
        log.warning("frames are copied by a process of their own: %s", apart)
    elif why:
        how = ", without being copied" if launch.dpdk else ""
        log.warning("frames go through a process of their own%s: %s", how, why)
    elif launch.dpdk:
        log.warning("each worker reads queues of its own: their hash is symmetric and known")


def why_distributor(launch: Launch, shared: SharedPorts | None = None) -> str | None:
    """Why the hash of the device cannot share out the flows; None: it can (semantics.md 11)."""
    if shared is not None:
        return shared.why_fan
    if launch.dpdk:
        return "DPDK's memory is not shared"
    if launch.exclusive:
        return "the queues of AF_XDP have a hash that nobody knows"
    if launch.engine.get("tunnel_in_key"):
        return "tunnels are part of a flow's key, and the kernel hashes what is outside of them"
    return None


def _endowed(place: Place, rings: Rings, shared: SharedPorts | None) -> Place:
    """A place with its ends of the rings, and its way to the ports."""
    number = place.number
    return attrs.evolve(
        place,
        primary=shared.prefix if shared else "",
        fan=bool(shared and shared.fan),
        inbox=tuple(_ends(ring) for (_, to), ring in rings.items() if to == number),
        outbox=tuple((to, *_ends(ring)) for (by, to), ring in rings.items() if by == number),
    )


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


def _rings(stack: contextlib.ExitStack, pairs: list[tuple[int, int]], size: int) -> Rings:
    """A ring from one process to another, for each of these pairs."""
    from aiomos._engine.rings import Ring

    return {pair: stack.enter_context(Ring.create(size)) for pair in pairs}


def _ends(ring: Ring) -> tuple[int, int]:
    """Descriptors of a ring."""
    return ring.fileno(), ring.bell
