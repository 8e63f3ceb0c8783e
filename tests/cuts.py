"""One frame in many: its headers in several segments, and every byte of them set to anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiomos._engine._testframes import decode

#: Versions, lengths and flags that headers can have, and some that they cannot.
ODD_BYTES = (0, 1, 0x0F, 0x45, 0x60, 0x7F, 0x80, 0x81, 0xFF)


def check_in_segments(frame: bytes, headers: int, **link: Any) -> None:
    """Cut anywhere: decoding asks for the rest of ``headers`` bytes, or finds the same."""
    whole = decode(frame, **link)
    for length in range(1, len(frame)):
        found = decode(frame, head_len=length, **link)
        if length < headers:
            assert found["status"] == "incomplete", length
        else:
            assert found == whole, length


def decode_with_odd_bytes(frame: bytes, at: Iterable[int], headers: int, **link: Any) -> None:
    """Reads inside each of the frames only, and of those that end with their headers."""
    for place in at:
        for value in ODD_BYTES:
            raw = bytearray(frame)
            raw[place] = value
            decode(raw, **link)
            decode(raw[:headers], wire_len=len(frame), **link)
