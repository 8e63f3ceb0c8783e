"""Opens what a launch names: captures, an interface, DPDK ports, or what a supervisor opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiomos._engine.source import Source, open_files
from aiomos._launch import Launch, Place

if TYPE_CHECKING:
    from aiomos._engine.core import Core
    from aiomos._engine.ledger import Ledger
    from aiomos._engine.rings import Ring


@contextlib.contextmanager
def opened(launch: Launch) -> Iterator[Source]:
    """The source of a run in one process; closed with all that it stands on.

    Raises:
        SourceError: it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        if launch.files:
            source = open_files(launch.files)
        elif launch.dpdk:
            source = with_pump(_ports(launch, stack), launch)
        else:
            source = with_pump(_interface(launch), launch)
        yield stack.enter_context(source)


def _interface(launch: Launch) -> Source:
    """The kernel interface alone."""
    from aiomos._engine import interface

    assert launch.interface is not None
    if launch.exclusive:
        return interface.open_xdp(launch.interface, force=launch.force, ring_bytes=launch.buffer)
    return interface.open_interface(
        launch.interface,
        ring_bytes=launch.buffer,
        promiscuous=launch.promiscuous,
        direction=launch.direction,
    )


def _ports(launch: Launch, stack: contextlib.ExitStack) -> Source:
    """All DPDK devices as one source; the ports, and then DPDK itself, are closed behind it."""
    from aiomos._engine import dpdkconfig

    dpdk = dpdkconfig.load()
    dpdk.initialise(dpdkconfig.DpdkConfig(devices=launch.dpdk, huge=launch.huge))
    stack.callback(dpdk.shutdown)
    queues = []
    for device in launch.dpdk:
        count = dpdkconfig.queues_of(device)
        port = stack.enter_context(dpdk.open_port(device, queues=count))
        queues += [(port, number) for number in range(count)]
    source: Source = dpdk.open_source(queues)
    return source


def with_pump(source: Source, launch: Launch) -> Source:
    """The same behind a thread that receives, if the launch asks for one.

    A capture waits for whoever reads it, and loses nothing without.
    """
    if not (launch.pump and source.live):
        return source
    from aiomos._engine import rings

    return rings.pump_source(source, ring_bytes=launch.pump)


@contextlib.contextmanager
def opened_place(launch: Launch, place: Place) -> Iterator[Source]:
    """The source of one worker: its own descriptors, and what others hand over.

    Raises:
        SourceError: it cannot be opened.
    """
    if launch.files or place.opens:
        with opened(launch) as source:
            yield source
        return
    from aiomos._engine import rings

    with contextlib.ExitStack() as stack:
        parts = _own_parts(launch, place, stack)
        for ring in place.inbox:
            attached = rings.Ring.attach(*ring)
            parts.append(rings.ring_source(attached, captured=place.captured, settled=True))
        with parts[0] if len(parts) == 1 else rings.join_sources(parts) as source:
            yield source


def _own_parts(launch: Launch, place: Place, stack: contextlib.ExitStack) -> list[Source]:
    """What comes to a place not from other processes, if anything does."""
    if place.primary:
        from aiomos._dpdkplace import attached

        own = attached(launch, place, stack)
        return [own if place.distributes else with_pump(own, launch)]
    if place.packet is not None:
        from aiomos._engine.interface import attach_interface

        tap = attach_interface(*place.packet, name=launch.name, settled=True)
        return [with_pump(tap, launch)]
    return []


def attach_rings(place: Place) -> list[Ring]:
    """The rings that a distributor writes, in order of the workers."""
    from aiomos._engine.rings import Ring

    return [Ring.attach(*ring) for _, *ring in place.outbox]


def ledger_of(place: Place) -> Ledger | None:
    """In which a process at this place keeps what it counts."""
    if place.ledger < 0:
        return None
    from aiomos._engine.ledger import Ledger

    return Ledger.attach(place.ledger)


def take_place(core: Core, launch: Launch, place: Place) -> object:
    """Tells a core which flows are its own; what is returned is to be kept as long as it runs."""
    if place.count == 1:
        return None
    if launch.files:
        core.share(place.number, place.count)
        return None
    from aiomos._engine.handover import HandOver
    from aiomos._engine.rings import Ring

    rings = {number: Ring.attach(*ring) for number, *ring in place.outbox}
    return HandOver(core, rings, place.number, place.count)
