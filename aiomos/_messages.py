"""Both directions of a connection in causal order, as turns: who speaks, until the other does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiomos._reader import END, GAP
from aiomos.events import Gap, Message

if TYPE_CHECKING:
    from aiomos._endpoint import Endpoint
    from aiomos._engine.flowview import FlowBase


class _Turn:
    """What one side has said so far."""

    __slots__ = ("last_time", "offset", "parts", "side", "size", "time")

    def __init__(self, side: str, offset: int, time: float) -> None:
        self.side = side
        self.offset = offset
        self.time = self.last_time = time
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes, time: float) -> None:
        self.parts.append(data)
        self.size += len(data)
        self.last_time = time

    def message(self, *, more: bool) -> Message:
        data = b"".join(self.parts)
        return Message(self.side, data, self.offset, self.time, self.last_time, more)


class Conversation:
    """Turns of both sides of a flow, as an asynchronous iterator.

    Where it stands is in the cursors of the two ends, and in the turn that is not complete: so it
    goes on behind an exception, a cancelled wait included, and no byte is lost with that.
    """

    def __init__(self, flow: FlowBase, limit: int, timeout: float | None) -> None:
        self._flow = flow
        self._ends: dict[str, Endpoint] = {"client": flow.client, "server": flow.server}
        self._limit = limit
        self._timeout = timeout
        self._turn: _Turn | None = None

    def __aiter__(self) -> Conversation:
        return self

    async def __anext__(self) -> Message | Gap:
        """The next turn, when the other side spoke or both ended; or a piece of it."""
        while True:
            found: Message | Gap | None = None
            if (side := self._at_gap()) is not None:
                found = self._meet_gap(side)
            elif (side := self._speaker()) is not None:
                found = self._hear(side)
            elif all(end._blocked() == END for end in self._ends.values()):
                found = self._last()
            elif not await self._more():
                found = self._flush(more=True)
            if found is not None:
                return found

    def _meet_gap(self, side: str) -> Message | Gap | None:
        """What was said before the gap comes first: nothing that was taken is lost with it."""
        turn = self._turn
        if turn is not None and (turn.side == side or not self._ends[side].skips_gaps):
            return self._flush(more=turn.side == side)
        return self._pass_gap(side)

    def _hear(self, side: str) -> Message | None:
        if self._turn is not None and self._turn.side != side:
            return self._flush(more=False)
        return self._flush(more=True) if self._take(side) else None

    def _last(self) -> Message:
        """The last turn, once; then the end of the iteration, or what ended the flow."""
        if self._turn is not None:
            return self._flush(more=False)
        for end in self._ends.values():
            end._take_chunk()  # raises what ended the flow, if that was no orderly end
        raise StopAsyncIteration

    def _at_gap(self) -> str | None:
        for side, end in self._ends.items():
            if not end._here() and end._blocked() == GAP:
                return side
        return None

    def _pass_gap(self, side: str) -> Gap | None:
        end = self._ends[side]
        if end.yields_gaps and (gap := end._pass_gap()):
            return Gap(*gap, side=side)
        if end.skips_gaps:
            end._pass_gap()
        else:
            end._take_chunk()  # raises GapError
        return None

    def _speaker(self) -> str | None:
        """Whose next byte was received before the other's; None: nobody's is at hand."""
        client, server = self._flow.client._order, self._flow.server._order
        if client is None:
            return None if server is None else "server"
        return "client" if server is None or client < server else "server"

    def _take(self, side: str) -> bool:
        """Adds what came together to the turn; whether that is as much as is kept of one."""
        piece = self._ends[side]._take_chunk()
        assert piece  # the speaker has something to say
        data, offset, time = piece
        if self._turn is None:
            self._turn = _Turn(side, offset, time)
        self._turn.add(data, time)
        return self._turn.size >= self._limit

    def _flush(self, *, more: bool) -> Message:
        turn, self._turn = self._turn, None
        assert turn is not None
        return turn.message(more=more)

    async def _more(self) -> bool:
        """Waits for either side; False: that took too long, but there is something to give."""
        try:
            if self._timeout is None:
                await self._flow._wait_either()
                return True
            with self._flow._deadline(self._timeout) as deadline:
                while not self._anything():
                    await deadline.of(self._flow._wait_either())
        except TimeoutError:
            if self._turn is None:
                raise
            return False
        finally:
            self._flow._part()
        return True

    def _anything(self) -> bool:
        ends = self._ends.values()
        return any(end._here() or end._blocked() == GAP for end in ends) or all(
            end._blocked() == END for end in ends
        )
