"""Two TCP ends as RFC 9293 describes them, for whoever sees all that they are sent.

No sequence numbers here: positions are stream offsets of the end that sends, 0 is the first byte
behind its SYN, and a FIN stands at the position behind the last byte. What has arrived ahead of its
turn lies in a map from position to byte; of two copies the first stays. A FIN is one more symbol in
that map, which gives way to a byte, and the stream ends where reading in order comes to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
END = -1  # the symbol of a FIN, among bytes
TURN = 1 << 32  # sequence numbers count to here and begin anew


class State(Enum):
    """RFC 9293 section 3.3.2, from ESTABLISHED on."""

    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()
    FIN_WAIT_2 = auto()
    CLOSE_WAIT = auto()
    CLOSING = auto()
    LAST_ACK = auto()
    TIME_WAIT = auto()
    CLOSED = auto()


SENDS_FIN = {State.ESTABLISHED: State.FIN_WAIT_1, State.CLOSE_WAIT: State.LAST_ACK}
GETS_FIN = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}
FIN_IS_ACKED = {
    State.FIN_WAIT_1: State.FIN_WAIT_2,
    State.CLOSING: State.TIME_WAIT,
    State.LAST_ACK: State.CLOSED,
}


@dataclass(frozen=True)
class Segment:
    """What one end sends: `at` in its own stream, `ack` in its peer's; `window` in bytes."""

    flags: int
    at: int
    data: bytes = b""
    ack: int = 0
    window: int = 0
    stamp: int | None = None  # TSval, where both ends agreed on timestamps (RFC 7323)

    @property
    def symbols(self) -> list[int]:
        """One a position: the bytes, then the FIN."""
        return [*self.data, END] if self.flags & FIN else [*self.data]


@dataclass
class Stream:
    """What an end has received of its peer."""

    edge: int  # right edge of the widest window that it has offered
    nxt: int = 0
    ahead: dict[int, int] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False  # the FIN was reached
    stamp: int | None = None  # TS.Recent
    acked: int = 0  # highest acknowledgement that it has sent

    def place(self, at: int) -> int:
        """The position that a sequence number means: the one nearest to what is next."""
        return self.nxt + (at - self.nxt + TURN // 2) % TURN - TURN // 2

    def acceptable(self, at: int, length: int) -> bool:
        """RFC 9293 section 3.10.7.4, first check: something of it lies in the window. A FIN may
        stand at the edge itself, as Linux has it; in a window of nothing, too."""
        if length == 0:
            return self.nxt <= at <= max(self.edge, self.nxt)
        return at <= self.edge and at + length > self.nxt

    def too_old(self, segment: Segment) -> bool:
        """RFC 7323 section 5.3 (PAWS). Resets are not judged by their stamp."""
        return (
            self.stamp is not None
            and segment.stamp is not None
            and (segment.stamp - self.stamp) % TURN >= TURN // 2
            and not segment.flags & RST
        )

    def take(self, at: int, symbols: list[int]) -> None:
        """Seventh and eighth: text and FIN, as far as they lie in the window."""
        for position, symbol in enumerate(symbols, at):
            fits = position < self.edge or (symbol == END and position == self.edge)
            free = self.ahead.get(position, END) == END
            if free and fits and position >= self.nxt and not self.ended:
                self.ahead[position] = symbol
        while not self.ended and self.nxt in self.ahead:
            symbol = self.ahead.pop(self.nxt)
            self.nxt += 1
            if symbol == END:
                self.ended = True
                self.ahead.clear()
            else:
                self.data.append(symbol)

    def told(self) -> tuple[list[bytes | tuple[int, int]], bool]:
        """All that there is to tell when nothing more comes: bytes, and holes as (offset, length)
        where bytes behind them are known; and whether that comes to the end of the stream."""
        items: list[bytes | tuple[int, int]] = [bytes(self.data)] if self.data else []
        at = self.nxt
        for position, symbol in sorted(self.ahead.items()):
            if symbol == END:
                return items, position == at
            if position > at:
                items.append((at, position - at))
            if position > at or not items:
                items.append(b"")
            items[-1] += bytes([symbol])
            at = position + 1
        return items, self.ended


class Connection:
    """Both ends, established. `sent[s]` is what the peer of end `s` has received of it."""

    def __init__(self, edges: tuple[int, int]) -> None:
        self.sent = Stream(edges[0]), Stream(edges[1])
        self.states = [State.ESTABLISHED, State.ESTABLISHED]
        self.reason: str | None = None

    def arrives(self, s: int, segment: Segment) -> None:
        """End `s` sends a segment, and its peer judges it in the order of RFC 9293."""
        stream = self.sent[s]
        at = stream.place(segment.at)
        if self.reason or contradictory(segment.flags):
            return
        if not stream.acceptable(at, len(segment.symbols)) or stream.too_old(segment):
            return  # answered by an acknowledgement
        if segment.flags & RST:
            if at == stream.nxt:  # RFC 5961 section 3: else answered by a challenge
                self._close("RESET")
            return
        if segment.flags & SYN or not segment.flags & ACK:
            return  # RFC 5961 section 4: a SYN is challenged
        if segment.stamp is not None and at <= stream.acked:
            stream.stamp = segment.stamp
        self._acknowledges(s, segment)
        self._says(s, at, segment)
        if all(stream.ended and stream.acked == stream.nxt for stream in self.sent):
            self._close("FIN")

    def _acknowledges(self, s: int, segment: Segment) -> None:
        """Fifth: what `s` has received, and how much more it would take."""
        stream = self.sent[1 - s]
        stream.acked = max(stream.acked, segment.ack)
        stream.edge = max(stream.edge, segment.ack + segment.window)
        if stream.ended and stream.acked == stream.nxt:
            self._step(1 - s, FIN_IS_ACKED)

    def _says(self, s: int, at: int, segment: Segment) -> None:
        stream = self.sent[s]
        if stream.ended:
            return
        fin = at + len(segment.data)
        if segment.flags & FIN and stream.nxt <= fin <= stream.edge:
            self._step(s, SENDS_FIN)  # its own word, whatever its peer makes of it
        stream.take(at, segment.symbols)
        if stream.ended:
            self._step(1 - s, GETS_FIN)

    def _step(self, end: int, table: dict[State, State]) -> None:
        self.states[end] = table.get(self.states[end], self.states[end])

    def _close(self, reason: str) -> None:
        self.reason = reason
        if reason == "RESET":
            self.states = [State.CLOSED, State.CLOSED]


def contradictory(flags: int) -> bool:
    """Flags that no stack sends together, or none at all."""
    kinds = bool(flags & FIN) + bool(flags & SYN) + bool(flags & RST)
    return kinds > 1 or not flags & 0x3F
