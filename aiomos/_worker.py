"""A worker: one process with one engine and one loop, under a supervisor (_supervisor.py).

``python -m aiomos._worker FD``: the descriptor is its end of the supervisor's socket pair, over
which it is first told what to do. Signals are the supervisor's business: it says "stop".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys

import attrs

from aiomos._app import App
from aiomos._control import Channel, Message, leave_signals_alone, refuse, told
from aiomos._engine.errors import AiomosError
from aiomos._engine.source import Source
from aiomos._launch import Launch, Place
from aiomos._loader import load_app
from aiomos._metrics import worker_stats
from aiomos._output import end_output, output_gone, watch_output
from aiomos._ownloop import serve_on_own_loop
from aiomos._reloading import reload
from aiomos._runner import Engine
from aiomos._sources import ledger_of, opened_place, take_place

log = logging.getLogger("aiomos")

#: Seconds for a last message to be taken.
LAST_WORDS = 2.0


class Worker:
    """Serves an app at its place until the source ends or the supervisor says so."""

    def __init__(self, end: socket.socket, launch: Launch, place: Place) -> None:
        self.end = end
        self.launch = launch
        self.place = place
        self.engine: Engine | None = None
        self.channel: Channel | None = None
        self._reloading: asyncio.Task[None] | None = None

    def run(self) -> int:
        """The exit status; what the run came to, or why it did not begin, has been told."""
        try:
            app = load_app(self.launch.app)
            with opened_place(self.launch, self.place) as source:
                self._pin()  # behind the threads of the source, which may run elsewhere
                return self._serve(app, source)
        except AiomosError as error:
            return refuse(self.end, error)

    def _serve(self, app: App, source: Source) -> int:
        self.engine = engine = Engine(source, **self.launch.engine)
        engine.number = self.place.number
        engine.drain = self.launch.drain
        engine.on_start = self._started
        engine.ledger = ledger_of(self.place)
        keep = take_place(engine.core, self.launch, self.place)
        summary = serve_on_own_loop(engine, app, self.launch.io_patience, signals=False)
        del keep
        end_output()
        assert self.channel is not None
        stats = attrs.asdict(worker_stats(engine))
        gone = output_gone()
        self.channel.send("done", summary=attrs.asdict(summary), stats=stats, output_gone=gone)
        self.channel.flush(LAST_WORDS)
        return 1 if summary.failed or gone else 0

    def output_gone(self) -> None:
        """Nobody reads any more what the app prints, in whatever thread: all workers end."""
        if self.engine is not None and self.engine.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: these are the last words
                self.engine.loop.call_soon_threadsafe(self._stop_all)

    def _stop_all(self) -> None:
        assert self.engine is not None
        self.engine.stop()
        if self.channel is not None:
            self.channel.send("output gone")

    def _pin(self) -> None:
        cores = self.place.cores
        if cores:
            os.sched_setaffinity(0, {cores[self.place.number % len(cores)]})

    def _started(self) -> None:
        """The app is being served, on the running loop."""
        loop = asyncio.get_running_loop()
        assert self.engine is not None
        self.channel = Channel(self.end, loop, self._heard, self.engine.stop)
        self.channel.send("ready", pid=os.getpid())
        if output_gone():
            self._stop_all()  # a lifespan has printed

    def _heard(self, message: Message) -> None:
        assert self.engine is not None
        assert self.channel is not None
        if message["kind"] == "stop":
            self.engine.stop()
        elif message["kind"] == "finish":
            self.engine.finish()
        elif message["kind"] == "reload":
            self._reloading = asyncio.ensure_future(reload(self.engine, self.launch.app))
        elif message["kind"] == "stats":
            stats = attrs.asdict(worker_stats(self.engine))
            self.channel.send("stats", id=message["id"], stats=stats)


def main() -> None:
    """The process."""
    leave_signals_alone()
    end = socket.socket(fileno=int(sys.argv[1]))
    instructions = told(end)
    launch, place = Launch(**instructions["launch"]), Place(**instructions["place"])
    for descriptor in (end.fileno(), *place.descriptors):
        os.set_inheritable(descriptor, False)  # nor do they keep these
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"aiomos: worker {place.number}: %(message)s"))
    log.addHandler(handler)
    worker = Worker(end, launch, place)
    watch_output(live=launch.live, on_gone=worker.output_gone, whole_lines=True)
    try:
        raise SystemExit(worker.run())
    finally:
        end_output()


if __name__ == "__main__":
    main()
