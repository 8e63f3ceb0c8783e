"""How much of the engine scripts reach, in lines of its Cython sources.

A build with gcc's counters plays the scripts; gcov counts lines of the C that Cython wrote. Only
functions of ours count (`__pyx_f_...`), not what Cython adds around them, and every line of C
belongs to the source line that the comment in front of it names. A source line is reached when
any C of it was. Lines that give no C of their own (declarations, comments) do not count.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

#: What must be reached, and of which modules it consists.
PARTS = {
    "decode": ("wire", "links", "tunnels", "udptunnels", "tcpopt"),
    "defragmentation": ("defrag", "fragments"),
    "flow table": ("flowtable",),
    "assembler": ("assembler", "overlap", "early"),
}
LEAST = 80
_MARK = re.compile(r'^\s*/\* "[^"]*?(\w+)\.pyx":(\d+)$')

PLAY = """
import importlib, pathlib, sys, types
package = types.ModuleType("aiomos")
package.__path__ = [sys.argv[1] + "/aiomos"]
sys.modules["aiomos"] = package
play = importlib.import_module("aiomos._engine._fuzz").play
for folder in sys.argv[2:]:
    for path in sorted(pathlib.Path(folder).iterdir()):
        wrong = play(path.read_bytes())
        if wrong:
            raise SystemExit(f"{path}: {wrong}")
"""

Counts = dict[str, dict[int, bool]]


def report(root: Path, build: Path, package: Path, when: str, folders: Sequence[Path]) -> list[str]:
    """Prints the shares; the parts below LEAST."""
    for old in build.rglob("*.gcda"):
        old.unlink()
    player = [sys.executable, "-S", "-c", PLAY, package, *folders]
    subprocess.run(player, check=True, env=os.environ | {"PYTHONPATH": ""})
    counts = lines_reached(build)
    low = []
    print(f"{when}:")
    for part, modules in PARTS.items():
        share = show(part, counts, modules)
        if share < LEAST:
            low.append(part)
    show("all of the core", counts, counts)
    if os.environ.get("FUZZ_MISSED"):
        show_missed(root, counts, [name for names in PARTS.values() for name in names])
    return low


def show(part: str, counts: Counts, modules: Iterable[str]) -> float:
    lines = [hit for name in modules for hit in counts.get(name, {}).values()]
    share = 100 * sum(lines) / len(lines) if lines else 0.0
    print(f"  {part:20} {share:5.1f} % of {len(lines)} lines")
    return share


def show_missed(root: Path, counts: Counts, modules: Iterable[str]) -> None:
    for name in modules:
        if name not in counts:
            continue
        source = (root / "aiomos" / "_engine" / f"{name}.pyx").read_text().splitlines()
        for number, hit in sorted(counts[name].items()):
            if not hit:
                print(f"{name}.pyx:{number}: {source[number - 1].strip()}")


def lines_reached(build: Path) -> Counts:
    """Module -> source line -> whether it was reached."""
    counts: Counts = {}
    for data in sorted(build.rglob("*.gcda")):
        name = re.sub(r"^meson-generated_|\.pyx\.c\.gcda$", "", data.name)
        written = next(iter(data.parent.glob(f"{name}.pyx.c")), None)
        if written is None or name.startswith("_"):
            continue
        for number, hit in lines_of(data, written, name):
            lines = counts.setdefault(name, {})
            lines[number] = lines.get(number, False) or hit
    return counts


def lines_of(data: Path, written: Path, name: str) -> Iterable[tuple[int, bool]]:
    sources = source_lines(written, name)
    done = subprocess.run(
        ["gcov", "--json-format", "--stdout", data.name],
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    for file in json.loads(done.stdout)["files"]:
        if not file["file"].endswith(f"{name}.pyx.c"):
            continue
        for line in file["lines"]:
            ours = line.get("function_name", "").startswith("__pyx_f_")
            number = sources.get(line["line_number"])
            if ours and number:
                yield number, line["count"] > 0


def source_lines(written: Path, name: str) -> dict[int, int]:
    """Line of C -> line of the .pyx, by the comments that Cython leaves."""
    found: dict[int, int] = {}
    here = 0
    for number, text in enumerate(written.read_text(errors="replace").splitlines(), 1):
        mark = _MARK.match(text)
        if mark:
            here = int(mark[2]) if mark[1] == name else 0
        elif text.startswith("}"):
            here = 0
        if here:
            found[number] = here
    return found
