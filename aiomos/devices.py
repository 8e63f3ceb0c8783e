"""``aiomos devices``: what can be opened, and with which option."""

from __future__ import annotations

from typing import Any

import attrs

from aiomos._doctor_dpdk import VIRTUAL, how_to_get
from aiomos._machine import Machine
from aiomos._machine_net import Interface
from aiomos._machine_pci import USER_DRIVERS, PciDevice

TAP, EXCLUSIVE, DPDK = "-i", "--exclusive", "--dpdk"


@attrs.frozen
class Port:
    """A kernel interface as one would open it."""

    name: str
    state: str  # up, down, no link, off
    mtu: int | None
    driver: str
    queues: int | None
    queues_max: int | None
    speed: int | None  # Mbit/s
    mac: str
    addresses: tuple[str, ...]
    default_route: bool
    options: tuple[str, ...]  # that open it


@attrs.frozen
class Card:
    """A PCI network device."""

    address: str
    id: str  # vendor:device
    driver: str  # the kernel's, or the one that hands it to programs; "": none
    dpdk_driver: str  # "": none installed
    interfaces: tuple[str, ...]
    node: int | None
    options: tuple[str, ...]


@attrs.frozen
class Virtual:
    """A DPDK device that is made when it is opened."""

    name: str
    purpose: str
    parameters: str
    options: tuple[str, ...]


@attrs.frozen
class Devices:
    """Everything that can be opened here."""

    interfaces: tuple[Port, ...]
    pci: tuple[Card, ...]
    virtual: tuple[Virtual, ...]
    dpdk: bool  # this build opens DPDK devices
    dpdk_version: str  # of the installed library; "": none
    get_dpdk: tuple[str, ...]  # commands that bring it

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the schema stands in docs/doctor.md."""
        return attrs.asdict(self)


def find_devices(machine: Machine) -> Devices:
    """What of this machine can be opened."""
    dpdk = machine.dpdk
    usable = dpdk.built and not dpdk.error
    return Devices(
        interfaces=(*(_port(i) for i in machine.interfaces), _any()),
        pci=tuple(_card(machine, d, usable) for d in machine.pci),
        virtual=tuple(
            Virtual(d.name, VIRTUAL[d.name], d.parameters, (DPDK,) if usable else ())
            for d in dpdk.drivers
            if d.name in VIRTUAL
        ),
        dpdk=usable,
        dpdk_version=dpdk.version,
        get_dpdk=() if usable else how_to_get(dpdk),
    )


def _port(interface: Interface) -> Port:
    taken = not (interface.loopback or interface.addresses or interface.default_route)
    return Port(
        name=interface.name,
        state=_state(interface),
        mtu=interface.mtu,
        driver=interface.driver or ("loopback" if interface.loopback else ""),
        queues=interface.queues,
        queues_max=interface.hardware.queues_max,
        speed=interface.hardware.speed,
        mac=interface.mac,
        addresses=interface.addresses,
        default_route=interface.default_route,
        options=(TAP, EXCLUSIVE) if taken else (TAP,),
    )


def _state(interface: Interface) -> str:
    if not interface.up:
        return "off"
    if interface.state in ("down", "lower layer down"):
        return "no link"
    return "up" if interface.state == "unknown" else interface.state


def _any() -> Port:
    """All interfaces together: a tap's, as in tcpdump."""
    return Port(
        name="any",
        state="up",
        mtu=None,
        driver="",
        queues=None,
        queues_max=None,
        speed=None,
        mac="",
        addresses=(),
        default_route=False,
        options=(TAP,),
    )


def _card(machine: Machine, device: PciDevice, usable: bool) -> Card:
    """It opens when it is handed over, or when its driver works beside the kernel's."""
    driver = machine.dpdk.driver_of(device.vendor, device.device)
    ready = driver is not None and (driver.shares or device.driver in USER_DRIVERS)
    return Card(
        address=device.address,
        id=device.name,
        driver=device.driver,
        dpdk_driver=driver.name if driver else "",
        interfaces=device.interfaces,
        node=device.node,
        options=(DPDK,) if ready and usable else (),
    )
