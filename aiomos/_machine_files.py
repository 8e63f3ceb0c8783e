"""What /proc and /sys tell, as values: a file that is not there or not for us tells nothing.

Every reader of facts takes the root of these trees, so that tests can give one of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path("/")


def read_text(path: Path) -> str:
    """A file's text without the white space around it; "" when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def read_int(path: Path) -> int | None:
    """The number in a file; None when there is none."""
    try:
        return int(read_text(path), 0)
    except ValueError:
        return None


def entries(path: Path) -> tuple[Path, ...]:
    """What is in a folder, sorted by name; nothing when it cannot be read."""
    try:
        return tuple(sorted(path.iterdir()))
    except OSError:
        return ()


def link_name(path: Path) -> str:
    """The last part of where a symbolic link leads, as sysfs names drivers; "" if it is none."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def read_cpus(path: Path) -> frozenset[int]:
    """A list of CPUs as the kernel writes it."""
    return parse_cpus(read_text(path))


def parse_cpus(text: str) -> frozenset[int]:
    """``0-3,8`` as numbers; words that are no numbers (``(null)``) are passed over."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_cpus(cpus: frozenset[int]) -> str:
    """The other way: ``0-3,8``."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and spans[-1][1] == cpu - 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)


@attrs.frozen
class Mount:
    """A line of /proc/mounts."""

    device: str
    path: str
    kind: str
    options: tuple[str, ...]


def read_mounts(root: Path = ROOT) -> Iterator[Mount]:
    """The mounted file systems of this process."""
    for line in read_text(root / "proc/self/mounts").splitlines():
        device, path, kind, options, *_ = (*line.split(" "), "", "", "", "")
        yield Mount(device, path, kind, tuple(options.split(",")))


def kernel_has(symbol: str, release: str, root: Path = ROOT) -> bool | None:
    """Whether a module is built into the kernel or can be loaded; None when that is not told.

    ``symbol`` is a module's name with ``-`` or ``_``.
    """
    wanted = symbol.replace("_", "-")
    if (root / "sys/module" / symbol.replace("-", "_")).exists():
        return True
    folder = root / "lib/modules" / release
    listed = [read_text(folder / name) for name in ("modules.dep", "modules.builtin")]
    if not any(listed):
        return None if loads_modules(root) else False
    files = (line.partition(":")[0] for text in listed for line in text.splitlines())
    return any(Path(f).name.partition(".ko")[0].replace("_", "-") == wanted for f in files)


def loads_modules(root: Path = ROOT) -> bool:
    """Whether this kernel can load modules at all."""
    return (root / "proc/modules").exists()
