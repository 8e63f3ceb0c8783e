"""Judging: PCI network devices for DPDK, and the kernel's side of handing them over."""

from __future__ import annotations

from aiomos._findings import Finding, missing, note, ok
from aiomos._machine import Machine
from aiomos._machine_dpdk import Driver
from aiomos._machine_pci import USER_DRIVERS, PciDevice

_IOMMU = "add intel_iommu=on iommu=pt (AMD: iommu=pt) to the kernel's command line and reboot"
_UNSAFE = "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"


def check_pci(machine: Machine) -> list[Finding]:
    """Nothing of VFIO matters where there is no device to hand over."""
    if not machine.pci:
        return [note("PCI devices", "this machine has no PCI network device: virtual ones remain.")]
    iommu = [_iommu(machine)] if _can_bind(machine) else []
    return [_vfio(machine), *iommu, *(_device(machine, d) for d in machine.pci)]


def _vfio(machine: Machine) -> Finding:
    drivers, topic = machine.user_drivers, "vfio-pci"
    if "vfio-pci" in drivers.loaded:
        if machine.rights.user != 0 and not drivers.container:
            return missing(topic, "loaded, but this user may not open /dev/vfio/vfio.",
                           "chmod 666 /dev/vfio/vfio")  # fmt: skip
        return ok(topic, "loaded: it hands PCI devices to programs.")
    if not drivers.modules:
        return missing(topic, "not in this kernel, which loads no modules: one with"
                       " CONFIG_VFIO_PCI is needed for NICs.")  # fmt: skip
    if drivers.vfio is False:
        return missing(topic, f"no such module for kernel {machine.surroundings.release}: NICs"
                       " need a kernel with CONFIG_VFIO_PCI.")  # fmt: skip
    return missing(topic, "not loaded: it hands PCI devices to programs.", "modprobe vfio-pci")


def _iommu(machine: Machine) -> Finding:
    drivers, topic = machine.user_drivers, "IOMMU"
    if drivers.iommu:
        return ok(topic, "on: a device reaches only the memory it was given.")
    if drivers.unsafe:
        return note(topic, "off, and VFIO's mode without one is on: only root can use it, and a"
                    " device can write to all memory.")  # fmt: skip
    load = () if "vfio-pci" in drivers.loaded else ("modprobe vfio-pci",)
    return missing(topic, f"off; {_IOMMU}, or, where there is none (virtual machines), use VFIO"
                   " without one, as root and without its protection:", *load, _UNSAFE)  # fmt: skip


def _device(machine: Machine, device: PciDevice) -> Finding:
    topic = device.address
    what = f"{device.name}" + (f" ({', '.join(device.interfaces)})" if device.interfaces else "")
    driver = machine.dpdk.driver_of(device.vendor, device.device)
    if driver is None:
        return note(topic, f"{what}, {_bound(device)}: no installed DPDK driver is for it.")
    if driver.shares:
        return ok(
            topic, f"{what}: {driver.name} works beside the kernel's driver, nothing to bind."
        )
    if device.driver in USER_DRIVERS:
        return _handed_over(machine, device, what, driver)
    return _to_bind(machine, device, what, driver)


def _bound(device: PciDevice) -> str:
    return f"bound to {device.driver}" if device.driver else "bound to no driver"


def _handed_over(machine: Machine, device: PciDevice, what: str, driver: Driver) -> Finding:
    if device.driver == "vfio-pci" and device.group and machine.rights.user != 0:
        node = f"/dev/vfio/{device.group}"
        return note(device.address, f"{what}, {_bound(device)}, for {driver.name}; a user who is"
                    f" not root needs {node}.", f"chown {machine.rights.user} {node}")  # fmt: skip
    return ok(device.address, f"{what}, {_bound(device)}, for {driver.name}.")


def _to_bind(machine: Machine, device: PciDevice, what: str, driver: Driver) -> Finding:
    """The line that binds it, unless the host itself lives on it."""
    if used := machine.busy(device):
        return note(
            device.address,
            f"{what}, {_bound(device)}: this host uses {used} (address or default route), so it"
            " is left to the kernel.",
        )
    if not _can_bind(machine):
        return note(device.address, f"{what}, {_bound(device)}; {driver.name} would drive it, but"
                    " this kernel has no vfio-pci.")  # fmt: skip
    return missing(
        device.address,
        f"{what}, {_bound(device)}; {driver.name} drives it once it is handed over, and the kernel"
        " then no longer sees it.",
        f"dpdk-devbind.py --bind={_handover_driver(driver)} {device.address}",
    )


def _can_bind(machine: Machine) -> bool:
    drivers = machine.user_drivers
    return bool(drivers.loaded) or (drivers.modules and drivers.vfio is not False)


def _handover_driver(driver: Driver) -> str:
    known = driver.kernel_drivers
    return "uio_pci_generic" if known and "vfio" not in known else "vfio-pci"
