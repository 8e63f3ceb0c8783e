"""What a handler reads of a conversation: the talk, and the handler's notes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from craft import CLIENT, Talk
from kit import Notes, Script, play

import aiomos

#: Options of `app.tcp`; all others are the run's.
DECLARED = ("limit", "on_gap", "sides", "start")

FlowHandler = Callable[[aiomos.Flow], Awaitable[None]]
Handler = Callable[[aiomos.Flow, Notes], Awaitable[None]]


def noting(handler: Handler, notes: Notes) -> FlowHandler:
    """A handler of flows for one that takes notes; its own failure is among them."""

    async def run(flow: aiomos.Flow) -> None:
        try:
            await handler(flow, notes)
        except (Exception, pytest.fail.Exception) as error:
            notes.append(("FAILED", error))

    return run


def noted(handler: Handler, *scripts: Script, tasks: str, burst: int = 1, **options: Any) -> Notes:
    """What `handler(flow, notes)` noted of these conversations."""
    notes = Notes()
    app = aiomos.App()

    declared = {name: options.pop(name) for name in DECLARED if name in options}
    app.tcp(**declared)(noting(handler, notes))
    notes.summary = play(app, *scripts, tasks=tasks, burst=burst, **options)
    return notes


def in_pieces(*pieces: bytes, pause: float = 0.0, end: bool = True) -> Script:
    """The client says this, a segment each, with so many seconds before each."""

    def script(t: Talk) -> None:
        t.handshake()
        for piece in pieces:
            t.rest(pause)
            t.c(piece)
            t.s()
        if end:
            t.close()

    return script


def slow(*pieces: bytes, pause: float = 1.0) -> Script:
    """The client says this, a segment a second."""
    return in_pieces(*pieces, pause=pause)


def holed(t: Talk) -> None:
    """Bytes 0 to 3 of the client, a gap of 10, then four more."""
    t.handshake()
    t.c(b"abcd")
    t.skip(CLIENT, 10)
    t.c(b"wxyz")
    t.s()
    t.rest(1)
    t.close()
