"""Engine: brings app, source and core together, on a loop that is running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from aiomos._app import App, as_app
from aiomos._drivers import Driver, driver_of
from aiomos._endpoint import Endpoint
from aiomos._engine import names
from aiomos._engine.core import Core
from aiomos._engine.errors import ConfigError
from aiomos._engine.filters import FrameFilter
from aiomos._engine.flowfilters import FilterSet
from aiomos._engine.handler import Handler
from aiomos._engine.ledger import Ledger
from aiomos._engine.pump import Pump
from aiomos._engine.source import Source, open_files
from aiomos._engine.taskqueue import TaskQueue
from aiomos._engine.writer import Writer
from aiomos._flow import Flow
from aiomos._generations import Generation, Generations
from aiomos._kinds import WORDS
from aiomos._live import serving
from aiomos._mount import Declarations
from aiomos._packet import Packet
from aiomos._pumprules import event_tuples, handler_of, packet_tuples
from aiomos._replay_loop import ReplayLoop
from aiomos._reports import report_failure
from aiomos._rules import EventRule, FlowRule
from aiomos._stalls import StallDetector
from aiomos._summary import Summary

log = logging.getLogger("aiomos")

Path: TypeAlias = str | os.PathLike[str]
Tasks: TypeAlias = Literal["engine", "asyncio"]

_CANCEL_ROUNDS = 100

#: Steps of handlers between two bursts of a live source (semantics.md 1).
LIVE_BUDGET = 4096
#: Of one engine, with those of older code that flows have yet to begin with: a bit each.
MOST_HANDLERS = 64


class Engine:
    """One core's engine on the loop that is running.

    ``async with aiomos.Engine(source) as engine: await engine.serve(app)``

    Args:
        source: what frames come from: a :class:`Source`, or paths of capture files.
        filter: a BPF expression for the whole run, on every raw frame.
        write: a :class:`Writer` that gets every frame which passed the filter.
        count: stop after so many frames; 0: never.
        tasks: ``"engine"`` steps handlers itself; ``"asyncio"`` makes ordinary tasks of them.
        linger: seconds that handlers get after the end of the traffic.
        burst: most frames taken at once, 1 to 64.
        budget: most steps of handlers between two bursts; None: 4096 live, and as many as there
            are in a replay.
        stall: seconds after which a handler that has not given the core back is named in a
            warning, with the line that it is at; None or 0: never.
        busy_poll: never sleep while a live source has nothing, but ask again at once.
        options: engine limits and timeouts, see :data:`aiomos._engine.options.DEFAULTS`.

    Raises:
        SourceError: a capture cannot be opened or read.
        FilterError: an expression does not compile.
        AppError: what is served is no app.
    """

    # What aiomos.testing puts its own in the place of, to see what handlers do.
    _flow_class = Flow
    _endpoint_class = Endpoint

    def __init__(
        self,
        source: Source | Path | Sequence[Path],
        *,
        filter: str | None = None,
        write: Writer | None = None,
        count: int = 0,
        tasks: Tasks = "engine",
        linger: float = 1.0,
        burst: int = 64,
        budget: int | None = None,
        stall: float | None = 0.1,
        busy_poll: bool = False,
        **options: Any,
    ) -> None:
        _check_values(tasks, stall)
        self._filter = FrameFilter(filter) if filter else None
        self._own_source = not isinstance(source, Source)
        self.source = source if isinstance(source, Source) else open_files(_paths(source))
        self.core = self._make_core(options)
        self._write = write
        self._count = count
        self._tasks = tasks
        self._linger = linger
        self._burst = burst
        self._budget = LIVE_BUDGET if budget is None and self.source.live else budget
        self._busy_poll = busy_poll
        self._stall = stall
        self._stalls: StallDetector | None = None
        self._pump: Pump | None = None
        self._first: list[Handler] = []  # those that it began with
        self._generations: Generations | None = None
        self.drain = 30.0  # seconds that open flows keep the lifespan of an app that was replaced
        self._spawned: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event | None = None
        self._driver: Driver | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # that it serves on
        self.number = 0  # of this worker among others
        self.ledger: Ledger | None = None  # for its supervisor
        self.on_start: Callable[[], None] | None = None  # called when serving has begun
        self.beside: list[contextlib.AbstractAsyncContextManager[object]] = []  # open meanwhile

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source, if the engine opened it."""
        if self._own_source:
            self.source.close()

    # ---- serving --------------------------------------------------------------------------

    async def serve(self, app: App | Callable[[Flow], Any]) -> Summary:
        """Run an app until the source ends or :meth:`stop` is called; what it came to."""
        first = Generation(as_app(app))
        if self._pump is not None:
            raise ConfigError("an engine serves once; make another one")
        self.loop = loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._pump = pump = self._make_pump(first.wanted, loop)
        pump.ledger = self.ledger
        serving.add(self)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(serving.discard, self)
            stack.callback(self._detach)
            await stack.enter_async_context(first)
            await first.enter()
            self._driver = driver = self._make_driver(pump, loop, self._stop)
            driver.on_failure = self._report
            driver.alive = self._alive
            stack.callback(driver.close)
            if self._stall:
                self._stalls = stack.enter_context(StallDetector(pump.queue, self._stall))
            first.tick(driver.ticker)
            stack.push_async_callback(first.rest)  # before the driver is closed
            for beside in self.beside:
                await stack.enter_async_context(beside)
            if self.on_start is not None:
                self.on_start()
            try:
                await self._until_end(first, driver, stack)
                await driver.linger(self._alive)
            finally:
                await self._cancel_handlers()
        self._warn_unverified()
        return self.summary()

    async def _until_end(
        self, first: Generation, driver: Driver, stack: contextlib.AsyncExitStack
    ) -> None:
        """Apps change on live sources only: a replay is begun again."""
        if not self.source.live:
            await driver.until_end()
            return
        assert self._pump is not None
        first.busy = self._busy(self._pump, self._first)
        self._generations = generations = Generations(
            first, self._adopt, driver.ticker, self.flow_tasks, self.drain
        )
        stack.push_async_callback(generations.leave)
        await generations.serve(driver.until_end())

    async def reload(self, app: App | Callable[[Flow], Any]) -> None:
        """New flows are this app's from now on; open ones end on the code they began with.

        Its lifespan is entered before, the old one's ends with its last handler, or after
        ``drain`` seconds. Where this raises, all is as before.

        Raises:
            ConfigError: the engine serves no live source, or the app cannot be served.
        """
        if self._generations is None:
            raise ConfigError("a live run takes another app, a replay does not: begin it again")
        await self._generations.reload(as_app(app))

    def _adopt(self, wanted: Declarations) -> Callable[[], bool]:
        """Handlers of a new app, for new flows; whether flows are theirs, begun or not."""
        pump = self._pump
        assert pump is not None
        bits = pump.roster.free_bits()
        if len(bits) < len(wanted.flow_rules) <= MOST_HANDLERS:
            raise ConfigError(
                f"{len(wanted.flow_rules)} handlers are too many now: open flows have yet to begin "
                f"with {MOST_HANDLERS - len(bits)} of older code, and there is room for "
                f"{MOST_HANDLERS}; reload again when they have begun or ended"
            )
        filters, handlers = self._flow_rules(wanted, bits)
        packets = packet_tuples(wanted.packet_rules)
        events = event_tuples(self._event_rules(wanted))
        pump.replace(handlers, filters, packet_handlers=packets, event_rules=events)
        if wanted.statistics:
            self.core.keep_statistics()
        return self._busy(pump, handlers)

    def _busy(self, pump: Pump, handlers: list[Handler]) -> Callable[[], bool]:
        """Whether flows are those of some handlers."""
        return lambda: any(h.open for h in handlers) or pump.roster.awaits(handlers)

    def _flow_rules(
        self, wanted: Declarations, bits: Iterable[int] = range(MOST_HANDLERS)
    ) -> tuple[FilterSet, list[Handler]]:
        """What an app wants of flows: filters, with these bits, and handlers."""
        filters = FilterSet(bits)
        for rule in wanted.flow_rules:
            filters.add(rule.protocol, *rule.within, rule.filter)
        return filters, [self._handler(wanted.apps[0], rule) for rule in wanted.flow_rules]

    def stop(self) -> None:
        """Ends the run: open flows close with SHUTDOWN, handlers get their linger time."""
        if self._stop is not None:
            self._stop.set()

    def finish(self) -> None:
        """Ends a run as soon as its source has nothing: whoever fed it has said all."""
        if self._driver is not None:
            self._driver.finish()

    def _detach(self) -> None:
        if self._pump is not None:
            self._pump.drop_frames()
            self._pump.detach()

    def _warn_unverified(self) -> None:
        for address in self.core.unverified():
            log.warning(
                "checksums of %s were not verified: the first 64 segments had wrong ones, as "
                "when they are filled in behind the capture",
                address,
            )

    async def _cancel_handlers(self) -> None:
        """Handlers that are still there after the linger, or when the run broke off."""
        pump = self._pump
        assert pump is not None
        for task in self.flow_tasks():
            task.cancel("the run is over")
        for _ in range(_CANCEL_ROUNDS):
            if not self._alive():
                return
            await asyncio.sleep(0)
        log.warning("%d handlers go on after they were cancelled: abandoned", self._alive())

    @property
    def pump(self) -> Pump | None:
        """What moves the frames; None before :meth:`serve`."""
        return self._pump

    def flow_tasks(self) -> list[asyncio.Task[Any]]:
        """Tasks of handlers that have not ended, those of flows in order of birth."""
        tasks: list[Any] = self._pump.queue.tasks() if self._pump else []
        return [*tasks, *self._spawned]

    def _alive(self) -> int:
        return (self._pump.queue.alive if self._pump else 0) + len(self._spawned)

    # ---- making the core and the pump --------------------------------------------------------

    def _make_core(self, options: dict[str, Any]) -> Core:
        """The core with these options; the source is closed where they cannot be."""
        if options.get("checksums", "auto") == "auto" and self.source.live:
            options["checksums"] = "live"
        try:
            return Core(**options)
        except BaseException:
            self.close()
            raise

    def _make_pump(self, wanted: Declarations, loop: asyncio.AbstractEventLoop) -> Pump:
        if wanted.statistics:
            self.core.keep_statistics()
        self.core.set_prefixes(wanted.apps[0].prefixes)
        filters, self._first = self._flow_rules(wanted)
        return Pump(
            self.core,
            self.source,
            TaskQueue(loop),
            handlers=self._first,
            filters=filters,
            flow_class=self._flow_class,
            endpoint_class=self._endpoint_class,
            frame_filter=self._filter,
            writer=self._write,
            spawn=self._spawn if self._tasks == "asyncio" else None,
            on_failure=self._report,
            packet_handlers=packet_tuples(wanted.packet_rules),
            packet_class=Packet,
            event_rules=event_tuples(self._event_rules(wanted)),
            event_words=WORDS,
            burst=self._burst,
            stop_after=self._count,
            budget=self._budget,
        )

    def _handler(self, app: App, rule: FlowRule) -> Handler:
        return handler_of(app, rule)

    def _event_rules(self, wanted: Declarations) -> list[EventRule]:
        return wanted.event_rules

    def _make_driver(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event
    ) -> Driver:
        return driver_of(pump, loop, stop, self._linger, self._busy_poll)

    def _report(self, flow: Flow | None, error: BaseException, name: str) -> None:
        report_failure(flow, error, name)

    def _spawn(
        self, coroutine: Coroutine[Any, Any, Any], flow: Flow | None, done: Callable[..., None]
    ) -> asyncio.Task[Any]:
        """An ordinary task for a handler (``tasks="asyncio"``)."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._spawned.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._spawned.discard(task)
            done(task, flow) if flow is not None else done(task)

        task.add_done_callback(ended)
        return task

    # ---- what it came to ------------------------------------------------------------------------

    def summary(self) -> Summary:
        """Counters so far."""
        pump = self._pump
        if pump is None:
            return Summary()
        stats = self.source.stats()
        loop = pump.queue.loop
        replay = loop.stats if isinstance(loop, ReplayLoop) else None
        counters = self.core.counters()
        elsewhere = counters["other_workers"]
        if elsewhere and self.number:  # the same frames and stamps, told by the first worker
            counters |= {"clock_jumps": 0, "clock_steps_back": 0}
        lost = stats.dropped_nic + stats.dropped_kernel + stats.dropped_ring
        return Summary(
            received=pump.received - elsewhere - counters["wrong_core"],
            filtered=0 if elsewhere and self.number else pump.filtered,
            processed=counters["frames"],
            dropped=lost + stats.dropped_pool,
            cut=stats.cut,
            counters=counters,
            handlers_started=pump.roster.started,
            handler_errors=pump.handler_errors + (self._driver.failed if self._driver else 0),
            cut_off=self.source.result == names.RESULT_CUT,
            failed=self.source.result in names.RESULTS_FAILED,
            message=self.source.message,
            turn_limit=replay.turn_limit if replay else 0,
            io_expired=replay.patience_expired if replay else 0,
            stalls=self._stalls.count if self._stalls else 0,
        )


def _check_values(tasks: str, stall: float | None) -> None:
    if tasks not in ("engine", "asyncio"):
        raise ConfigError(f"tasks={tasks!r}: it is 'engine' or 'asyncio'")
    if stall is not None and not 0 <= stall < math.inf:
        raise ConfigError(f"stall={stall!r}: a number of seconds, or None (0: never, as None)")


def _paths(source: Path | Sequence[Path]) -> list[Path]:
    return [source] if isinstance(source, str | os.PathLike) else list(source)
