"""An app that is served, and the one that takes its place at a reload: lifespans and tickers.

New flows are the new one's; those that are open stay with the code they began with, whose
lifespan ends when the last of them has, or when the time to drain is over (semantics.md 11).
All lifespans are entered and left in the task that serves: what they hold (task groups,
timeouts) may belong to a task.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from aiomos._app import App
from aiomos._engine.errors import ConfigError
from aiomos._mount import Declarations, declared
from aiomos._rules import EveryRule

Task: TypeAlias = "asyncio.Task[Any]"
Ticker: TypeAlias = Callable[[EveryRule], Task]


class Generation:
    """One app and what it holds while it is served."""

    def __init__(self, app: App) -> None:
        self.wanted: Declarations = declared(app)
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
        adopt: makes what an app declares that of the engine; raises if that cannot be.
        ticker: makes the task of one function of ``@app.every``.
        tasks: tasks of handlers that have not ended.
        drain: seconds that open flows keep an old lifespan.
    """

    def __init__(
        self,
        first: Generation,
        adopt: Callable[[Declarations], None],
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
        self._old: set[Generation] = set()
        self._watching: set[Task] = set()

    async def reload(self, app: App) -> None:
        """From any task: new flows are this app's from now on.

        Raises:
            Exception: what its lifespan raised, or why it cannot be served; all is as before.
        """
        done = asyncio.get_running_loop().create_future()

        async def take() -> None:
            try:
                await self._take(Generation(app))
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._asked.put_nowait(take)
        await done

    async def serve(self, end: Awaitable[None]) -> None:
        """In the task that serves: does what is asked for, until that ends."""
        ending = asyncio.ensure_future(end)
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
            for task in self._watching:
                task.cancel()

    async def leave(self) -> None:
        """Ends all that are left but the first one served, which is its task's to end."""
        for generation in list(self._old):
            await generation.__aexit__(None, None, None)
        self._old.clear()

    async def _take(self, new: Generation) -> None:
        try:
            await new.enter()
            self._adopt(new.wanted)
        except BaseException as error:
            await new.__aexit__(type(error), error, error.__traceback__)
            raise
        before, self._now = self._now, new
        await before.rest()
        new.tick(self._ticker)
        self._old |= {before, new}
        task = asyncio.ensure_future(self._watch(before, list(self._tasks())))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, old: Generation, tasks: list[Task]) -> None:
        """Until the last handler of an old one has ended, or has had its time."""
        ended = asyncio.get_running_loop().create_future()
        left = len(tasks)

        def one_less(task: object) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not ended.done():
                ended.set_result(None)

        for task in tasks:
            task.add_done_callback(one_less)
        if tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain):
                    await ended

        async def leave() -> None:
            self._old.discard(old)
            await old.__aexit__(None, None, None)

        self._asked.put_nowait(leave)


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
