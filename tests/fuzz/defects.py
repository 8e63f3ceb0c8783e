"""Defects that fuzzing must find within two minutes each: make fuzz-selftest plants them.

Each is one change of the source, by the text that it replaces: that must stand there exactly
once, which a test checks, so that a defect does not get lost when the code around it moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Defect:
    name: str
    file: str
    old: str
    new: str

    def plant(self, tree: Path) -> None:
        path = tree / "aiomos" / "_engine" / self.file
        path.write_text(self.planted(path.read_text()))

    def planted(self, text: str) -> str:
        """The source with the defect; ValueError when the place for it is not there once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: not one place for it in {self.file}")
        return text.replace(self.old, self.new)

    def remove(self, tree: Path, whole: Path) -> None:
        source = whole / "aiomos" / "_engine" / self.file
        (tree / "aiomos" / "_engine" / self.file).write_text(source.read_text())


DEFECTS = (
    Defect(
        "missing bound check",
        "wire.pyx",
        """\
    if unlikely(off + 20 > c.length):
        p.status = short_of(c, off + 20, WIRE_BAD_TCP_HEADER)
        return
""",
        "",
    ),
    Defect(
        "off by one at the sequence wrap",
        "receive.pyx",
        "cut_delivered(cs, f, &t, s, snd.nxt - t.a.seq)",
        "cut_delivered(cs, f, &t, s, snd.nxt - t.a.seq + (snd.nxt < t.a.seq))",
    ),
    Defect(
        "double free on reuse",
        "life.pyx",
        """\
            stream_drop(f.stream[side])
            f.stream[side] = NULL
""",
        """\
            stream_drop(f.stream[side])
            if f.close_reason != 4:
                f.stream[side] = NULL
""",
    ),
    Defect(
        "quadratic insert",
        "assembler.pyx",
        "        middle = (low + high) >> 1\n",
        "        middle = low\n",
    ),
    Defect(
        "stale timer",
        "life.pyx",
        "    wheel_disarm(&cs.wheel, f)\n",
        "",
    ),
)
