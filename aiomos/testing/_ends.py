"""What one end of a scripted connection has said and heard: enough to fill in its headers."""

from __future__ import annotations

from bisect import bisect_left


class Received:
    """Stream offsets that an end got: ``next`` is what it acknowledges, ``blocks`` lie beyond."""

    def __init__(self) -> None:
        self.next = 0
        self.blocks: list[tuple[int, int]] = []  # disjoint, in order, none touches another

    def add(self, start: int, end: int) -> None:
        """The bytes from start up to end came."""
        if end <= max(start, self.next):
            return
        self._insert(max(start, self.next), end)
        if self.blocks[0][0] == self.next:
            self.next = self.blocks.pop(0)[1]

    def _insert(self, start: int, end: int) -> None:
        first = bisect_left(self.blocks, start, key=lambda block: block[1])
        last = first
        while last < len(self.blocks) and self.blocks[last][0] <= end:
            last += 1
        touched = [(start, end), *self.blocks[first:last]]
        self.blocks[first:last] = [(min(b[0] for b in touched), max(b[1] for b in touched))]


class End:
    """One end: its address, its numbers, and what it knows of the other."""

    def __init__(self, host: str, port: int, isn: int, window: int) -> None:
        self.host = host
        self.port = port
        self.isn = isn
        self.window = window  # the header field, of every segment
        self.sent = 0  # stream offset behind the last byte sent; a FIN counts as one
        self.received = Received()
        self.echo = 0  # the newest timestamp of the other end (TS.Recent of RFC 7323)
        self.packets = 0

    def number(self, offset: int) -> int:
        """Sequence number of a stream offset; the SYN stands at -1."""
        return (self.isn + 1 + offset) & 0xFFFFFFFF

    def next_ident(self) -> int:
        """The IP identification of its next packet."""
        self.packets += 1
        return self.packets & 0xFFFF
