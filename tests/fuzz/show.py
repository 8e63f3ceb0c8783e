"""Shows a script instruction by instruction, and what the engine makes of it.

python tests/fuzz/show.py SCRIPT...
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from script import FLAGS, UNITS, Op

from aiomos._engine import _fuzz

WITH_BYTES = (Op.RAW, Op.IP, Op.OPTIONS)


def signed(value: int) -> int:
    return value - 256 if value > 127 else value


def segment(a: int, b: int, c: int, d: int) -> str:
    flags = f"{a & 0x3F:#x}" if a & 0x80 else FLAGS[a & 15]
    at = f"{signed(b)} * {UNITS[d >> 12 & 3]}"
    ack = f"{signed(d & 255)} * {UNITS[d >> 14 & 3]}"
    return f"flags {flags}, at {at}, {c & 4095} bytes, ack {ack}, window {d >> 8 & 15}"


def instructions(script: bytes) -> Iterator[str]:
    at = 8
    yield f"head {script[:8].hex(' ')}"
    while len(script) - at >= 8:
        op, who, a, b, c, d = struct.unpack_from("<BBBBHH", script, at)
        at += 8
        kind = Op(op & 15)
        text = f"a {a}, b {b}, c {c}, d {d}"
        if kind is Op.SEGMENT:
            text = segment(a, b, c, d)
        if kind in WITH_BYTES:
            size = min(c, len(script) - at)
            text += f": {script[at : at + min(size, 60)].hex()}"
            at += size
        yield f"{kind.name.lower():9} pair {who & 7}, end {who >> 3 & 1}, step {who >> 4 & 3}; {text}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        print(*instructions(data), sep="\n", flush=True)
        print("->", _fuzz.play(data, tell=True) or "nothing wrong")
