"""Scripts of early segments for a real socket: all holes are filled at last, so that its
application receives every byte that the script decides about.

A script is a list of (offset, bytes); offset 0 is the first byte behind the SYN.
"""

from __future__ import annotations

from random import Random

Script = list[tuple[int, bytes]]
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def early(segments: Script) -> Script:
    """The same a place further on, if it begins at the first byte: all of it is early then."""
    begin = min(at for at, _ in segments)
    return segments if begin else [(at + 1, data) for at, data in segments]


def closed(segments: Script) -> Script:
    """The same with every hole filled by dots, from the last to the first, which is a 0."""
    there = {i for at, data in segments for i in range(at, at + len(data))}
    holes = [i for i in range(max(there)) if i not in there]
    return segments + [(i, b"." if i else b"0") for i in reversed(holes)]


def dense(seed: int) -> Script:
    """A random script in which nearly everything overlaps."""
    rng = Random(seed)
    found = []
    for letter in range(rng.randint(2, 8)):
        found.append((rng.randint(1, 14), LETTERS[letter : letter + 1] * rng.randint(1, 6)))
    return closed(found)
