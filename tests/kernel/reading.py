"""What aiomos reads on a tap, by the ports of the client and the server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomos

#: For how long Linux repeats a SYN-ACK: what a busy machine may make of a handshake, in seconds.
KERNEL_PATIENCE = 63.0
FULL = os.environ.get("AIOMOS_FULL", "") not in ("", "0")
Frames = Iterable[tuple[bytes, int]]


@dataclass
class Side:
    """Bytes and gaps of one end, in order."""

    data: bytes = b""
    gaps: list[tuple[int, int, str]] = field(default_factory=list)  # offset, length, cause
    complete: bool = False  # all of it was read, up to the FIN


@dataclass
class Seen:
    """One connection as aiomos tells it."""

    client: Side = field(default_factory=Side)
    server: Side = field(default_factory=Side)
    reason: str = ""


def offered(**options: Any) -> bool:
    """Whether this version of ``@app.tcp`` takes these options."""
    try:
        aiomos.App().tcp(**options)
    except (TypeError, aiomos.ConfigError):
        return False
    return True


async def take_all(end: aiomos.Endpoint, side: Side) -> None:
    parts = []
    with contextlib.suppress(aiomos.FlowError):
        while not parts or parts[-1]:
            try:
                parts.append(await end.read(1 << 20))
            except aiomos.GapError as gap:
                side.gaps.append((gap.offset, gap.length, str(gap.cause)))
    side.data = b"".join(parts)
    side.complete = end.complete


def read(tap: Frames | Path, **options: Any) -> dict[tuple[int, int], list[Seen]]:
    """All connections of frames or of a file, in the order in which they began. `options` are
    those of ``@app.tcp``."""
    found: dict[tuple[int, int], list[Seen]] = {}
    app = aiomos.App()

    @app.tcp(**{"start": "syn", "limit": 1 << 26, **options})
    async def reads(flow: aiomos.Flow) -> None:
        seen = Seen()
        found.setdefault((flow.client.port, flow.server.port), []).append(seen)
        await take_all(flow.client, seen.client)
        await take_all(flow.server, seen.server)
        seen.reason = str(await flow.closed())

    if isinstance(tap, Path):
        aiomos.run(app, tap, embryonic=KERNEL_PATIENCE)
    else:
        source = aiomos.MemorySource(tap)
        source.finish()
        aiomos.run(app, source, embryonic=KERNEL_PATIENCE)
    return found
