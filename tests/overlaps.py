"""An obviously correct model of overlap policies: one byte at a time, by who owns it.

A segment is (offset, bytes). A byte of a new segment takes the place of one that is there if the
policy says so of the new segment and the one that brought the old byte, with the borders that
both were sent with (Novak and Sturges, 2007).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

Segment = tuple[int, bytes]
Rule = Callable[[int, int, int, int], bool]

#: New [s, e) meets old [a, b): whether the new bytes win.
RULES: dict[str, Rule] = {
    "first": lambda s, e, a, b: False,
    "bsd": lambda s, e, a, b: s < a,
    "linux": lambda s, e, a, b: s < a or (s == a and e > b),
    "old-linux": lambda s, e, a, b: s < a or (s == a and e >= b),
    "solaris": lambda s, e, a, b: (s <= a and e >= b) or (s > a and e > b),
    "last": lambda s, e, a, b: True,
}

#: Name -> (segments in order of arrival, policy -> what the receiver has; "." is a hole).
VECTORS: dict[str, tuple[str, dict[str, str]]] = {
    "main": (
        "2:AAA 6:BB 8:CCC 12:D 15:EE 17:FFF 20:GG 22:HH 24:I "
        "3:JJJJ 8:KKK 11:LLL 14:MMM 18:N 21:O 22:P 24:QQ 1:0",
        {
            "first": "0AAAJBBCCCLDLMEEFFFGGHHIQ",
            "bsd": "0AAAJJBCCCLLLMMMFFFGGHHIQ",
            "linux": "0AAAJJBCCCLLLMMMFFFGGHHQQ",
            "old-linux": "0AAAJJBKKKLLLMMMFFFGGHHQQ",
            "solaris": "0AJJJBBKKKLLLMMMFFFGGHHQQ",
            "last": "0AJJJJBKKKLLLMMMFNFGOPHQQ",
        },
    ),
    "before": (
        "3:B 9:D 12:EE 2:AA 1:JJJJ 8:LLL 11:MMM",
        {"first": "JABJ...LDLMEE", **dict.fromkeys(list(RULES)[1:], "JJJJ...LLLMMM")},
    ),
    "same": (
        "1:CCC 15:HH 17:II 1:KKK 1:LLLL 15:P 15:QQ",
        {
            **dict.fromkeys(("first", "bsd"), "CCCL..........HHII"),
            "linux": "LLLL..........HHII",
            **dict.fromkeys(("old-linux", "solaris", "last"), "LLLL..........QQII"),
        },
    ),
    "after": (
        "1:AA 16:FFF 19:GG 2:JJ 20:O 17:N",
        {
            **dict.fromkeys(("first", "bsd", "linux", "old-linux"), "AAJ............FFFGG"),
            "solaris": "AJJ............FFFGG",
            "last": "AJJ............FNFGO",
        },
    ),
}


def parse(text: str) -> list[Segment]:
    """Segments of a vector, offsets counted from 0."""
    pairs = (item.split(":") for item in text.split())
    return [(int(at) - 1, data.encode()) for at, data in pairs]


def received(segments: Sequence[Segment], policy: str) -> dict[int, int]:
    """Offset -> byte, after all segments waited together."""
    rule = RULES[policy]
    owned: dict[int, tuple[int, int, int]] = {}
    for start, data in segments:
        end = start + len(data)
        for at, byte in enumerate(data, start):
            if at not in owned or rule(start, end, *owned[at][1:]):
                owned[at] = byte, start, end
    return {at: byte for at, (byte, _, _) in owned.items()}


def in_order(segments: Sequence[Segment], policy: str) -> bytes:
    """What a reader gets who takes every byte as soon as it is next."""
    nxt = 0
    waiting: list[Segment] = []
    taken = bytearray()
    for segment in segments:
        waiting.append(segment)
        held = received(waiting, policy)
        while nxt in held:
            taken.append(held[nxt])
            nxt += 1
    return bytes(taken)


def text(held: dict[int, int]) -> str:
    """Bytes as in the vectors, holes as dots."""
    return "".join(chr(held[at]) if at in held else "." for at in range(max(held) + 1))


def patterns(n: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way in which n intervals can lie to each other, in every order of arrival: for two
    these are Allen's 13 relations."""
    seen = set()
    points = 2 * n
    spans = list(itertools.combinations(range(points), 2))
    for choice in itertools.product(spans, repeat=n):
        used = sorted({point for span in choice for point in span})
        shape = tuple((used.index(a), used.index(b)) for a, b in choice)
        if shape not in seen:
            seen.add(shape)
            yield shape


def segments_of(shape: Sequence[tuple[int, int]], equal: bool, at: int = 1) -> list[Segment]:
    """A pattern as segments. With ``equal`` contents they agree but for the first byte of each,
    else each has a letter of its own."""
    out = []
    for number, (a, b) in enumerate(shape):
        letter = b"ABCDEF"[number : number + 1]
        if equal:
            data = letter + bytes(97 + point for point in range(a + 1, b))
        else:
            data = letter * (b - a)
        out.append((at + a, data))
    return out
