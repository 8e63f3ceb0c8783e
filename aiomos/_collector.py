"""The cyclic garbage collector during a run.

Flows are freed by reference counts, so it need not look at each of them: it is asked to be patient,
and not to look at what was there before. What a run leaves behind are a few objects in a circle,
engine and loop among them, which hold the flow table: tens of megabytes that the collector would
not notice for long. So it looks once more in the end, at the objects of the run only.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_THRESHOLD = 50_000  # objects made and not freed between two looks

_lock = threading.Lock()
_runs = 0  # at this time: replay() has threads
_before = gc.get_threshold()


@contextlib.contextmanager
def patient_collector() -> Iterator[None]:
    """Patience for a block that holds an engine; nothing of the engine outlives the block."""
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    global _runs, _before
    with _lock:
        _runs += 1
        if _runs == 1:
            _before = gc.get_threshold()
            gc.freeze()
            gc.set_threshold(max(_before[0], _THRESHOLD) if _before[0] else 0, *_before[1:])


def _end() -> None:
    global _runs
    with _lock:
        _runs -= 1
        if _runs == 0:
            if gc.isenabled() and _before[0]:
                gc.collect()
            gc.set_threshold(*_before)
            gc.unfreeze()
