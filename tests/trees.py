"""Trees of /proc and /sys as machines have them that are not here; facts for judging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiomos._engine import dpdkconfig
from aiomos._ethtool import Hardware
from aiomos._machine import Machine
from aiomos._machine_cpu import Clock, Cpus
from aiomos._machine_dpdk import Dpdk, Driver
from aiomos._machine_memory import HugeMount, HugePages, Memory
from aiomos._machine_net import Interface, Xdp
from aiomos._machine_pci import PciDevice, UserDrivers
from aiomos._machine_rights import CAPABILITIES, Bounds, Rights, Sockets, Surroundings

NODES = "sys/devices/system/node"
I350, MLX5 = (0x8086, 0x1521), (0x15B3, 0x1019)


def plant(root: Path, files: dict[str, str]) -> None:
    """Text files below a root; a value that begins with ``->`` is a link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text + "\n")


def plant_pci(root: Path, address: str, ids: tuple[int, int], driver: str, **more: str) -> None:
    """A network device; ``more``: further files and links of it."""
    folder = f"sys/bus/pci/devices/{address}"
    files = {"class": "0x020000", "vendor": f"{ids[0]:#06x}", "device": f"{ids[1]:#06x}", **more}
    plant(root, {f"{folder}/{name}": text for name, text in files.items()})
    if driver:
        (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (root / folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")


def plant_pages(root: Path, node: int, kib: int, total: int, free: int, cpus: str) -> None:
    """Huge pages of a NUMA node."""
    pages = f"{NODES}/node{node}/hugepages/hugepages-{kib}kB"
    plant(
        root,
        {
            f"{NODES}/node{node}/cpulist": cpus,
            f"{pages}/nr_hugepages": str(total),
            f"{pages}/free_hugepages": str(free),
        },
    )


def plant_driver(root: Path, library: str, *abouts: dict[str, Any], version: str = "") -> None:
    """A driver's library, as far as it describes itself; with ``version``, DPDK's own headers."""
    path = root / "usr/lib/dpdk/pmds-23.0" / f"{library}.so.23"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = b"".join(b"PMD_INFO_STRING= " + json.dumps(a).encode() + b"\0" for a in abouts)
    path.write_bytes(b"\x7fELF\0\1\2" + texts + b"\0rest")
    if version:
        plant(root, {"usr/lib/pkgconfig/libdpdk.pc": f"Name: DPDK\nVersion: {version}"})


# ---- facts -------------------------------------------------------------------------------------


def interface(name: str = "mirror0", **changes: Any) -> Interface:
    """A NIC that is up, without an address, with nothing peculiar."""
    hardware = Hardware("i40e", "0000:03:00.0", 10_000, 4, 8)
    good = Interface(
        name=name, index=7, kind="", state="up", up=True, loopback=False, mtu=1500,
        mac="02:00:00:00:00:01", addresses=(), default_route=False, master="", rx_queues=4,
        tx_queues=4, hardware=hardware, xdp=Xdp(True, True, ""),
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def nic(**changes: Any) -> Hardware:
    """The hardware of a NIC with four queues of eight."""
    return attrs.evolve(Hardware("ice", "0000:03:00.0", 10_000, 4, 8), **changes)


def dpdk(**changes: Any) -> Dpdk:
    """An installed DPDK with its module, drivers for an I350, ConnectX-5, and two virtual ones."""
    igb = Driver("net_e1000_igb", "librte_net_e1000.so", "", "* igb_uio | vfio-pci", (I350,))
    mlx = Driver("mlx5_eth", "librte_net_mlx5.so", "", "* ib_uverbs & mlx5_core", (MLX5,))
    virtual = [
        Driver(f"net_{n}", f"librte_net_{n}.so", "iface=<string>", "", ())
        for n in ("af_packet", "pcap")
    ]
    good = Dpdk(
        built=True, error="", version="22.11.11", headers=True, build="pip install DPDK",
        drivers=(igb, mlx, *virtual),
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def pci(**changes: Any) -> PciDevice:
    """An I350 that its kernel driver has."""
    good = PciDevice(
        address="0000:03:00.0", vendor=I350[0], device=I350[1], driver="igb", node=0, group="12",
        interfaces=("mirror0",),
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def user_drivers(**changes: Any) -> UserDrivers:
    """vfio-pci is loaded, and there is an IOMMU."""
    good = UserDrivers(
        loaded=("vfio-pci",), vfio=True, modules=True, iommu=True, unsafe=False, container=True
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def cpus(**changes: Any) -> Cpus:
    """Four processors, nothing set aside."""
    all_four = frozenset(range(4))
    good = Cpus(
        online=all_four, allowed=all_four, isolated=frozenset(), tickless=frozenset(), siblings=(),
        nodes=((0, all_four),), governors=frozenset(), quota=None,
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def pages(node: int = 0, total: int = 512, free: int = 512) -> HugePages:
    """Pages of 2 MiB."""
    path = f"/{NODES}/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
    return HugePages(2 << 20, node, total, free, path)


def rights(*lost: str, obtainable: bool = True) -> Rights:
    """Root's, but for some; without any of them, a user's."""
    held = frozenset(CAPABILITIES) - set(lost)
    return Rights(1000 if lost else 0, held, frozenset(CAPABILITIES) if obtainable else held)


def surroundings(**changes: Any) -> Surroundings:
    """A machine and no container."""
    good = Surroundings(
        container="", mapped_users=False, filtered=False, read_only=False, tun=True, release="6.1"
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def machine(**changes: Any) -> Machine:
    """A machine on which everything is well."""
    good = Machine(
        interfaces=(interface(),), sockets=Sockets("", "", ""), rights=rights(),
        bounds=Bounds(65536, 65536, -1, 4 << 20), surroundings=surroundings(), cpus=cpus(),
        clock=Clock("tsc", ("tsc", "hpet")),
        memory=Memory(8 << 30, (pages(),), (HugeMount("/dev/hugepages", 2 << 20, True),)),
        pci=(), user_drivers=user_drivers(), dpdk=dpdk(), irqbalance=False,
    )  # fmt: skip
    return attrs.evolve(good, **changes)


def point_dpdk_to(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, total: int, free: int, mounts: str
) -> Path:
    """Huge pages of 2 MiB and mounts, as DPDK's configuration reads them; the file of mounts."""
    sizes = root / "hugepages-2048kB"
    sizes.mkdir()
    (sizes / "nr_hugepages").write_text(f"{total}\n")
    (sizes / "free_hugepages").write_text(f"{free}\n")
    told = root / "mounts"
    told.write_text(mounts + "\n")
    monkeypatch.setattr(dpdkconfig, "_HUGE", root)
    monkeypatch.setattr(dpdkconfig, "_MOUNTS", told)
    return told
