"""Reading one end of a flow as from an :class:`asyncio.StreamReader`.

Same names, same results, same exceptions. The coroutines here are thin on purpose: they look,
take, or wait; bytes and waiting live in the engine (``_engine/endpoint.pyx``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from aiomos._engine.endpoint import EndpointBase
from aiomos._engine.errors import GapError
from aiomos._separators import Separator, Separators
from aiomos.events import Gap

#: What ``_blocked`` says stands behind the bytes at hand.
GAP, END = 1, 2


class StreamReading(EndpointBase):
    """What asyncio.StreamReader does, on the bytes that one end sent.

    Every call takes ``timeout=``, in seconds on the engine's clock; it raises TimeoutError, takes
    nothing (but ``read()`` to the end), and reading can go on. A flow that expired raises
    :class:`FlowTimeout` instead.
    """

    __slots__ = ()

    if sys.version_info >= (3, 12):
        # Before, EndpointBase.read() is quicker (docs/decisions/0027).
        async def read(self, n: int = -1, *, timeout: float | None = None) -> bytes:
            """Read up to ``n`` bytes, or everything up to the end if ``n`` is negative.

            Waits until at least one byte is there; ``b""`` means the end. No result
            spans a gap: with ``n`` negative, a gap ends it as the end does.

            Raises:
                TimeoutError: no byte came within ``timeout`` seconds; with ``n`` negative, the
                    end did not, and what had been read is lost, as in asyncio.
            """
            if n <= 0 or timeout is not None:
                return await super().read(n, timeout=timeout)
            while (data := self._take(n)) is None:
                await self._parking
            return data

        read.__qualname__ = "Endpoint.read"  # as Reading's, which a warning may name

    async def _read_within(self, n: int, timeout: float) -> bytes:
        with self._deadline(timeout):
            return await self.read(n)

    async def readexactly(self, n: int, *, timeout: float | None = None) -> bytes:
        """Read exactly ``n`` bytes.

        Raises:
            asyncio.IncompleteReadError: the end, or a gap, came first; ``partial`` has what
                there was before it.
            TimeoutError: they did not come in time; none of them is taken.
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError("readexactly size can not be less than zero")
        if n == 0:
            return b""
        if timeout is not None:
            with self._deadline(timeout):
                return await self.readexactly(n)
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
        if blocked == GAP and self.skips_gaps:
            self._pass_gap()
            return True
        self._take(1)
        return False

    def _rest(self, here: int) -> bytes:
        return self._exactly(here) if here else b""

    def _exactly(self, n: int) -> bytes:
        data = self._take(n)
        assert isinstance(data, bytes)  # the caller counted them
        return data

    async def readline(self, *, timeout: float | None = None) -> bytes:
        """Read up to and including the next newline; what there is, at the end.

        Raises:
            ValueError: the line is longer than the limit; what was buffered of it is gone.
            TimeoutError: it did not come in time; nothing of it is taken.
        """
        try:
            return await self.readuntil(b"\n", timeout=timeout)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            found = self._peek(error.consumed, 1) == b"\n"
            self._drop(error.consumed + 1 if found else self._here())
            raise ValueError(error.args[0]) from None

    async def readuntil(
        self,
        separator: Separator | tuple[Separator, ...] = b"\n",
        *,
        timeout: float | None = None,
    ) -> bytes:
        """Read up to and including ``separator``, or the one of several that ends first.

        Under ``on_gap="skip"`` a gap drops the unit that it cut in two, and reading goes on
        behind the next separator.

        Raises:
            asyncio.IncompleteReadError: the end, or a gap, came first.
            asyncio.LimitOverrunError: the limit was reached first; the bytes stay unread.
            TimeoutError: it did not come in time; nothing is taken.
            TypeError: a separator is no bytes-like object.
            ValueError: there is no separator, or it is empty.
        """
        separators = Separators.of(separator)
        if timeout is not None:
            with self._deadline(timeout):
                return await self._readuntil(separators)
        return await self._readuntil(separators)

    async def _readuntil(self, separators: Separators) -> bytes:
        start = 0
        while (found := separators.first(self._find, start)) is None:
            here = self._here()
            start = max(0, here + 1 - separators.longest)
            if start > self.limit:
                raise asyncio.LimitOverrunError(
                    "Separator is not found, and chunk exceed the limit", start
                )
            if blocked := self._blocked():
                start = await self._broken_unit(separators, here, blocked)
                continue
            await self._wait(here + 1)
        at, end = found
        if at > self.limit:
            raise asyncio.LimitOverrunError(
                "Separator is found, but chunk is longer than limit", at
            )
        return self._exactly(end)

    async def _broken_unit(self, separators: Separators, here: int, blocked: int) -> int:
        """A gap or the end inside a unit: raise, or (gap, ``skip``) find the next beginning."""
        if blocked == GAP and self.skips_gaps:
            self._drop(here)
            self._pass_gap()
            await self._skip_past(separators)
            return 0
        if not here:
            self._step_over(blocked)
        raise asyncio.IncompleteReadError(self._rest(here), None)

    async def _skip_past(self, separators: Separators) -> None:
        """Drop everything up to and including the next separator."""
        while (found := separators.first(self._find, 0)) is None:
            here = self._here()
            blocked = self._blocked()
            self._drop(here if blocked else max(0, here + 1 - separators.longest))
            if blocked == END:
                return
            if blocked == GAP:
                self._pass_gap()
            else:
                await self._wait(self._here() + 1)
        self._drop(found[1])

    def at_eof(self) -> bool:
        """Whether everything was read and nothing more will come."""
        return not self._here() and self._blocked() == END

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
