"""All facts about this machine that ``aiomos doctor`` judges and ``aiomos devices`` lists.

Reading changes nothing: files of /proc and /sys, netlink, ethtool's requests, and sockets opened
and closed again. What is not there, or not for this user to see, reads as absent.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from aiomos._engine.errors import SourceError
from aiomos._machine_cpu import Clock, Cpus, read_clock, read_cpus_of
from aiomos._machine_dpdk import Dpdk, read_dpdk
from aiomos._machine_files import ROOT, entries, read_text
from aiomos._machine_memory import Memory, read_memory
from aiomos._machine_net import Interface, read_interfaces
from aiomos._machine_pci import PciDevice, UserDrivers, read_pci, read_user_drivers
from aiomos._machine_rights import (
    Bounds,
    Rights,
    Sockets,
    Surroundings,
    read_bounds,
    read_rights,
    read_surroundings,
    try_sockets,
)


@attrs.frozen
class Machine:
    """The facts of one moment."""

    interfaces: tuple[Interface, ...]
    sockets: Sockets
    rights: Rights
    bounds: Bounds
    surroundings: Surroundings
    cpus: Cpus
    clock: Clock
    memory: Memory
    pci: tuple[PciDevice, ...]
    user_drivers: UserDrivers
    dpdk: Dpdk
    irqbalance: bool  # the daemon that moves interrupts between processors runs

    def interface(self, name: str) -> Interface | None:
        """The interface of that name."""
        return next((i for i in self.interfaces if i.name == name), None)

    def busy(self, device: PciDevice) -> str:
        """The interface of a device that this host itself needs; "": none."""
        found = (self.interface(name) for name in device.interfaces)
        return next((i.name for i in found if i and (i.addresses or i.default_route)), "")


def read_machine(root: Path = ROOT) -> Machine:
    """Everything there is to know, in about a quarter of a second.

    Files are read below ``root``; interfaces, rights and limits are this process's.

    Raises:
        SourceError: the kernel answers no questions over netlink.
    """
    return Machine(
        interfaces=_interfaces(),
        sockets=try_sockets(),
        rights=read_rights(root),
        bounds=read_bounds(root),
        surroundings=read_surroundings(root),
        cpus=read_cpus_of(root),
        clock=read_clock(root),
        memory=read_memory(root),
        pci=read_pci(root),
        user_drivers=read_user_drivers(root),
        dpdk=read_dpdk(root),
        irqbalance=runs("irqbalance", root),
    )


def _interfaces() -> tuple[Interface, ...]:
    try:
        return read_interfaces()
    except OSError as error:
        raise SourceError(
            f"this system does not list its interfaces over netlink ({error.strerror or error});"
            " taps, AF_XDP and DPDK need Linux"
        ) from error


def runs(program: str, root: Path = ROOT) -> bool:
    """Whether a process of this name runs, as far as /proc shows other processes."""
    processes = (p for p in entries(root / "proc") if p.name.isdecimal())
    return any(read_text(p / "comm") == program for p in processes)
