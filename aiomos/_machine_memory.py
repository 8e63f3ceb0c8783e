"""Facts about memory: huge pages by size and NUMA node, and where they can be mapped."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from aiomos._machine_files import ROOT, entries, read_int, read_mounts, read_text

_SIZES = {"k": 10, "m": 20, "g": 30}


@attrs.frozen
class HugePages:
    """Huge pages of one size on one NUMA node."""

    size: int  # bytes
    node: int | None  # None: the kernel knows no nodes
    total: int
    free: int
    path: str  # the file that reserves them


@attrs.frozen
class HugeMount:
    """A mounted hugetlbfs."""

    path: str
    size: int  # bytes a page
    writable: bool


@attrs.frozen
class Memory:
    """What a program may have for its buffers."""

    available: int  # bytes
    pages: tuple[HugePages, ...]
    mounts: tuple[HugeMount, ...]


def read_memory(root: Path = ROOT) -> Memory:
    """The huge pages and mounts of this machine."""
    info = dict(
        line.split(":", 1) for line in read_text(root / "proc/meminfo").splitlines() if ":" in line
    )
    default = _kib(info.get("Hugepagesize", "2048 kB"))
    return Memory(
        available=_kib(info.get("MemAvailable", "0")),
        pages=tuple(_pages(root)),
        mounts=tuple(
            HugeMount(m.path, _page_size(m.options) or default, _writable(root, m.path))
            for m in read_mounts(root)
            if m.kind == "hugetlbfs"
        ),
    )


def _kib(text: str) -> int:
    number = text.split()[0]
    return int(number) << 10 if number.isdecimal() else 0


def _page_size(options: tuple[str, ...]) -> int:
    """``pagesize=2M`` in bytes; 0 when it is not said."""
    for option in options:
        name, _, value = option.partition("=")
        number, unit = value[:-1], value[-1:].lower()
        if name == "pagesize" and number.isdecimal() and unit in _SIZES:
            return int(number) << _SIZES[unit]
    return 0


def _writable(root: Path, path: str) -> bool:
    return os.access(root / path.lstrip("/"), os.W_OK | os.X_OK)


def _pages(root: Path) -> list[HugePages]:
    """By node where there are nodes, else for the machine."""
    nodes = [p for p in entries(root / "sys/devices/system/node") if p.name[4:].isdecimal()]
    found = [h for p in nodes for h in _pages_in(root, p / "hugepages", int(p.name[4:]))]
    whole = found or _pages_in(root, root / "sys/kernel/mm/hugepages", None)
    return sorted(whole, key=lambda h: (h.size, h.node or 0))


def _pages_in(root: Path, folder: Path, node: int | None) -> list[HugePages]:
    return [
        HugePages(
            size=int(p.name[10:-2]) << 10,
            node=node,
            total=read_int(p / "nr_hugepages") or 0,
            free=read_int(p / "free_hugepages") or 0,
            path=f"/{(p / 'nr_hugepages').relative_to(root)}",
        )
        for p in entries(folder)
        if p.name.startswith("hugepages-") and p.name[10:-2].isdecimal()
    ]
