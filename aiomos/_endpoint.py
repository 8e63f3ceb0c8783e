"""One end of a flow: who it is, what is known of it, and a reader of what it sent."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiomos._options import Deliver, OnFull, OnGap, Overlap, Urgent, check_limit, number_of
from aiomos._reader import END, StreamReading
from aiomos._stats import EndpointStats, endpoint_stats
from aiomos._verdicts import SideVerdicts
from aiomos.events import Chunk, Gap


class Endpoint(SideVerdicts, StreamReading):
    """One end of a flow: who it is, and the bytes that it sent, in order, each once.

    Reading gives what the *other* end received. A gap, the end, a reset, a timeout and an
    eviction are five different outcomes: :class:`GapError` (as ``on_gap`` says), ``b""``,
    :class:`FlowReset`, :class:`FlowTimeout` and :class:`FlowEvicted`.
    """

    __slots__ = ()

    @property
    def stats(self) -> EndpointStats:
        """Statistics of what this end sent, as they are now."""
        return endpoint_stats(self)

    async def lines(
        self, limit: int | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[bytes]:
        """Lines without their ends (CRLF or LF); the last one also if it has none.

        ``limit``: longest line in bytes; longer ones raise ValueError. ``timeout``: for each
        line, in seconds.
        """
        while line := await self.readline(timeout=timeout):
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if limit is not None and len(line) > limit:
                raise ValueError(f"line of {len(line)} bytes is over the limit of {limit}")
            yield line

    async def chunks(self, *, timeout: float | None = None) -> AsyncIterator[Chunk | Gap]:
        """Bytes as they were received, to the end: :class:`Chunk` has their offset and time.

        Bytes of one chunk were received together; so how a stream falls into chunks depends on
        its packets, never on when the handler ran. Gaps are :class:`Gap` where
        ``on_gap="yield"``. ``timeout``: for each of them, in seconds.
        """
        while True:
            if self.yields_gaps and not self._here() and (gap := self._pass_gap()):
                yield Gap(*gap)
            elif (piece := self._take_chunk()) is None:
                await self._more(timeout)
            elif piece:
                yield Chunk(*piece)
            else:
                return

    async def _more(self, timeout: float | None) -> None:
        if timeout is None:
            await self._wait()
            return
        with self._deadline(timeout):
            while not self._here() and not self._blocked():
                await self._wait()

    async def peek(self, n: int, at: int | None = None, *, timeout: float | None = None) -> bytes:
        """Up to ``n`` bytes without consuming them, from stream offset ``at`` on.

        Waits until they are there, or a gap or the end makes that impossible; then fewer are
        given. ``at`` defaults to :attr:`offset`; before it there is nothing to look at.

        Raises:
            TimeoutError: they did not come in time.
            ValueError: ``at`` was read already.
        """
        start = 0 if at is None else at - self.offset
        if start < 0:
            raise ValueError(f"offset {at} was read already (now at {self.offset})")
        if timeout is not None:
            with self._deadline(timeout):
                return await self.peek(n, at)
        while self._here() < start + n and not self._blocked():
            await self._wait(start + n)
        return self._peek(start, n)

    async def skip(self, n: int, *, timeout: float | None = None) -> int:
        """Pass over ``n`` bytes without looking at them; missing ones count, and raise nothing.

        Where a gap reaches beyond them, what is left of it is the next thing to be read.

        Returns: how many were passed, fewer than ``n`` only where the stream ended.

        Raises:
            TimeoutError: they did not come in time; those that did are passed.
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError("skip size can not be less than zero")
        if timeout is not None:
            with self._deadline(timeout):
                return await self.skip(n)
        passed = self._skip(n)
        while passed < n and self._blocked() != END:
            await self._wait(min(n - passed, self.limit))
            passed += self._skip(n - passed)
        return passed

    def configure(
        self,
        *,
        limit: int | None = None,
        on_gap: OnGap | None = None,
        on_full: OnFull | None = None,
        overlap: Overlap | None = None,
        deliver: Deliver | None = None,
        urgent: Urgent | None = None,
    ) -> None:
        """Change for this side what ``@app.tcp`` said for both; the same names and values.

        ``overlap``, ``deliver`` and ``urgent`` are shared by all handlers that read this side:
        the last call holds, for what comes from here on.

        Raises:
            ConfigError: an option has no such value.
        """
        self._configure(
            None if limit is None else check_limit(limit),
            None if on_gap is None else number_of("on_gap", on_gap),
            None if on_full is None else number_of("on_full", on_full),
        )
        self._configure_policy(
            None if overlap is None else number_of("overlap", overlap),
            None if deliver is None else number_of("deliver", deliver),
            None if urgent is None else number_of("urgent", urgent),
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.address}:{self.port} {self.state} offset={self.offset}>"
