"""What a supervisor and its workers say to each other: lines of JSON over a socket pair.

A message is an object whose ``"kind"`` says what it is; both ends ignore kinds they do not know.
Readers and writers are callbacks of the loop, not asyncio's streams: on the replay loop a stream
that somebody waits for would hold capture time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_CHUNK = 1 << 16  # bytes taken at once


class Channel:
    """One end of a socket pair, on a loop.

    Args:
        end: this side's socket; closed by :meth:`close`.
        loop: the loop that calls back.
        heard: called with each message.
        gone: called once, when the other end has hung up.
    """

    def __init__(
        self,
        end: socket.socket,
        loop: asyncio.AbstractEventLoop,
        heard: Callable[[Message], None],
        gone: Callable[[], None],
    ) -> None:
        self._end = end
        self._loop = loop
        self._heard = heard
        self._gone = gone
        self._partial = b""
        self._unsent = b""
        end.setblocking(False)
        loop.add_reader(end, self._readable)

    def send(self, kind: str, **fields: Any) -> None:
        """Say something; what nobody is there to hear is forgotten."""
        if self._end.fileno() < 0:
            return
        self._unsent += json.dumps({"kind": kind, **fields}).encode() + b"\n"
        self._write()

    def _write(self) -> None:
        try:
            sent = self._end.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._loop.is_closed():
            return  # the last words: flush() waits for them to be taken
        if self._unsent:
            self._loop.add_writer(self._end, self._write)
        else:
            self._loop.remove_writer(self._end)

    def flush(self, seconds: float) -> None:
        """Wait until all that was said has been taken, at most so long."""
        with contextlib.suppress(OSError):  # closed: the other end has gone
            self._end.settimeout(seconds)
            self._end.sendall(self._unsent)
        self._unsent = b""

    def _readable(self) -> None:
        try:
            data = self._end.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._gone()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._heard(json.loads(line))

    def close(self) -> None:
        """Hang up. May be called twice."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()


def leave_signals_alone() -> None:
    """They reach all processes of a terminal or a service; the supervisor says what to do.

    Caught rather than ignored: programs that the app starts take them as usual.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)


def told(end: socket.socket) -> Message:
    """The first message, which a process waits for before it has a loop."""
    line = b""
    while not line.endswith(b"\n"):
        data = end.recv(_CHUNK, socket.MSG_PEEK)
        if not data:
            raise SystemExit(2)  # the supervisor has gone before it said anything
        line += end.recv(data.find(b"\n") + 1 or len(data))  # what comes behind it is for later
    message: Message = json.loads(line)
    return message


def refuse(end: socket.socket, error: Exception) -> int:
    """Say why nothing is served; the exit status."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    with contextlib.suppress(OSError):  # nobody is there to hear it
        end.setblocking(True)
        end.sendall(json.dumps({"kind": "failed", "message": text}).encode() + b"\n")
    return 2
