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


def watch_output(live: bool = False) -> None:
    """Puts ours in the place of Python's; not where somebody put something else there.

    ``live``: each line is seen when it is printed, also through a pipe, and is not lost with a
    process that is killed.
    """
    if live and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    out = sys.stdout
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return
    raw = _Output(out.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        raw if out.write_through else io.BufferedWriter(raw),  # as -u does
        out.encoding,
        out.errors,
        line_buffering=out.line_buffering,
        write_through=out.write_through,
    )


def output_gone() -> bool:
    """Whether somebody has stopped reading what is printed."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return isinstance(raw, _Output) and raw.gone
