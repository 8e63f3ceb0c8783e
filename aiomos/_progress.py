"""A progress bar on standard error for long captures; nothing where that is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiomos._engine.source import Source

_PATIENCE = 1.0  # seconds a run may take before a bar appears
_PERIOD = 0.2


@contextlib.contextmanager
def progress(source: Source, wanted: bool = True) -> Iterator[None]:
    """Show how far a source has been read, while the body runs."""
    if not wanted or not sys.stderr.isatty() or not source.stats().input_size:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(source, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(source: Source, done: threading.Event) -> None:
    if done.wait(_PATIENCE):
        return
    from rich.console import Console  # rich is slow to import: only where it is seen
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=source.stats().input_size)
        while not done.wait(_PERIOD):
            bar.update(task, completed=source.stats().input_pos)
