"""What the protocol readers share: looking at bytes as they come, and passing over gaps.

All of it is made of the public methods of an :class:`aiomos.Endpoint`.
"""

from __future__ import annotations

import asyncio
from typing import Literal, TypeAlias

from aiomos._endpoint import Endpoint
from aiomos._engine.errors import GapError
from aiomos.events import Gap

GapMode: TypeAlias = Literal["raise", "yield", "skip"]


def gap_mode(end: Endpoint, asked: GapMode | None) -> GapMode:
    """What to do at a gap: as asked, else as the endpoint is configured."""
    if asked is not None:
        return asked
    if end.skips_gaps:
        return "skip"
    return "yield" if end.yields_gaps else "raise"


async def fresh(end: Endpoint, at: int) -> bytes:
    """What is at hand from stream offset ``at`` on, not consumed; waits for a byte.

    ``b""``: a gap or the end stands there.
    """
    start = at - end.offset
    if end.buffered <= start:
        await end.peek(1, at)
    return await end.peek(end.buffered - start, at)


async def pass_gap(end: Endpoint) -> Gap:
    """Goes over the gap that stands at the cursor (``fresh`` gave nothing, and it is not the end).

    Never waits, so that nobody sees the other way of meeting gaps that it needs for a moment.
    """
    before = gap_mode(end, None)
    end.configure(on_gap="raise")
    try:
        await end.read(1)
    except GapError as error:
        return Gap(error.offset, error.length, error.cause)
    finally:
        end.configure(on_gap=before)
    raise AssertionError("no gap stood at the cursor")


async def the_end(end: Endpoint) -> None:
    """At the end of a side: raises FlowReset, FlowTimeout or FlowEvicted where it was cut off."""
    await end.read(1)


async def drop(end: Endpoint, n: int) -> None:
    """Consumes n bytes that are at hand."""
    await end.readexactly(n)


async def either(*wants: tuple[Endpoint, int]) -> list[bytes | None]:
    """Waits until one of the ends has so many bytes unread, a gap or its end.

    What a look at each gave, less than wanted before a gap or the end; None: still waiting. Its
    tasks are gone when it returns, for an end has one waiting reader at a time.
    """
    looks = [asyncio.ensure_future(end.peek(n)) for end, n in wants]
    try:
        await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        return [look.result() if look.done() else None for look in looks]
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
