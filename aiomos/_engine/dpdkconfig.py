"""How DPDK is to be set up in a process, as a value; and the way to the module that links it."""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Literal

import attrs

from aiomos._engine.errors import ConfigError, SourceError

#: With ordinary pages DPDK takes its memory at once; it is touched when it is used.
MEMORY_WITHOUT_HUGE_PAGES = 512
#: Virtual devices, by the beginnings of their names.
VIRTUAL = ("net_", "eth_", "event_", "crypto_")

_PCI = re.compile(
    r"(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])(,.*)?\Z", re.DOTALL
)
_HUGE = Path("/sys/kernel/mm/hugepages")
_PCI_DEVICES = Path("/sys/bus/pci/devices")
_NETWORK_CLASS = "0x02"
_MOUNTS = Path("/proc/mounts")
#: Kernel drivers that hand a device over to a program.
_USER_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
#: NICs whose kernel driver stays in charge.
_SHARED_DRIVERS = ("mlx4_core", "mlx5_core", "mana")


def is_virtual(device: str) -> bool:
    """A device that DPDK makes up (``net_pcap0,rx_pcap=FILE``), not one with a PCI address."""
    return device.startswith(VIRTUAL)


def device_name(device: str) -> str:
    """The device without its arguments; PCI addresses in full. Raises ConfigError."""
    return full_device(device).split(",")[0]


def queues_of(device: str) -> int:
    """Receive queues that its arguments give it, if they do; else one is enough.

    Each capture of net_pcap is a queue of its own: who opened one would read the first alone.
    """
    captures = sum(word.startswith(("rx_pcap=", "rx_iface=")) for word in device.split(","))
    return max(captures, 1) if device.startswith("net_pcap") else 1


def full_device(device: str) -> str:
    """The device with its PCI address in full: ``3:00.0`` is none, ``03:00.0`` is.

    Raises ConfigError for what is neither a virtual device nor a PCI address.
    """
    if is_virtual(device):
        return device
    match = _PCI.match(device)
    if match is None:
        raise ConfigError(
            f"{device!r} is no DPDK device: give a PCI address (0000:03:00.0) or a virtual"
            " device (net_pcap0,rx_pcap=FILE)"
        )
    return f"{match[1] or '0000'}:{match[2]}{match[3] or ''}".lower()


def check_pci(device: str) -> None:
    """Whether a PCI device is there and free for DPDK; SourceError says what to do if not."""
    address = device_name(device)
    folder = _PCI_DEVICES / address
    if not folder.exists():
        raise SourceError(f"there is no PCI device {address}: aiomos devices lists what there is")
    if not (folder / "class").read_text().startswith(_NETWORK_CLASS):
        raise SourceError(f"{address} is no network device: aiomos devices lists what there is")
    link = folder / "driver"
    driver = link.resolve().name if link.exists() else "no driver"
    if driver not in (*_USER_DRIVERS, *_SHARED_DRIVERS):
        raise SourceError(
            f"{address} is in use by the kernel ({driver}): take its addresses off and run"
            f" dpdk-devbind.py --bind=vfio-pci {address}"
        )


def huge_mib(which: Literal["free", "nr"] = "free") -> int:
    """MiB of huge pages, those that nobody uses or all ("nr")."""
    found = 0
    for size in _HUGE.glob("hugepages-*kB"):
        kib = int(size.name.removeprefix("hugepages-").removesuffix("kB"))
        found += int((size / f"{which}_hugepages").read_text()) * kib // 1024
    return found


def huge_mounts() -> list[str]:
    """Where hugetlbfs is mounted."""
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    return [
        words[1].encode().decode("unicode_escape") for words in mounts if words[2] == "hugetlbfs"
    ]


def how_to_reserve(mib: int) -> str:
    """The command that makes so many MiB of huge pages free, besides those in use."""
    pages = -(-(huge_mib("nr") - huge_mib() + max(mib, 256)) // 2)
    return f"echo {pages} > /proc/sys/vm/nr_hugepages"


def _names(devices: Iterable[str]) -> tuple[str, ...]:
    return tuple(devices)


@attrs.frozen(kw_only=True)
class DpdkConfig:
    """DPDK in one process. The first use counts: it starts once a process.

    ``devices`` are PCI devices to be made known at the start; virtual ones need not be named.
    ``huge``: "auto" takes huge pages if enough are free for ``memory_mib``, and does without if
    not; only virtual devices work without. ``memory_mib`` 0 is as needed with huge pages, 512
    without. ``shared``: secondary processes may attach, which needs huge pages and a mounted
    hugetlbfs (``huge_dir``, if there are several). ``file_prefix`` names a primary and its
    secondaries (by default one is made up). ``lcore`` is a number that no other process of that
    prefix has; threads are not pinned. ``driver_path`` is a folder of drivers in place of the
    distribution's. ``log_level`` is DPDK's (``"debug"``, ``"pmd.net.tap:debug"``).

    Raises ConfigError for values that contradict each other.
    """

    devices: tuple[str, ...] = attrs.field(default=(), converter=_names)
    huge: Literal["auto", "yes", "no"] = "auto"
    memory_mib: int = 0
    file_prefix: str = ""
    process: Literal["primary", "secondary"] = "primary"
    shared: bool = False
    lcore: int = 0
    huge_dir: str = ""
    driver_path: str = ""
    log_level: str = "warning"
    telemetry: bool = False

    def __attrs_post_init__(self) -> None:
        if self.huge not in ("auto", "yes", "no"):
            raise ConfigError(f"huge is 'auto', 'yes' or 'no', not {self.huge!r}")
        if self.process not in ("primary", "secondary"):
            raise ConfigError(f"process is 'primary' or 'secondary', not {self.process!r}")
        if self.process == "secondary" and not self.file_prefix:
            raise ConfigError("a secondary process needs the file_prefix of its primary")
        if self.needs_sharing and self.huge == "no":
            raise ConfigError("memory is shared in huge pages only: huge='no' forbids that")
        if not 0 <= self.lcore < 128:
            raise ConfigError(f"lcore is 0 to 127, not {self.lcore}")
        if "/" in self.file_prefix:
            raise ConfigError(f"file_prefix is a name, not a path: {self.file_prefix!r}")

    @property
    def needs_sharing(self) -> bool:
        """Memory is to be seen by other processes."""
        return self.shared or self.process == "secondary"

    @property
    def pci_devices(self) -> tuple[str, ...]:
        """The devices with a PCI address, in full."""
        return tuple(full_device(d) for d in self.devices if not is_virtual(d))

    def uses_huge_pages(self) -> bool:
        """What ``huge`` comes to on this machine, now. Raises SourceError."""
        if self.process == "secondary":
            return True
        free = huge_mib()
        enough = free >= (self.memory_mib or 2)
        required = self.huge == "yes" or self.shared or bool(self.pci_devices)
        if required and not enough:
            raise SourceError(
                f"{free} MiB of huge pages are free, and {self._why_huge()} needs"
                f" {self.memory_mib or 'some'}: {how_to_reserve(self.memory_mib)}"
            )
        return required or (self.huge == "auto" and free >= (self.memory_mib or 128))

    def _why_huge(self) -> str:
        if self.pci_devices:
            return self.pci_devices[0]
        return "shared=True" if self.shared else "huge='yes'"

    def _check_mount(self) -> None:
        mounts = huge_mounts()
        if not mounts or (self.huge_dir and self.huge_dir not in mounts):
            folder = self.huge_dir or "/dev/hugepages"
            raise SourceError(
                "memory is shared by way of a hugetlbfs, and none is mounted"
                f"{' at ' + folder if mounts else ''}:"
                f" mkdir -p {folder} && mount -t hugetlbfs nodev {folder}"
            )

    def effective(self) -> DpdkConfig:
        """With everything decided that was left open: pages, memory, prefix."""
        for device in self.pci_devices:
            check_pci(device)
        huge = self.uses_huge_pages()
        if self.shared and self.process == "primary":
            self._check_mount()
        memory = self.memory_mib or (0 if huge else MEMORY_WITHOUT_HUGE_PAGES)
        return attrs.evolve(
            self,
            huge="yes" if huge else "no",
            memory_mib=memory,
            file_prefix=self.file_prefix or f"aiomos-{os.getpid()}",
        )


def remove_traces(config: DpdkConfig, folder: str, pid: int) -> None:
    """What DPDK leaves behind of a primary that ends: its folder, its files of huge pages.

    Memory that other processes have mapped stays theirs. Does nothing in a forked child.
    """
    if os.getpid() != pid or Path(folder).name != config.file_prefix:
        return
    shutil.rmtree(folder, ignore_errors=True)
    for mount in huge_mounts() if config.shared else ():
        for file in Path(mount).glob(f"{glob.escape(config.file_prefix)}map_*"):
            with contextlib.suppress(OSError):
                file.unlink()


def load() -> ModuleType:
    """The module that links DPDK, ``aiomos._engine._dpdk``.

    Raises SourceError where aiomos was built without DPDK, or DPDK's libraries are not there or
    are of another version.
    """
    try:
        return importlib.import_module("aiomos._engine._dpdk")
    except ModuleNotFoundError:
        raise SourceError(
            "this aiomos was built without DPDK: apt install libdpdk-dev dpdk, then"
            " pip install --no-binary aiomos aiomos -Csetup-args=-Ddpdk=enabled"
        ) from None
    except ImportError as error:
        raise SourceError(
            f"DPDK's libraries are missing or of another version ({error}): apt install dpdk,"
            " or build aiomos again on this machine"
        ) from None
