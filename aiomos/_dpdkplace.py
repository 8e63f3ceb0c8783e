"""A worker's, and the distributor's, end of the DPDK ports that the supervisor owns."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from aiomos._engine import dpdkconfig
from aiomos._engine.dpdkconfig import DpdkConfig
from aiomos._launch import FAN, Launch, Place

if TYPE_CHECKING:
    from aiomos._engine.source import Source


def attached(launch: Launch, place: Place, stack: contextlib.ExitStack) -> Source:
    """Where the frames of a place come from: queues of the ports, or the ring of a distributor.

    All that it stands on is closed by the stack.

    Raises:
        SourceError: the supervisor has no such ports.
    """
    dpdk = dpdkconfig.load()
    config = DpdkConfig(process="secondary", file_prefix=place.primary, lcore=place.number + 1)
    dpdk.initialise(config)
    stack.callback(dpdk.shutdown)
    names = [dpdkconfig.device_name(device) for device in launch.dpdk]
    ports = [stack.enter_context(dpdk.attach_port(name)) for name in names]
    source: Source
    if place.fan and not place.distributes:
        source = dpdk.fan_source(FAN, place.number, captured=place.captured)
    else:
        queue = 0 if place.fan else place.number
        source = dpdk.open_source((port, queue) for port in ports)
    return stack.enter_context(source)


def attached_fan() -> Any:
    """The rings to the workers, a Fan, for the distributor, which is attached already."""
    return dpdkconfig.load().attach_fan(FAN)
