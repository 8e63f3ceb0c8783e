"""One end of a flow, and a reader of what that end sent.

Shaped like :class:`asyncio.StreamReader`: same names, same results, same exceptions. The
coroutines here are thin on purpose: they look, take, or wait; bytes and waiting live in the
engine (``_engine/endpoint.pyx``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from aiomos._engine.endpoint import EndpointBase
from aiomos._engine.errors import GapError
from aiomos._options import Deliver, OnFull, OnGap, Overlap, Urgent, check_limit, number_of
from aiomos._stats import EndpointStats, endpoint_stats
from aiomos.events import Gap

#: What ``_blocked`` says stands behind the bytes at hand.
_GAP, _END = 1, 2
_UNTIL_END = 1 << 62


class Endpoint(EndpointBase):
    """One end of a flow: who it is, and the bytes that it sent, in order, each once.

    Reading gives what the *other* end received. A gap, the end, a reset, a timeout and an
    eviction are five different outcomes: :class:`GapError` (as ``on_gap`` says), ``b""``,
    :class:`FlowReset`, :class:`FlowTimeout` and :class:`FlowEvicted`.
    """

    __slots__ = ()

    if sys.version_info >= (3, 12):
        # Before, EndpointBase.read() is quicker (docs/decisions/0027).
        async def read(self, n: int = -1) -> bytes:
            """Read up to ``n`` bytes, or everything up to the end if ``n`` is negative.

            Waits until at least one byte is there; ``b""`` means the end. No result
            spans a gap: with ``n`` negative, a gap ends it as the end does.
            """
            if n <= 0:
                return await super().read(n)
            while (data := self._take(n)) is None:
                await self._parking
            return data

    @property
    def stats(self) -> EndpointStats:
        """Statistics of what this end sent, as they are now."""
        return endpoint_stats(self)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly ``n`` bytes.

        Raises:
            asyncio.IncompleteReadError: the end, or a gap, came first; ``partial`` has what
                there was before it.
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if n == 0:
            return b""
        while (here := self._here()) < n:
            if blocked := self._blocked():
                if here or not self._step_over(blocked):
                    raise asyncio.IncompleteReadError(self._rest(here), n)
                continue
            await self._wait(n)
        return self._exactly(n)

    def _step_over(self, blocked: int) -> bool:
        """Pass the gap right at the cursor if gaps are skipped; False at the end of the stream.

        Raises what stands there: GapError, or the exception of the flow's end.
        """
        if blocked == _GAP and self.skips_gaps:
            self._pass_gap()
            return True
        self._take(1)
        return False

    def _rest(self, here: int) -> bytes:
        return self._exactly(here) if here else b""

    def _exactly(self, n: int) -> bytes:
        data = self._take(n)
        assert data is not None  # the caller counted them
        return data

    async def readline(self) -> bytes:
        """Read up to and including the next newline; what there is, at the end.

        Raises:
            ValueError: the line is longer than the limit; what was buffered of it is gone.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            found = self._peek(error.consumed, 1) == b"\n"
            self._drop(error.consumed + 1 if found else self._here())
            raise ValueError(error.args[0]) from None

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and including ``separator``.

        Under ``on_gap="skip"`` a gap drops the unit that it cut in two, and reading goes on
        behind the next separator.

        Raises:
            asyncio.IncompleteReadError: the end, or a gap, came first.
            asyncio.LimitOverrunError: the limit was reached first; the bytes stay unread.
            ValueError: the separator is empty.
        """
        if not separator:
            raise ValueError("Separator should be at least one-byte string")
        start = 0
        while (at := self._find(separator, start)) < 0:
            here = self._here()
            start = max(0, here + 1 - len(separator))
            if start > self.limit:
                raise asyncio.LimitOverrunError(
                    "Separator is not found, and chunk exceed the limit", start
                )
            if blocked := self._blocked():
                start = await self._broken_unit(separator, here, blocked)
                continue
            await self._wait(here + 1)
        if at > self.limit:
            raise asyncio.LimitOverrunError(
                "Separator is found, but chunk is longer than limit", at
            )
        return self._exactly(at + len(separator))

    async def _broken_unit(self, separator: bytes, here: int, blocked: int) -> int:
        """A gap or the end inside a unit: raise, or (gap, ``skip``) find the next beginning."""
        if blocked == _GAP and self.skips_gaps:
            self._drop(here)
            self._pass_gap()
            await self._skip_past(separator)
            return 0
        if not here:
            self._step_over(blocked)
        raise asyncio.IncompleteReadError(self._rest(here), None)

    async def _skip_past(self, separator: bytes) -> None:
        """Drop everything up to and including the next separator."""
        while (at := self._find(separator, 0)) < 0:
            here = self._here()
            blocked = self._blocked()
            self._drop(here if blocked else max(0, here + 1 - len(separator)))
            if blocked == _END:
                return
            if blocked == _GAP:
                self._pass_gap()
            else:
                await self._wait(self._here() + 1)
        self._drop(at + len(separator))

    def at_eof(self) -> bool:
        """Whether everything was read and nothing more will come."""
        return not self._here() and self._blocked() == _END

    def __aiter__(self) -> AsyncIterator[bytes | Gap]:
        """Lines with their ends; gaps as :class:`Gap` where ``on_gap="yield"``."""
        return self

    async def __anext__(self) -> bytes | Gap:
        try:
            line = await self.readline()
        except GapError as error:
            if not self.yields_gaps:
                raise
            return Gap(error.offset, error.length, error.cause)
        if not line:
            raise StopAsyncIteration
        return line

    async def lines(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """Lines without their ends (CRLF or LF); the last one also if it has none.

        ``limit``: longest line in bytes; longer ones raise ValueError.
        """
        while line := await self.readline():
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if limit is not None and len(line) > limit:
                raise ValueError(f"line of {len(line)} bytes is over the limit of {limit}")
            yield line

    async def chunks(self) -> AsyncIterator[bytes | Gap]:
        """Bytes as they come, to the end; gaps as :class:`Gap` where ``on_gap="yield"``."""
        while True:
            if self.yields_gaps and not self._here() and (gap := self._pass_gap()):
                yield Gap(*gap)
                continue
            if not self._here() and not self._blocked():
                await self._wait()
                continue
            data = await self.read(_UNTIL_END)
            if not data:
                return
            yield data

    async def peek(self, n: int, at: int | None = None) -> bytes:
        """Up to ``n`` bytes without consuming them, from stream offset ``at`` on.

        Waits until they are there, or a gap or the end makes that impossible; then fewer are
        given. ``at`` defaults to :attr:`offset`; before it there is nothing to look at.

        Raises:
            ValueError: ``at`` was read already.
        """
        start = 0 if at is None else at - self.offset
        if start < 0:
            raise ValueError(f"offset {at} was read already (now at {self.offset})")
        while self._here() < start + n and not self._blocked():
            await self._wait(start + n)
        return self._peek(start, n)

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
