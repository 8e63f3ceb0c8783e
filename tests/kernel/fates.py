"""How a connection stands: as the real socket has it, and as aiomos tells it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from reading import Seen
from stranger import Visit

#: TCP_ESTABLISHED, TCP_CLOSE, TCP_CLOSE_WAIT of the kernel's
STATES = {1: "open", 7: "reset", 8: "end"}


def fate(visit: Visit) -> tuple[bytes, str]:
    """What the application received, and how it stands: open, end of stream, or reset."""
    assert visit.socket
    state = visit.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return visit.read(), STATES[state]


def told(seen: Seen) -> tuple[bytes, str]:
    """The same as aiomos tells it; what lies behind a gap no application received."""
    data = seen.client.data
    if seen.client.gaps:
        data = data[: seen.client.gaps[0][0]]
    if seen.reason == "RESET":
        return data, "reset"
    return data, "end" if seen.client.complete and not seen.client.gaps else "open"
