"""Scripts of early, overlapping segments, and the rule by which Linux chooses among copies.

A script is a list of (offset, bytes); offset 0 is the first byte behind the SYN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

Script = list[tuple[int, bytes]]
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def script(text: str) -> Script:
    """'2:AAA 1:0', with offsets from 1 as the literature has them."""
    parts = (part.split(":") for part in text.split())
    return [(int(at) - 1, data.encode()) for at, data in parts]


# Novak and Sturges 2007, and the shorter ones of the same source moved up by one place, so
# that all of it is early; holes are filled last, with dots.
VECTORS = {
    "main": script(
        "2:AAA 6:BB 8:CCC 12:D 15:EE 17:FFF 20:GG 22:HH 24:I "
        "3:JJJJ 8:KKK 11:LLL 14:MMM 18:N 21:O 22:P 24:QQ 1:0"
    ),
    "before": script("4:B 10:D 13:EE 3:AA 2:JJJJ 9:LLL 12:MMM"),
    "same": script("2:CCC 16:HH 18:II 2:KKK 2:LLLL 16:P 16:QQ"),
    "after": script("2:AA 17:FFF 20:GG 3:JJ 21:O 18:N"),
}


def end_of(segments: Script) -> int:
    return max(at + len(data) for at, data in segments)


def closed(segments: Script) -> Script:
    """The same with every hole filled, from the last to the first."""
    there = {i for at, data in segments for i in range(at, at + len(data))}
    holes = [i for i in range(end_of(segments)) if i not in there]
    return segments + [(i, b"." if i else b"0") for i in reversed(holes)]


def arrangements(n: int) -> Iterator[list[tuple[int, int]]]:
    """All ways in which n intervals can lie to each other: Allen's 13 relations for two, 409 for
    three. Ends are numbered without leaving out a number, so that each way comes once."""
    for ends in itertools.product(range(2 * n), repeat=2 * n):
        pairs = [(ends[2 * i], ends[2 * i + 1]) for i in range(n)]
        if set(ends) == set(range(max(ends) + 1)) and all(a < b for a, b in pairs):
            yield pairs


def laid_out(pairs: list[tuple[int, int]], first: int) -> Script:
    """Segments two bytes to the number, the lowest at offset `first`."""
    return [(first + 2 * a, LETTERS[i : i + 1] * (2 * (b - a))) for i, (a, b) in enumerate(pairs)]


def dense(seed: int) -> Script:
    """A random script in which nearly everything overlaps."""
    rng = Random(seed)
    found = []
    for letter in range(rng.randint(2, 8)):
        found.append((rng.randint(1, 14), LETTERS[letter : letter + 1] * rng.randint(1, 6)))
    return closed(found)


class Queue:
    """A Linux receiver that keeps each early segment in a buffer of its own: new bytes win over
    those of a kept segment that begins later, or begins at the same place and ends earlier."""

    def __init__(self) -> None:
        self.data = b""  # delivered
        self._early: list[tuple[int, bytes]] = []

    def add(self, at: int, data: bytes) -> None:
        if at > len(self.data):
            self._keep(at, data)
            return
        self.data += data[len(self.data) - at :]
        for at, data in sorted(self._early):
            if at <= len(self.data):
                self.data += data[len(self.data) - at :]
        self._early = [(at, data) for at, data in self._early if at > len(self.data)]

    def _keep(self, at: int, data: bytes) -> None:
        end = at + len(data)
        if any(a <= at and end <= a + len(d) for a, d in self._early):
            return
        kept = [(a, d) for a, d in self._early if not (at <= a and a + len(d) <= end)]
        self._early = [*kept, (at, data)]


def by_the_rule(segments: Script) -> bytes:
    """What a Linux application receives."""
    queue = Queue()
    for at, data in segments:
        queue.add(at, data)
    return queue.data
