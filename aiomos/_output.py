"""Standard output whose reader may go away: the run then ends in order and quietly."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any


class _Output(io.FileIO):
    """Raising in the handler that happens to print would make that handler's failure of it."""

    gone = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            if not self.gone and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                signal.raise_signal(signal.SIGINT)  # while a run is on, this stops it
            self.gone = True
            return len(data)


def watch_output(*, by_lines: bool = False) -> None:
    """Puts ours in the place of Python's; not where somebody put something else there.

    By lines (always, where Python is told not to buffer), each is written at once and whole: those
    of several processes do not run into each other.
    """
    out = sys.stdout
    if by_lines and isinstance(out, io.TextIOWrapper):
        out.reconfigure(line_buffering=True)
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return
    raw = _Output(out.fileno(), "w", closefd=False)
    lines = out.line_buffering or out.write_through  # PYTHONUNBUFFERED
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), out.encoding, out.errors, line_buffering=lines
    )


def output_gone() -> bool:
    """Whether somebody has stopped reading what is printed."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return isinstance(raw, _Output) and raw.gone
