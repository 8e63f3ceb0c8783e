"""Facts about PCI network devices, and about the drivers that hand a device to a program."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from aiomos._machine_files import (
    ROOT,
    entries,
    kernel_has,
    link_name,
    loads_modules,
    read_int,
    read_text,
)

#: Drivers that hand a device to a program.
USER_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")


@attrs.frozen
class PciDevice:
    """A PCI device of class 02, network."""

    address: str  # 0000:03:00.0
    vendor: int
    device: int
    driver: str  # "": bound to none
    node: int | None  # NUMA node
    group: str  # IOMMU group; "": none
    interfaces: tuple[str, ...]  # kernel interfaces on it

    @property
    def name(self) -> str:
        """The two numbers that say what it is."""
        return f"{self.vendor:04x}:{self.device:04x}"


@attrs.frozen
class UserDrivers:
    """What this kernel has for handing devices to programs."""

    loaded: tuple[str, ...]  # of USER_DRIVERS
    vfio: bool | None  # vfio-pci is there or can be loaded; None: not told
    modules: bool  # the kernel can load modules
    iommu: bool
    unsafe: bool  # VFIO's mode without an IOMMU is on
    container: bool  # /dev/vfio/vfio may be opened by this process


def read_pci(root: Path = ROOT) -> tuple[PciDevice, ...]:
    """The PCI network devices, by address."""
    found = (_device(path) for path in entries(root / "sys/bus/pci/devices"))
    return tuple(d for d in found if d is not None)


def _device(path: Path) -> PciDevice | None:
    if (read_int(path / "class") or 0) >> 16 != 0x02:
        return None
    node = read_int(path / "numa_node")
    # virtio puts a device of its own between the PCI device and its interface
    below = (path, *(p for p in entries(path) if p.name.startswith("virtio") and p.is_dir()))
    return PciDevice(
        address=path.name,
        vendor=read_int(path / "vendor") or 0,
        device=read_int(path / "device") or 0,
        driver=link_name(path / "driver"),
        node=None if node is None or node < 0 else node,
        group=link_name(path / "iommu_group"),
        interfaces=tuple(p.name for folder in below for p in entries(folder / "net")),
    )


def read_user_drivers(root: Path = ROOT, release: str | None = None) -> UserDrivers:
    """What of VFIO and UIO is there. ``release``: of the kernel, as ``uname -r`` says."""
    drivers = root / "sys/bus/pci/drivers"
    unsafe = read_text(root / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
    return UserDrivers(
        loaded=tuple(name for name in USER_DRIVERS if (drivers / name).exists()),
        vfio=kernel_has("vfio-pci", release or os.uname().release, root),
        modules=loads_modules(root),
        iommu=bool(entries(root / "sys/class/iommu") or entries(root / "sys/kernel/iommu_groups")),
        unsafe=unsafe == "Y",
        container=os.access(root / "dev/vfio/vfio", os.R_OK | os.W_OK),
    )
