"""Runs apps: Engine attaches to a running loop; run() and replay() bring a loop of their own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from aiomos._app import App, EventRule, EveryRule, FlowRule, as_app
from aiomos._endpoint import Endpoint
from aiomos._engine import names
from aiomos._engine.core import Core
from aiomos._engine.errors import ConfigError, SourceError
from aiomos._engine.filters import FrameFilter
from aiomos._engine.flowfilters import FilterSet
from aiomos._engine.handler import Handler
from aiomos._engine.pump import Cycle, Pump
from aiomos._engine.source import Source, Writer, open_files
from aiomos._engine.taskqueue import TaskQueue
from aiomos._flow import Flow
from aiomos._kinds import WORDS
from aiomos._options import number_of
from aiomos._packet import Packet
from aiomos._replay_loop import ReplayLoop
from aiomos._summary import Summary

log = logging.getLogger("aiomos")

Path: TypeAlias = str | os.PathLike[str]
Tasks: TypeAlias = Literal["engine", "asyncio"]

_GC_THRESHOLD = 50_000
_IDLE_POLL = 0.002  # seconds between looks at a live source that has no descriptor
_CANCEL_ROUNDS = 100


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
        budget: most steps of handlers between two bursts; None: as many as there are.
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
        **options: Any,
    ) -> None:
        if tasks not in ("engine", "asyncio"):
            raise ConfigError(f"tasks={tasks!r}: it is 'engine' or 'asyncio'")
        self._filter = FrameFilter(filter) if filter else None
        self._own_source = not isinstance(source, Source)
        self.source = source if isinstance(source, Source) else open_files(_paths(source))
        if options.get("checksums", "auto") == "auto" and self.source.live:
            options["checksums"] = "live"
        try:
            self.core = Core(**options)
        except BaseException:
            self.close()
            raise
        self._write = write
        self._count = count
        self._tasks = tasks
        self._linger = linger
        self._burst = burst
        self._budget = budget
        self._pump: Pump | None = None
        self._handlers: list[Handler] = []
        self._spawned: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event | None = None
        self._driver: _Driver | None = None

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
        app = as_app(app)
        if self._pump is not None:
            raise ConfigError("an engine serves once; make another one")
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._pump = pump = self._make_pump(app, loop)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._detach)
            for lifespan in app.lifespans:
                app.state = await stack.enter_async_context(_entered(lifespan(app)))
            self._driver = driver = self._make_driver(pump, loop, self._stop)
            driver.on_failure = self._report
            stack.callback(driver.close)
            tickers = [driver.ticker(rule) for rule in app.every_rules]
            stack.push_async_callback(_cancel_all, tickers)
            try:
                await driver.until_end()
                await driver.linger(self._alive)
            finally:
                await self._cancel_handlers()
        self._warn_unverified()
        return self.summary()

    def stop(self) -> None:
        """Ends the run: open flows close with SHUTDOWN, handlers get their linger time."""
        if self._stop is not None:
            self._stop.set()

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
        tasks: list[Any] = [*pump.queue.tasks(), *self._spawned]
        for task in tasks:
            task.cancel("the run is over")
        for _ in range(_CANCEL_ROUNDS):
            if not self._alive():
                return
            await asyncio.sleep(0)
        log.warning("%d handlers go on after they were cancelled: abandoned", self._alive())

    def _alive(self) -> int:
        return (self._pump.queue.alive if self._pump else 0) + len(self._spawned)

    # ---- making the pump ---------------------------------------------------------------------

    def _make_pump(self, app: App, loop: asyncio.AbstractEventLoop) -> Pump:
        filters = FilterSet()
        if app.statistics:
            self.core.keep_statistics()
        self.core.set_prefixes(app.prefixes)
        self._handlers = [self._handler(app, rule) for rule in app.flow_rules]
        for rule in app.flow_rules:
            filters.add(rule.protocol, rule.filter)
        return Pump(
            self.core,
            self.source,
            TaskQueue(loop),
            handlers=self._handlers,
            filters=filters,
            flow_class=self._flow_class,
            endpoint_class=self._endpoint_class,
            frame_filter=self._filter,
            writer=self._write,
            spawn=self._spawn if self._tasks == "asyncio" else None,
            on_failure=self._report,
            packet_handlers=[
                (FrameFilter(r.filter) if r.filter else None, r.function, r.is_coroutine, Packet)
                for r in app.packet_rules
            ],
            packet_class=Packet,
            event_rules=[
                (r.kinds, r.hooks, r.function, r.is_coroutine, r.filter)
                for r in self._event_rules(app)
            ],
            event_words=WORDS,
            burst=self._burst,
            stop_after=self._count,
            budget=self._budget,
        )

    def _handler(self, app: App, rule: FlowRule) -> Handler:
        return _handler(app, rule)

    def _event_rules(self, app: App) -> list[EventRule]:
        return app.event_rules

    def _make_driver(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event
    ) -> _Driver:
        if isinstance(loop, ReplayLoop):
            return _Replaying(pump, loop, stop, self._linger)
        return _Attached(pump, loop, stop, self._linger)

    def _report(self, flow: Flow | None, error: BaseException, name: str) -> None:
        _report(flow, error, name)

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
        return Summary(
            received=pump.received,
            filtered=pump.filtered,
            processed=counters["frames"],
            dropped=stats.dropped_nic + stats.dropped_kernel + stats.dropped_pool,
            counters=counters,
            handlers_started=sum(h.started for h in self._handlers),
            handler_errors=pump.handler_errors + (self._driver.failed if self._driver else 0),
            cut_off=self.source.result == names.RESULT_CUT,
            failed=self.source.result in names.RESULTS_FAILED,
            message=self.source.message,
            turn_limit=replay.turn_limit if replay else 0,
            io_expired=replay.patience_expired if replay else 0,
        )


def _paths(source: Path | Sequence[Path]) -> list[Path]:
    return [source] if isinstance(source, str | os.PathLike) else list(source)


def _handler(app: App, rule: FlowRule) -> Handler:
    # Datagrams of both ends wait in one queue, that of the client's side (udp.pxd).
    sides = "client" if rule.protocol == "udp" else rule.sides
    return Handler(
        rule.function,
        rule.name,
        number_of("protocol", rule.protocol),
        number_of("start", rule.start),
        number_of("sides", sides),
        number_of("on_gap", rule.on_gap),
        rule.limit,
        number_of("on_full", rule.on_full),
        number_of("overlap", rule.overlap or app.overlap) | number_of("deliver", rule.deliver),
        bool(app.prefixes) and rule.overlap is None,
    )


def _report(flow: Flow | None, error: BaseException, name: str) -> None:
    """A function of the app raised: say where, and go on without it."""
    if flow is None:
        log.error("handler %s failed", name, exc_info=error)
        return
    log.error(
        "handler %s failed on %r at client offset %d, server offset %d",
        name,
        flow,
        flow.client.offset,
        flow.server.offset,
        exc_info=error,
    )


@contextlib.asynccontextmanager
async def _entered(generator: AsyncIterator[object]) -> AsyncIterator[object]:
    """A lifespan: up to its yield, then the rest."""
    async with contextlib.aclosing(generator):  # type: ignore[type-var]  # a generator
        yield await anext(generator)
        with contextlib.suppress(StopAsyncIteration):
            await anext(generator)
            raise ConfigError("a lifespan yields once")


async def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


# ---- who drives the pump ----------------------------------------


class _Driver:
    """What replay loops and other loops have in common."""

    def __init__(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, linger: float
    ) -> None:
        self.pump = pump
        self.loop = loop
        self.stop = stop
        self.linger_seconds = linger
        self.failed = 0  # times that an every handler raised
        self.on_failure: Callable[[Flow | None, BaseException, str], None] = _report
        pump.queue.on_runnable = self._runnable

    def close(self) -> None:
        """Lets go of loop and pump."""
        self.pump.queue.on_runnable = None

    def _runnable(self) -> None:
        self.loop.call_soon(self.pump.step_tasks)

    def ticker(self, rule: EveryRule) -> asyncio.Task[Any]:
        """The task behind one ``@app.every``."""
        return self.loop.create_task(self._tick(rule), name=f"every {rule.seconds:g} s")

    async def _tick(self, rule: EveryRule) -> None:
        due = self.now()
        while True:
            due = max(due + rule.seconds, self.now())
            await self.sleep_until(due)
            try:
                await rule.function()
            except Exception as error:
                self.failed += 1
                self.on_failure(None, error, _name(rule.function))

    def now(self) -> float:
        raise NotImplementedError

    async def sleep_until(self, when: float) -> None:
        raise NotImplementedError

    async def until_end(self) -> None:
        raise NotImplementedError

    async def linger(self, alive: Callable[[], int]) -> None:
        """Up to linger seconds for handlers to end by themselves."""
        deadline = self.loop.time() + self.linger_seconds
        while alive() and (left := deadline - self.loop.time()) > 0:
            await asyncio.sleep(min(left, 0.01))


class _Replaying(_Driver):
    """On the project's own loop, which asks the pump for work when it has none (capture time)."""

    loop: ReplayLoop

    def __init__(self, pump: Pump, loop: ReplayLoop, stop: asyncio.Event, linger: float) -> None:
        super().__init__(pump, loop, stop, linger)
        self._end = asyncio.Event()
        loop.on_exhausted = self._end.set
        loop.driver = pump

    def close(self) -> None:
        super().close()
        self.loop.on_exhausted = None

    def now(self) -> float:
        return self.loop.time()

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(when - self.loop.time())

    async def until_end(self) -> None:
        ends = [self.loop.create_task(e.wait()) for e in (self._end, self.stop)]
        ours: set[asyncio.Task[Any]] = {*ends}
        if (mine := asyncio.current_task(self.loop)) is not None:
            ours.add(mine)
        self.loop.own_tasks |= ours  # our waiting holds no capture time
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.loop.own_tasks -= ours
            for task in ends:
                task.cancel()
        if not self._end.is_set():
            await self._close_flows()

    async def _close_flows(self) -> None:
        """From a callback of the loop: inside a task, no flow task could be stepped."""
        closed = self.loop.create_future()

        def close() -> None:
            self.pump.close_flows(names.CLOSE_REASONS.index("SHUTDOWN"))
            closed.set_result(None)

        self.loop.call_soon(close)
        await closed


class _Attached(_Driver):
    """On somebody else's loop: a callback a burst; engine timers run on capture time."""

    def __init__(
        self, pump: Pump, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, linger: float
    ) -> None:
        super().__init__(pump, loop, stop, linger)
        self._end: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.Handle | None = None
        self._warn = not pump.source.live

    def close(self) -> None:
        super().close()
        if self._timer is not None:
            self._timer.cancel()

    def now(self) -> float:
        return self.pump.now_ns() / 1e9

    async def sleep_until(self, when: float) -> None:
        woken = self.loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        entry = self.pump.call_at(round(when * 1e9), wake)
        try:
            await woken
        finally:
            self.pump.cancel_call(entry)

    def _turn(self) -> None:
        """One cycle, then the loop's turn."""
        try:
            came_to = self.pump.turn()
        except BaseException as error:
            self._finish(error)
            return
        if self.stop.is_set():
            self.pump.close_flows(names.CLOSE_REASONS.index("SHUTDOWN"))
            self._finish(None)
        elif came_to == Cycle.CYCLE_END:
            self._finish(None)
        elif came_to == Cycle.CYCLE_EMPTY:
            self._timer = self.loop.call_later(_IDLE_POLL, self._turn)
        else:
            self._timer = self.loop.call_soon(self._turn)
        if self._warn and self.pump.queue.foreign_waiters:
            self._warn = False
            log.warning(
                "a handler waits for asyncio while a capture is replayed on a loop with its own "
                "clock: the replay goes on meanwhile; aiomos.replay() keeps capture time"
            )

    def _finish(self, error: BaseException | None) -> None:
        self._timer = None
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    async def until_end(self) -> None:
        self._timer = self.loop.call_soon(self._turn)  # behind the first step of the tickers
        await self._end


# ---- with a loop of their own ----------------------------------------


def run(
    app: App | Callable[[Flow], Any],
    source: Source | Path | Sequence[Path],
    *,
    io_patience: float = 5.0,
    _stopper: _Stopper | None = None,
    **options: Any,
) -> Summary:
    """Replay captures through an app, on capture time, and say what it came to.

    ``options`` are those of :class:`Engine`. SIGINT and SIGTERM end the replay in order when
    called in the main thread; a second SIGINT ends it at once.

    Raises:
        SourceError: a capture cannot be opened.
        FilterError: an expression does not compile.
    """
    app = as_app(app)
    engine = Engine(source, **options)
    try:
        with (
            _patient_collector(),
            asyncio.Runner(loop_factory=lambda: ReplayLoop(io_patience=io_patience)) as runner,
        ):
            return runner.run(_serve_with_signals(engine, app, _stopper))
    finally:
        engine.close()


@contextlib.contextmanager
def _patient_collector() -> Iterator[None]:
    """Flows are freed by reference counts; the cyclic collector need not look at each of them."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(before[0], _GC_THRESHOLD) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _serve_with_signals(engine: Engine, app: App, stopper: _Stopper | None) -> Summary:
    if stopper is not None:
        stopper.serving(engine)
    with _signals(engine):
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
    stopper = _Stopper()
    work = asyncio.to_thread(run, app, source, _stopper=stopper, **options)
    try:
        return await work
    except asyncio.CancelledError:
        stopper.stop()
        raise


class _Stopper:
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


__all__ = ["Engine", "SourceError", "replay", "run"]
