"""The supervisor: starts workers, watches them, starts them again, and adds up what they count.

It owns sockets and rings and runs neither the app nor the engine (semantics.md 11): what a worker
dies of cannot reach it, and what a dead worker was sent waits for its successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from aiomos._launch import Launch, Place
from aiomos._linkwatch import link_reported
from aiomos._metrics import WorkerStats, summary_of
from aiomos._statsocket import Report, answering
from aiomos._statsview import report_of
from aiomos._summary import Summary
from aiomos._tallies import Tallies
from aiomos._workerprocess import WorkerProcess, why_ended

if TYPE_CHECKING:
    from aiomos._dpdkports import SharedPorts
    from aiomos._engine.ledger import Ledger

log = logging.getLogger("aiomos")

#: Seconds between questions for statistics.
LISTEN = 1.0
#: Seconds between looks whether the rings are empty, when no more frames come.
SETTLE = 0.01


class Supervisor:
    """All workers of one launch.

    Args:
        launch: what they run.
        places: where each of them stands.
        tallies: what went to each place, by what outlives the processes there.
        ledgers: what processes count, by place; none: nobody asks once they are gone.
        distributed: the last place is the distributor's.
        shared: the DPDK ports that the processes read, if they are this process's.
        settled: no frame is on its way to one of the places of these numbers.
    """

    def __init__(
        self,
        launch: Launch,
        places: list[Place],
        tallies: Tallies,
        ledgers: Mapping[int, Ledger] = MappingProxyType({}),
        distributed: bool = False,
        shared: SharedPorts | None = None,
        settled: Callable[[set[int]], bool] = lambda numbers: True,
    ) -> None:
        self.launch = launch
        self.shared = shared
        self._settled = settled
        self.processes = [
            WorkerProcess(launch, place, tallies, ledgers.get(place.number), self._recover)
            for place in places
        ]
        self.workers = self.processes
        self.distributor: WorkerProcess | None = None
        self.on_ready: Callable[[], None] | None = None  # called when all serve
        if distributed:
            *self.workers, self.distributor = self.processes
            self.distributor.module = "aiomos._distributor"
            self.distributor.name = "distributor"
        for process in self.processes:
            process.on_output_gone = self.stop

    @property
    def output_gone(self) -> bool:
        """Nobody reads any more what the workers print."""
        return any(process.output_gone for process in self.processes)

    async def run(self) -> int:
        """Until all have ended; the exit status."""
        lives = await self._start()
        beside = [asyncio.create_task(self._announce()), asyncio.create_task(self._listen())]
        link = link_reported(self.launch.interface or "")
        async with answering(self.report), link, self._signals():
            try:
                return self._judged(await self._watch(lives))
            finally:
                for task in beside:
                    task.cancel()
                for process in self.processes:
                    process.kill()

    async def _start(self) -> list[asyncio.Task[int]]:
        """The distributor first: where it cannot open its source, no worker begins."""
        if self.distributor is not None:
            first = asyncio.create_task(self.distributor.live(), name=self.distributor.name)
            ready = asyncio.create_task(self.distributor.ready.wait())
            await asyncio.wait([first, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if first.done():
                return [first]
            for one in self.workers:
                one.place = attrs.evolve(one.place, captured=self.distributor.captured)
        lives = [asyncio.create_task(one.live(), name=one.name) for one in self.workers]
        return lives if self.distributor is None else [*lives, first]

    async def _watch(self, lives: list[asyncio.Task[int]]) -> list[int]:
        """Waits for all; what did not begin, or has nothing to read any more, ends the others."""
        waiting, of = set(lives), self.processes[-len(lives) :]
        ending: asyncio.Task[None] | None = None
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            self._forget(one for one, life in zip(of, lives, strict=True) if life in done)
            if any(self._ends_all(one, life) for one, life in zip(of, lives, strict=True)):
                self.stop()
            elif self.distributor is not None and lives[-1].done() and ending is None:
                ending = asyncio.create_task(self._finish(dict(zip(of, lives, strict=True))))
        if ending is not None:
            ending.cancel()
        return [life.result() for life in lives]

    def _forget(self, ended: Iterable[WorkerProcess]) -> None:
        """A distributor waits for nobody who is not there."""
        for process in ended:
            if self.distributor not in (None, process):
                self.distributor.forget(process.place.number)

    def _ends_all(self, process: WorkerProcess, life: asyncio.Task[int]) -> bool:
        """It did not begin, or found nothing to read any more, or nobody to tell."""
        never = life.done() and life.result() != 0 and not process.begun
        return never or process.source_failed or process.output_gone

    async def _finish(self, lives: dict[WorkerProcess, asyncio.Task[int]]) -> None:
        """Workers end when the rings between them are empty, too: one may still hand over to
        another what it puts together."""
        while not self._settled({one.place.number for one in lives if not lives[one].done()}):
            await asyncio.sleep(SETTLE)
        for worker in self.workers:
            worker.finish()

    async def _announce(self) -> None:
        for process in self.processes:
            await process.ready.wait()
        if self.distributor is not None:
            self.distributor.go()
        if self.on_ready is not None:
            self.on_ready()

    async def _listen(self) -> None:
        """Asks for statistics again and again: those of a worker that is killed are known."""
        told = False
        while True:
            await asyncio.sleep(LISTEN)
            stats = await self.stats()
            workers = stats[: len(self.workers)]  # a distributor hands everything over
            if not told and any(worker.handed_over for worker in workers):
                told = True
                log.warning(
                    "frames of some flows come to other workers than theirs, as the kernel or the "
                    "device tells by what is around a tunnel: they are handed over, a copy each"
                )

    def _judged(self, statuses: list[int]) -> int:
        """What failed is said; the exit status of all."""
        for worker, status in zip(self.processes[-len(statuses) :], statuses, strict=True):
            if worker.failure and not worker.begun:
                log.error("%s", worker.failure)
                return 2
            explained = worker._stopping or worker.source_failed or worker.output_gone
            if status != 0 and worker.begun and not explained:
                log.error("%s %s: what its flows had to say is lost", worker, why_ended(status))
        return 1 if any(statuses) else 0

    async def _recover(self, dead: WorkerProcess) -> None:
        """What a process held of the shared ports goes back before another takes its place."""
        if self.shared is None:
            return
        number = dead.place.number
        if self.distributor is None or dead is self.distributor:
            self.shared.recover_reader(number)
            return
        if not await self.distributor.take_back(number):
            self.shared.recover_worker(number)

    # ---- signals -------------------------------------------------------------------------------

    def stop(self) -> None:
        """All end in order."""
        for process in self.processes:
            process.stop()

    def reload(self) -> None:
        """All take the app's present code for new flows."""
        if not self.launch.live:
            log.warning("SIGHUP: a replay is not reloaded; begin it again")
            return
        for worker in self.workers:
            worker.reload()

    @contextlib.asynccontextmanager
    async def _signals(self) -> Any:
        """The first SIGINT or SIGTERM ends all in order, the next one at once."""
        loop = asyncio.get_running_loop()
        taken = (signal.SIGINT, signal.SIGTERM)
        asked = 0

        def stop() -> None:
            nonlocal asked
            asked += 1
            for process in self.processes:
                process.kill() if asked > 1 else process.stop()

        for number in taken:
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            yield
        finally:
            for number in (*taken, signal.SIGHUP):
                loop.remove_signal_handler(number)

    # ---- what they count -----------------------------------------------------------------------

    async def stats(self) -> list[WorkerStats]:
        """Of each process, now; the distributor is the last."""
        return await asyncio.gather(*(process.ask_stats() for process in self.processes))

    async def report(self) -> Report:
        """The same for another terminal."""
        restarts = sum(process.restarts for process in self.processes)
        return report_of(self.launch.name, await self.stats(), len(self.workers), restarts)

    def summary(self) -> Summary:
        """Of all workers that said what they came to, and of those killed before them."""
        said = [w.summary for w in self.workers if w.summary is not None]
        said += [summary_of(w.past) for w in self.workers]
        said += [Summary(dropped=w.dropped_meanwhile()) for w in self.workers]
        found = merged(said)
        if self.distributor is None:
            return found
        came_to = self.distributor.counted()
        last = self.distributor.summary
        failed = last is not None and last.failed
        return attrs.evolve(
            found,
            received=found.received + came_to.lost,
            dropped=found.dropped + came_to.dropped + came_to.lost,
            cut=found.cut + came_to.cut,
            failed=found.failed or failed,
            message=last.message if last is not None and failed else found.message,
        )


def merged(parts: list[Summary]) -> Summary:
    """One summary of several."""
    if not parts:
        return Summary()
    summed: dict[str, Any] = {}
    for field in attrs.fields(Summary):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], bool):
            summed[field.name] = any(values)
        elif isinstance(values[0], int):
            summed[field.name] = sum(values)
    counters: dict[str, int] = {}
    for part in parts:
        for name, value in part.counters.items():
            counters[name] = counters.get(name, 0) + value
    message = next((part.message for part in parts if part.message), "")
    return Summary(**summed, counters=counters, message=message)
