"""Runs on a loop of their own: run() here, replay() in a thread; signals end them in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiomos._app import App, as_app
from aiomos._collector import patient_collector
from aiomos._engine.source import Source
from aiomos._flow import Flow
from aiomos._replay_loop import ReplayLoop
from aiomos._runner import Engine, Path
from aiomos._summary import Summary


def run(
    app: App | Callable[[Flow], Any],
    source: Source | Path | Sequence[Path],
    *,
    io_patience: float = 5.0,
    _stopper: Stopper | None = None,
    **options: Any,
) -> Summary:
    """Run an app over captures or a live source, and say what it came to.

    Captures are replayed on capture time, on the project's own loop; a live source
    (:func:`open_interface`) is served on uvloop until :meth:`Engine.stop`, SIGINT or SIGTERM.

    ``options`` are those of :class:`Engine`. SIGINT and SIGTERM end the replay in order when
    called in the main thread; a second SIGINT ends it at once.

    Raises:
        SourceError: a capture cannot be opened.
        FilterError: an expression does not compile.
    """
    with patient_collector():  # which collects an engine that is over
        return _run(as_app(app), source, io_patience, _stopper, options)


def _run(
    app: App,
    source: Source | Path | Sequence[Path],
    io_patience: float,
    stopper: Stopper | None,
    options: dict[str, Any],
) -> Summary:
    engine = Engine(source, **options)
    try:
        return serve_on_own_loop(engine, app, io_patience, stopper)
    finally:
        engine.close()


def serve_on_own_loop(
    engine: Engine,
    app: App,
    io_patience: float = 5.0,
    stopper: Stopper | None = None,
    signals: bool = True,
) -> Summary:
    """Serves on a loop made for it: the replay loop, or uvloop for a live source.

    Without ``signals`` those are somebody else's business.
    """
    live = engine.source.live

    def new_loop() -> asyncio.AbstractEventLoop:
        if not live:
            return ReplayLoop(io_patience=io_patience)
        import uvloop  # a replay starts sooner without it

        return uvloop.new_event_loop()

    with patient_collector(), asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_serve(engine, app, stopper, signals))


async def _serve(engine: Engine, app: App, stopper: Stopper | None, signals: bool) -> Summary:
    if stopper is not None:
        stopper.serving(engine)
    with _signals(engine) if signals else contextlib.nullcontext():
        return await engine.serve(app)


@contextlib.contextmanager
def _signals(engine: Engine) -> Iterator[None]:
    """The first SIGINT or SIGTERM stops in order; the next one is Python's own again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    taken = (signal.SIGINT, signal.SIGTERM)

    def release() -> None:
        for number in taken:
            loop.remove_signal_handler(number)

    def stop() -> None:
        engine.stop()
        release()

    for number in taken:
        loop.add_signal_handler(number, stop)
        signal.siginterrupt(number, True)  # a read that waits for a pipe must return
    try:
        yield
    finally:
        release()


async def replay(
    app: App | Callable[[Flow], Any], source: Source | Path | Sequence[Path], **options: Any
) -> Summary:
    """Replay captures on capture time from inside another loop (notebooks): in a thread.

    The handlers run on a loop of their own in that thread. Cancelling this stops the replay.
    """
    stopper = Stopper()
    work = asyncio.to_thread(run, app, source, _stopper=stopper, **options)
    try:
        return await work
    except asyncio.CancelledError:
        stopper.stop()
        raise


class Stopper:
    """Stops an engine from another thread, also one that has not begun to serve."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._stopped = False

    def serving(self, engine: Engine) -> None:
        """The engine is about to serve on the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._stop = lambda: loop.call_soon_threadsafe(engine.stop)
            if self._stopped:
                loop.call_soon(engine.stop)

    def stop(self) -> None:
        """From any thread; also when the run is over."""
        with self._lock:
            self._stopped = True
            if self._stop is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    self._stop()
