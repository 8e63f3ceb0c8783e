"""An obviously correct reassembler: one mark for each byte, no window, no state machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.frames import FIN, RST, SYN, Key, Segment, turned

HALF = 1 << 31
WHOLE = 1 << 32


@dataclass
class Direction:
    """What one end sent, put together from the segments of a capture."""

    data: bytearray = field(default_factory=bytearray)
    there: bytearray = field(default_factory=bytearray)
    base: int | None = None
    fin: bool = False
    rst: bool = False
    stray_rst: bool = False
    repeated: int = 0
    late: int = 0
    differing: int = 0

    def add(self, segment: Segment) -> None:
        """Put a segment's bytes where its sequence number says; the first copy of a byte stays."""
        syn = bool(segment.flags & SYN)
        if self.base is None:
            self.base = segment.sequence + syn
        self.fin |= bool(segment.flags & FIN)
        if segment.payload:
            offset = (segment.sequence + syn - self.base + HALF) % WHOLE - HALF
            self._put(max(offset, 0), segment.payload[max(-offset, 0) :])

    def _put(self, offset: int, payload: bytes) -> None:
        end = offset + len(payload)
        if end > len(self.data):
            grown = end - len(self.data)
            self.data += bytes(grown)
            self.there += bytes(grown)
        elif 0 in self.there[offset:end]:
            self.late += 1
        if any(self.there[offset:end]):
            self.repeated += 1
        for at, byte in enumerate(payload, offset):
            if not self.there[at]:
                self.data[at], self.there[at] = byte, 1
            elif self.data[at] != byte:
                self.differing += 1

    @property
    def missing(self) -> int:
        """How many bytes before the last one seen are not in the capture."""
        return self.there.count(0)

    def sha256(self, length: int) -> str:
        """The digest of the first `length` bytes, in hex."""
        return hashlib.sha256(self.data[:length]).hexdigest()


def directions(segments: Iterable[Segment]) -> dict[Key, Direction]:
    """Every direction of every connection, first seen first."""
    found: dict[Key, Direction] = {}
    for segment in segments:
        sender = found.setdefault(segment.key, Direction())
        sender.add(segment)
        if segment.flags & RST:
            receiver = found.get(turned(segment.key), Direction())
            _reset(sender, over=sender.fin and receiver.fin)
    return found


def _reset(sender: Direction, *, over: bool) -> None:
    """Note an RST; once both ends sent FIN, it is a closed socket's word about a late copy."""
    sender.stray_rst |= over
    sender.rst |= not over


def how_it_ended(client: Direction, server: Direction) -> str:
    """The end of a connection, as the truth names it."""
    if client.rst or server.rst:
        return "rst"
    return ("none", "fin_half", "fin")[client.fin + server.fin]
