"""What is said when a function of an app raised: who, where in the stream, the user's own lines."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiomos._flow import Flow

log = logging.getLogger("aiomos")

OURS = str(Path(__file__).parent) + os.sep


def report_failure(flow: Flow | None, error: BaseException, name: str) -> None:
    """A function of the app raised: say where, and go on without it."""
    shown = (type(error), error, users_part(error.__traceback__))
    if flow is None:
        log.error("handler %s failed", name, exc_info=shown)
        return
    log.error(
        "handler %s failed on %r at client offset %d, server offset %d",
        name,
        flow,
        flow.client.offset,
        flow.server.offset,
        exc_info=shown,
    )


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of aiomos itself; whole where nothing else is in it."""
    frames = []
    at = trace
    while at is not None:
        frames.append(at)
        at = at.tb_next
    theirs = [t for t in frames if not t.tb_frame.f_code.co_filename.startswith(OURS)]
    shown: TracebackType | None = None
    for t in reversed(theirs):
        shown = TracebackType(shown, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return shown or trace
