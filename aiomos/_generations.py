"""An app that is served, and the one that takes its place at a reload: lifespans and tickers.

New flows are the new one's; those that are open stay with the code they began with, whose
lifespan ends when the last of them has, or when the time to drain is over (semantics.md 11).
All lifespans are entered and left in the task that serves: what they hold (task groups,
timeouts) may belong to a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from aiomos._app import App
from aiomos._engine.errors import ConfigError
from aiomos._mount import Declarations, declared
from aiomos._rules import EveryRule

log = logging.getLogger("aiomos")

#: Seconds between looks whether flows of an old app are left.
LOOK = 0.1

Task: TypeAlias = "asyncio.Task[Any]"
Ticker: TypeAlias = Callable[[EveryRule], Task]


class Generation:
    """One app and what it holds while it is served."""

    def __init__(self, app: App) -> None:
        self.wanted: Declarations = declared(app)
        self.busy: Callable[[], bool] = lambda: False  # flows are its own, begun or not
        self._stack = contextlib.AsyncExitStack()
        self._tickers: list[Task] = []

    async def enter(self) -> None:
        """Begin its lifespans."""
        for owner, lifespan in self.wanted.lifespans:
            entered = _entered(lifespan(owner))  # type: ignore[arg-type]  # a generator
            owner.state = await self._stack.enter_async_context(entered)

    def tick(self, ticker: Ticker) -> None:
        """Begin its functions of ``@app.every``."""
        self._tickers = [ticker(rule) for rule in self.wanted.every_rules]

    async def rest(self) -> None:
        """End those."""
        tickers, self._tickers = self._tickers, []
        for task in tickers:
            task.cancel()
        await asyncio.gather(*tickers, return_exceptions=True)

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self.rest()
        await self._stack.__aexit__(*failure)


class Generations:
    """Those that are served by one engine; the last one gets the new flows.

    Args:
        first: already entered.
        adopt: makes what an app declares that of the engine, and says whether flows are the app's;
            raises if that cannot be.
        ticker: makes the task of one function of ``@app.every``.
        tasks: tasks of handlers that have not ended.
        drain: seconds that open flows keep an old lifespan.
    """

    def __init__(
        self,
        first: Generation,
        adopt: Callable[[Declarations], Callable[[], bool]],
        ticker: Ticker,
        tasks: Callable[[], Iterable[Task]],
        drain: float,
    ) -> None:
        self._now = first
        self._adopt = adopt
        self._ticker = ticker
        self._tasks = tasks
        self._drain = drain
        self._asked: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._old: list[Generation] = []  # in order of birth
        self._ended: asyncio.Future[None] | None = None  # while it is served, not done
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._older: set[Task] = set()  # at work when the present one came
        self._watching: set[Task] = set()

    async def reload(self, app: App) -> None:
        """From any task: new flows are this app's from now on.

        Raises:
            Exception: what its lifespan raised, or why it cannot be served; all is as before.
        """
        if self._ended is None or self._ended.done():
            raise ConfigError("the run is over: nothing is reloaded")
        done = asyncio.get_running_loop().create_future()

        async def take() -> None:
            error: Exception | None = None
            try:
                await self._take(Generation(app))
            except Exception as failure:
                error = failure
            if not done.done():  # else nobody waits any more
                done.set_exception(error) if error is not None else done.set_result(None)

        self._asked.put_nowait(take)
        await asyncio.wait([done, self._ended], return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ConfigError("the run is over: nothing is reloaded")
        done.result()

    async def serve(self, end: Awaitable[None]) -> None:
        """In the task that serves: does what is asked for, until that ends."""
        self._ended = asyncio.get_running_loop().create_future()
        self._ending = ending = asyncio.ensure_future(end)
        try:
            while not ending.done():
                asked = asyncio.ensure_future(self._asked.get())
                await asyncio.wait({ending, asked}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    await asked.result()()
                asked.cancel()
            ending.result()
        finally:
            ending.cancel()
            self._ended.set_result(None)
            for task in self._watching:
                task.cancel()

    async def leave(self) -> None:
        """Ends all that are left, the last one first."""
        while self._old:
            await self._old.pop().__aexit__(None, None, None)

    async def _take(self, new: Generation) -> None:
        try:
            async with _until(self._ending):
                await new.enter()
            new.busy = self._adopt(new.wanted)
        except BaseException as error:
            await new.__aexit__(type(error), error, error.__traceback__)
            raise
        before, self._now = self._now, new
        await before.rest()
        new.tick(self._ticker)
        self._old.append(new)
        tasks = set(self._tasks())
        task = asyncio.ensure_future(self._watch(before, list(tasks - self._older)))
        self._older = tasks
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, old: Generation, tasks: list[Task]) -> None:
        """Until the last handler of an old one has ended, or has had its time.

        ``tasks`` are those that it had at the reload; flows that were seen before, but whose
        handlers had not begun, bring more of them.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                await _ends_of(tasks)
                while old.busy():
                    await asyncio.sleep(LOOK)

        async def leave() -> None:
            if old in self._old:
                self._old.remove(old)
            try:
                await old.__aexit__(None, None, None)
            except Exception:
                log.exception("a lifespan of code that was replaced failed at its end")

        self._asked.put_nowait(leave)


@contextlib.asynccontextmanager
async def _until(end: asyncio.Future[None]) -> AsyncIterator[None]:
    """The body is broken off, by a TimeoutError, when that ends."""
    async with asyncio.timeout(None) as limit:

        def over(end: object) -> None:
            limit.reschedule(0)

        end.add_done_callback(over)
        try:
            yield
        finally:
            end.remove_done_callback(over)


async def _ends_of(tasks: list[Task]) -> None:
    """Waits for tasks, and takes no notice of how they end."""
    if not tasks:
        return
    ended = asyncio.get_running_loop().create_future()
    left = len(tasks)

    def one_less(task: object) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not ended.done():
            ended.set_result(None)

    for task in tasks:
        task.add_done_callback(one_less)
    await ended


@contextlib.asynccontextmanager
async def _entered(generator: AsyncGenerator[object, None]) -> AsyncIterator[object]:
    """A lifespan: up to its yield, then the rest.

    What breaks the run off is raised at the yield too, so that a ``TaskGroup`` around it works; a
    lifespan that takes no notice of it does not undo it.
    """
    async with contextlib.aclosing(generator):
        state = await anext(generator)
        try:
            yield state
        except BaseException as error:
            await _last_step(generator.athrow(error))
            raise
        await _last_step(anext(generator))


async def _last_step(step: Awaitable[object]) -> None:
    with contextlib.suppress(StopAsyncIteration):
        await step
        raise ConfigError("a lifespan yields once")
