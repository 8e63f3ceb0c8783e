"""What ends a unit of a stream: one byte string, or any of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Where a byte string begins in the bytes at hand, from a place on; -1: nowhere.
Find: TypeAlias = Callable[[bytes, int], int]
#: What one separator may be given as.
Separator: TypeAlias = bytes | bytearray | memoryview


class Separators:
    """Separators of one call, as :meth:`asyncio.StreamReader.readuntil` takes them."""

    __slots__ = ("longest", "words")

    def __init__(self, words: tuple[bytes, ...]) -> None:
        self.words = words
        self.longest = len(words[-1])

    @classmethod
    def of(cls, given: Separator | tuple[Separator, ...]) -> Separators:
        """Raise ValueError where there is none, or an empty one; TypeError where it is no bytes."""
        if type(given) is bytes:
            words: tuple[bytes, ...] = (given,)
        else:
            # The shortest first: where two end at one place, it wins.
            several = given if isinstance(given, tuple) else (given,)
            words = tuple(sorted(map(_octets, several), key=len))
        if not words:
            raise ValueError("Separator should contain at least one element")
        if not words[0]:
            raise ValueError("Separator should be at least one-byte string")
        return cls(words)

    def first(self, find: Find, start: int) -> tuple[int, int] | None:
        """Begin and end of the separator that ends first, or None."""
        best: tuple[int, int] | None = None
        for word in self.words:
            at = find(word, start)
            if at >= 0 and (best is None or at + len(word) < best[1]):
                best = at, at + len(word)
        return best


def _octets(given: Separator) -> bytes:
    return bytes(memoryview(given))  # of a number, bytes() alone would make so many zeros
