"""Who blocks the core: a thread that looks on, and names the line.

A handler that computes for long, or calls something that blocks, stops all other flows of its
core. asyncio says so afterwards, in debug mode, of a callback; this says it while it lasts, and
where.
"""

from __future__ import annotations

import asyncio
import functools
import linecache
import logging
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from aiomos._functions import name_of
from aiomos._reports import OURS

if TYPE_CHECKING:
    from aiomos._engine.taskqueue import TaskQueue

log = logging.getLogger("aiomos")

#: Looks in the time after which a stall is one.
_LOOKS = 4


class StallDetector:
    """``with StallDetector(queue, seconds) as stalls:`` in the core's thread.

    Watches the steps of flow tasks, the functions that the pump calls, and ordinary tasks that keep
    the loop. Each stall is told once, while it lasts. Code that never gives the interpreter up (an
    endless regular expression) is told when it has.
    """

    def __init__(self, queue: TaskQueue, seconds: float) -> None:
        self.count = 0
        self._queue = queue
        self._seconds = seconds
        self._core = threading.get_ident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aiomos stalls", daemon=True)

    def __enter__(self) -> StallDetector:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        before, looks = None, 0
        while not self._done.wait(self._seconds / _LOOKS):
            now = self._occupant()
            looks = looks + 1 if now is not None and now == before else 0
            before = now
            if looks == _LOOKS:
                self._tell()

    def _occupant(self) -> tuple[object, ...] | None:
        """What of the user's code has the core, the same as long as it keeps it; None: nothing.

        The steps of flow tasks are counted; those of an ordinary task are told apart by the call
        that the loop makes for each (uvloop has no such frames: there it is the task alone).
        """
        frame = sys._current_frames().get(self._core)
        task = self._task()
        if frame is None or (task is None and not self._in_a_function(frame)):
            return None
        return self._queue.steps, task, _callback(frame)

    def _task(self) -> Any:
        return self._queue.current or asyncio.current_task(self._queue.loop)

    def _tell(self) -> None:
        """It has had the core for the whole time: says so, and where it is now."""
        frame, task = sys._current_frames().get(self._core), self._task()
        if frame is None:
            return
        self.count += 1
        log.warning(
            "%s has blocked the core for more than %g s: %s; "
            "'await asyncio.to_thread(...)' lets other flows go on",
            "a function" if task is None else _described(task),
            self._seconds,
            _place(frame),
        )

    def _in_a_function(self, frame: FrameType) -> bool:
        """Whether the pump is in a function of the app's, not in the source or a select()."""
        return self._queue.pumping and not frame.f_code.co_filename.startswith(OURS)


def _callback(frame: FrameType | None) -> FrameType | None:
    """The frame of the loop's callback that a frame is in, of a loop written in Python."""
    while frame is not None and frame.f_code is not asyncio.Handle._run.__code__:
        frame = frame.f_back
    return frame


def _described(task: Any) -> str:
    coro = task.get_coro()
    flow = getattr(task, "flow", None)
    on = f" on {flow!r}" if flow is not None else ""
    return f"handler {name_of(coro)}{on}" if flow is not None else f"task {name_of(coro)}"


def _place(frame: FrameType) -> str:
    """File, line and text of the innermost frame outside libraries, and what it is waiting in."""
    theirs: FrameType | None = frame
    while theirs is not None and _is_library(theirs):
        theirs = theirs.f_back
    shown = theirs or frame
    file, line = shown.f_code.co_filename, shown.f_lineno
    text = linecache.getline(file, line).strip()
    inside = "" if shown is frame else f" (in {frame.f_code.co_qualname})"
    return f"{file}:{line} in {shown.f_code.co_name}: {text}{inside}"


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Where code lies that nobody would mend: Python's own library, and packages."""
    import sysconfig  # slow to import, and seldom needed

    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib")})


def _is_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((OURS, "<frozen", *_libraries()))
