"""Opens what a launch names: captures, a kernel interface, or what a supervisor has opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiomos._engine.source import Source, open_files
from aiomos._launch import Launch, Place

if TYPE_CHECKING:
    from aiomos._engine.core import Core


def open_source(launch: Launch) -> Source:
    """The source of a run in one process.

    Raises:
        SourceError: it cannot be opened.
    """
    if launch.files:
        return open_files(launch.files)
    return with_pump(open_interface(launch), launch)


def open_interface(launch: Launch) -> Source:
    """The kernel interface alone."""
    from aiomos._engine import interface

    assert launch.interface is not None
    if launch.exclusive:
        return interface.open_xdp(launch.interface, force=launch.force)
    return interface.open_interface(
        launch.interface,
        ring_bytes=launch.buffer,
        promiscuous=launch.promiscuous,
        direction=launch.direction,
    )


def with_pump(source: Source, launch: Launch) -> Source:
    """The same behind a thread that receives, if the launch asks for one."""
    if not launch.pump:
        return source
    from aiomos._engine import rings

    return rings.pump_source(source, ring_bytes=launch.pump)


def open_place(launch: Launch, place: Place) -> Source:
    """The source of one worker: its own descriptors, and what others hand over.

    Raises:
        SourceError: it cannot be opened.
    """
    if launch.files:
        return open_files(launch.files)
    from aiomos._engine import interface, rings

    parts = []
    if place.packet is not None:
        parts.append(with_pump(interface.attach_interface(*place.packet, name=launch.name), launch))
    parts += [rings.ring_source(rings.Ring.attach(*ring)) for ring in place.inbox]
    return parts[0] if len(parts) == 1 else rings.join_sources(parts)


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
