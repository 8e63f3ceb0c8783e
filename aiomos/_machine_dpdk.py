"""Facts about DPDK: the module of this build, the installed library, its drivers of ports."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import mmap
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from aiomos._machine_files import ROOT, entries, read_text

MODULE = "aiomos._engine._dpdk"

#: Each driver carries, as text, which devices it drives and which parameters it takes.
_ABOUT = re.compile(rb"PMD_INFO_STRING= (\{[^\0]*\})\0")
_ANY = 0xFFFF


@attrs.frozen
class Driver:
    """A driver of ports, as its library describes it."""

    name: str  # net_ice
    library: str  # librte_net_ice.so
    parameters: str  # "iface=<string> ..."; "": none said
    kernel_drivers: str  # kernel modules it works with: "* igb_uio | vfio-pci"
    devices: tuple[tuple[int, int], ...]  # PCI vendor, device

    @property
    def virtual(self) -> bool:
        """It makes a device of its own (``net_pcap0,...``) instead of driving a PCI device."""
        return not self.devices

    @property
    def shares(self) -> bool:
        """It works beside the kernel's own driver: nothing is to be bound."""
        return "ib_uverbs" in self.kernel_drivers


@attrs.frozen
class Dpdk:
    """What of DPDK is here."""

    built: bool  # this build of aiomos has the module
    error: str  # why the module cannot be loaded; "": it can, or there is none
    version: str  # of the installed library: "22.11.11", or "ABI 23"; "": none
    headers: bool  # a module could be built here
    build: str  # the command that builds one, for the way this installation came
    drivers: tuple[Driver, ...]

    def driver_of(self, vendor: int, device: int) -> Driver | None:
        """The driver for a PCI device."""
        wanted = {(vendor, device), (vendor, _ANY)}
        return next((d for d in self.drivers if wanted & set(d.devices)), None)


def read_dpdk(root: Path = ROOT) -> Dpdk:
    """The module of this process, and the library and drivers under a root."""
    folders = tuple(library_folders(root))
    built, error = read_module()
    described = next(filter(None, (_described(f) for f in folders)), "")
    return Dpdk(
        built=built,
        error=error,
        version=described or next(filter(None, (_abi(f) for f in folders)), ""),
        headers=bool(described),
        build=build_command(),
        drivers=tuple(sorted(_drivers(driver_libraries(root)), key=lambda d: d.name)),
    )


def read_module() -> tuple[bool, str]:
    """Whether this build has the module, and why it cannot be loaded, if so."""
    try:
        if importlib.util.find_spec(MODULE) is None:
            return False, ""
    except OSError:  # an editable installation of somebody else's, which looks whether to build
        return False, ""
    try:
        importlib.import_module(MODULE)
    except ImportError as error:
        return True, str(error)
    return True, ""


def build_command(origin: str | None = None) -> str:
    """The command that installs aiomos again, with DPDK.

    ``origin``: direct_url.json (PEP 610) of the installation, which says whether it came from a
    checkout; None: of this one.
    """
    if origin is None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            origin = importlib.metadata.distribution("aiomos").read_text("direct_url.json")
    about = json.loads(origin or "{}")
    option = "-Csetup-args=-Ddpdk=enabled"
    if not about.get("url", "").startswith("file://") or "dir_info" not in about:
        return f"pip install --no-binary aiomos --force-reinstall aiomos {option}"
    folder = shlex.quote(unquote(urlsplit(about["url"]).path))
    if about["dir_info"].get("editable"):
        return f"pip install --no-build-isolation -e {folder} {option}"
    return f"pip install --force-reinstall {folder} {option}"


def library_folders(root: Path = ROOT) -> Iterator[Path]:
    """Where this system keeps shared libraries, most special first."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    for base in ("usr/local/lib", "usr/lib"):
        for part in filter(None, (f"{base}/{multiarch}" if multiarch else "", f"{base}64", base)):
            if (root / part).is_dir():
                yield root / part


def driver_libraries(root: Path = ROOT) -> tuple[Path, ...]:
    """The drivers that DPDK loads when it starts: librte_net_*.so in its ``pmds`` folders.

    ``dpdk/pmds-23.0`` below the folder of libraries is where a build that installs shared
    libraries puts them; without one they lie beside the libraries themselves.
    """
    for folder in library_folders(root):
        places = [p for p in entries(folder / "dpdk") if p.name.startswith("pmds")]
        for place in (*reversed(places), folder):
            found = _net_libraries(place)
            if found:
                return found
    return ()


def _net_libraries(folder: Path) -> tuple[Path, ...]:
    """One file a driver, whichever of its names (``.so``, ``.so.23``, ``.so.23.0``) are there."""
    real: dict[str, Path] = {}
    for path in folder.glob("librte_net_*.so*"):
        real.setdefault(path.name.partition(".so")[0], path)
    return tuple(real[name] for name in sorted(real))


def _described(folder: Path) -> str:
    """The version in pkg-config's description, which comes with the headers."""
    text = read_text(folder / "pkgconfig/libdpdk.pc")
    found = re.search(r"^Version: *(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _abi(folder: Path) -> str:
    """The binary interface of the installed library, where there is no description."""
    found = [re.fullmatch(r"librte_eal\.so\.(\d+)", p.name) for p in folder.glob("librte_eal.so.*")]
    return max((f"ABI {m[1]}" for m in found if m), default="")


def _drivers(libraries: tuple[Path, ...]) -> Iterator[Driver]:
    for path in libraries:
        for about in _abouts(path):
            yield Driver(
                name=str(about.get("name", "")),
                library=f"{path.name.partition('.so')[0]}.so",
                parameters=str(about.get("params", "")),
                kernel_drivers=str(about.get("kmod", "")),
                devices=tuple((int(i[0]), int(i[1])) for i in about.get("pci_ids", ())),
            )


def _abouts(path: Path) -> Iterator[dict[str, Any]]:
    """The descriptions in a library; one may hold several drivers."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            texts = _ABOUT.findall(data)
    except (OSError, ValueError):  # unreadable, or empty
        return
    for text in texts:
        with contextlib.suppress(ValueError):  # the text is the driver's own
            yield json.loads(text)
