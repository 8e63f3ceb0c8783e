"""Standard output whose reader may go away: the run then ends in order and quietly."""

from __future__ import annotations

import io
import select
import signal
import sys
from collections.abc import Callable
from typing import Any


def _interrupt() -> None:
    """While a run is on, this stops it."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.raise_signal(signal.SIGINT)


#: Bytes that a pipe takes in one piece, whoever else writes to it (POSIX: at least 512).
_PIECE = select.PIPE_BUF
#: Bytes of a line that somebody who waits for its end may hold.
_LONGEST_LINE = 1 << 20


class _Output(io.FileIO):
    """Raising in the handler that happens to print would make that handler's failure of it."""

    gone = False
    on_gone: Callable[[], object] = staticmethod(_interrupt)

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            first, self.gone = not self.gone, True
            if first:
                self.on_gone()
            return len(data)

    def end(self) -> None:
        """Nothing more will be written."""


class _WholeLines(_Output):
    """The same, where several processes write: what one of them prints is never torn by another.

    A buffer that is full may end in the middle of a line; that is kept until the rest has come.
    """

    _line = b""  # which has not ended

    def write(self, data: Any) -> int:
        text = self._line + bytes(data)
        end = text.rfind(b"\n") + 1
        if len(text) - end > _LONGEST_LINE:
            end = len(text)
        self._line = text[end:]
        self._write_lines(text[:end])
        return len(data)

    def _write_lines(self, text: bytes) -> None:
        """In pieces that a pipe takes whole, if lines are no longer than that."""
        while text:
            end = text.rfind(b"\n", 0, _PIECE) + 1 or text.find(b"\n") + 1 or len(text)
            piece, text = text[:end], text[end:]
            while piece:
                piece = piece[super().write(piece) :]

    def end(self) -> None:
        line, self._line = self._line, b""
        self._write_lines(line)


def watch_output(
    live: bool = False, on_gone: Callable[[], object] = _interrupt, whole_lines: bool = False
) -> None:
    """Puts ours in the place of Python's; not where somebody put something else there.

    ``live``: each line is seen when it is printed, also through a pipe, and is not lost with a
    process that is killed. ``on_gone`` is called, once and in the function that prints, when
    nobody reads any more. ``whole_lines``: other processes write there, too.
    """
    if live and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    out = sys.stdout
    if out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return
    raw = (_WholeLines if whole_lines else _Output)(out.fileno(), "w", closefd=False)
    raw.on_gone = on_gone
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        out.encoding,
        out.errors,
        line_buffering=out.line_buffering or out.write_through,  # PYTHONUNBUFFERED
    )


def output_gone() -> bool:
    """Whether somebody has stopped reading what is printed."""
    raw = _raw()
    return raw is not None and raw.gone


def end_output() -> None:
    """Writes all that was printed, lines that have not ended included."""
    sys.stdout.flush()
    if (raw := _raw()) is not None:
        raw.end()


def _raw() -> _Output | None:
    """Ours, if it is in place."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _Output) else None
