"""The supervisor: starts workers, watches them, starts them again, and adds up what they count.

It owns sockets and rings and runs neither the app nor the engine (semantics.md 11): what a worker
dies of cannot reach it, and what a dead worker was sent waits for its successor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import attrs

from aiomos._control import Channel, Message
from aiomos._launch import Launch, Place
from aiomos._linkwatch import link_reported
from aiomos._metrics import WorkerStats, sum_of
from aiomos._statsocket import Report, answering
from aiomos._statsview import report_of
from aiomos._summary import Summary

log = logging.getLogger("aiomos")

#: Seconds before a worker that ended is started again: at first, and at the most.
BACK_OFF, BACK_OFF_MOST = 0.1, 10.0
#: A worker that lived for so many seconds begins with the first again.
STEADY = 5.0
#: Seconds between questions for statistics.
LISTEN = 1.0
#: Seconds that a worker has for an answer.
ANSWER = 1.0


class WorkerProcess:
    """One place, and the process that stands there now.

    Attributes:
        place: the same for all processes that follow each other.
        pid: of the process; None while there is none.
        ready: the app is being served.
        restarts: processes that ended and were followed by another.
        summary: what the last one came to, once it has said so.
        stats: of the last one, as it last said.
    """

    def __init__(
        self,
        launch: Launch,
        place: Place,
        taken: Callable[[int], int],
        module: str = "aiomos._worker",
    ) -> None:
        self.module = module
        self.launch = launch
        self.place = place
        self.name = f"worker {place.number}"
        self._taken = taken
        self.pid: int | None = None
        self.ready = asyncio.Event()
        self.restarts = 0
        self.summary: Summary | None = None
        self.stats = WorkerStats(number=place.number)
        self._past = WorkerStats(number=place.number)  # of those before it
        self.failure: str | None = None  # why it did not begin
        self._serving = False  # the present process has begun
        self._channel: Channel | None = None
        self._answers: dict[int, asyncio.Future[WorkerStats]] = {}
        self._asked = 0
        self._stopping = False
        self._going = False
        self._process: asyncio.subprocess.Process | None = None

    def __str__(self) -> str:
        return self.name

    # ---- its life ----------------------------------------------------------------------------

    async def live(self) -> int:
        """One process after the other, until one has done its work; its exit status."""
        delay = BACK_OFF
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._one()
            if status == 0 or self._stopping or not self._may_start_again():
                return status
            if loop.time() - began >= STEADY:
                delay = BACK_OFF
            self.restarts += 1
            self._bury()
            log.warning("%s %s; another one in %g s", self, _why(status), delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACK_OFF_MOST)
            if self._stopping:
                return 0

    def _may_start_again(self) -> bool:
        """Not if it never began, nor in the middle of a file, whose flows nobody can go on with,
        nor where there is nothing to read any more."""
        begun = self.ready.is_set() and self.failure is None
        return self.launch.live and begun and not self.source_failed

    @property
    def source_failed(self) -> bool:
        """The source ended with an error: its interface is gone."""
        return self.summary is not None and self.summary.failed

    async def _one(self) -> int:
        """A process from its start to its end; its exit status, less than 0: killed by a signal."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        self.failure = None
        self._serving = False
        with theirs:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", self.module, str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self.place.descriptors),
            )
        gone = loop.create_future()
        self._channel = channel = Channel(ours, loop, self._heard, lambda: gone.set_result(None))
        self.pid = process.pid
        channel.send("serve", launch=attrs.asdict(self.launch), place=attrs.asdict(self.place))
        try:
            status = await process.wait()
            await gone  # its last words have been heard
        finally:
            channel.close()
            self.pid = None
            self._forget_questions()
            if process.returncode is None:
                process.kill()
                await process.wait()
        return status

    def stop(self) -> None:
        """It ends in order, or is killed when its time to drain is over."""
        if self._stopping:
            return
        self._stopping = True
        if self._channel is not None:
            self._channel.send("stop")
        asyncio.get_running_loop().call_later(self.launch.drain, self.kill)

    def kill(self) -> None:
        """At once."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def go(self) -> None:
        """All others are there; this one, and those that follow it, may begin."""
        self._going = True
        if self._channel is not None:
            self._channel.send("go")

    def finish(self) -> None:
        """No more frames will come: it ends when it has taken those there are."""
        if self._channel is not None:
            self._channel.send("finish")

    def reload(self) -> None:
        """New flows are on new code."""
        if self._channel is not None:
            self._channel.send("reload")

    # ---- what it says --------------------------------------------------------------------------

    def _heard(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "ready":
            self._serving = True
            self.ready.set()
            if self._going:
                self.go()
            if self._stopping and self._channel is not None:
                self._channel.send("stop")
        elif kind == "failed":
            self.failure = message["message"]
        elif kind == "stats":
            self._answered(message["id"], WorkerStats(**message["stats"]))
        elif kind == "done":
            self.summary = Summary(**message["summary"])
            self.stats = WorkerStats(**message["stats"])

    def _answered(self, number: int, stats: WorkerStats) -> None:
        self.stats = stats
        answer = self._answers.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(stats)

    def _forget_questions(self) -> None:
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()

    def _bury(self) -> None:
        """What a process that was killed has counted, and what it had taken besides."""
        dead = attrs.evolve(self.stats, waiting=0, flows=0, handlers=0)
        taken = self._taken(self.place.number) - _frames(self._past)
        lost = max(taken - _frames(dead), 0) + self.stats.waiting
        more = WorkerStats(received=lost - self.stats.waiting, lost=lost)
        self._past = attrs.evolve(sum_of([self._past, dead, more]), number=self.place.number)
        self.stats = WorkerStats(number=self.place.number)

    async def ask_stats(self) -> WorkerStats:
        """Statistics of this place: of all processes that stood there."""
        latest = await self._ask_process()
        number, pid = self.place.number, self.pid or 0
        return attrs.evolve(sum_of([self._past, latest]), number=number, pid=pid)

    async def _ask_process(self) -> WorkerStats:
        """Those of the present one; the last known where it does not answer."""
        if self._channel is None or self.pid is None or not self._serving:
            return self.stats
        self._asked += 1
        self._answers[self._asked] = answer = asyncio.get_running_loop().create_future()
        self._channel.send("stats", id=self._asked)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(ANSWER):
                await answer
        return self.stats


def _frames(stats: WorkerStats) -> int:
    """Frames that were taken from the source."""
    return stats.received - stats.dropped


def _why(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


class Supervisor:
    """All workers of one launch.

    Args:
        launch: what they run.
        places: where each of them stands.
        taken: how many frames the processes at a place have taken, by what outlives them.
        distributed: the last place is the distributor's.
    """

    def __init__(
        self,
        launch: Launch,
        places: list[Place],
        taken: Callable[[int], int],
        distributed: bool = False,
    ) -> None:
        self.launch = launch
        self.processes = [WorkerProcess(launch, place, taken) for place in places]
        self.workers = self.processes
        self.distributor: WorkerProcess | None = None
        self.on_ready: Callable[[], None] | None = None  # called when all serve
        if distributed:
            *self.workers, self.distributor = self.processes
            self.distributor.module = "aiomos._distributor"
            self.distributor.name = "distributor"

    async def run(self) -> int:
        """Until all have ended; the exit status."""
        lives = await self._start()
        beside = [asyncio.create_task(self._announce()), asyncio.create_task(self._listen())]
        link = link_reported(self.launch.interface or "")
        async with answering(self.report), link, self._signals():
            try:
                statuses = await self._watch(lives)
            finally:
                for task in beside:
                    task.cancel()
                for process in self.processes:
                    process.kill()
        return self._judged(statuses)

    async def _start(self) -> list[asyncio.Task[int]]:
        """The distributor first: where it cannot open its source, no worker begins."""
        if self.distributor is not None:
            first = asyncio.create_task(self.distributor.live(), name=self.distributor.name)
            ready = asyncio.create_task(self.distributor.ready.wait())
            await asyncio.wait([first, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if first.done():
                return [first]
        lives = [asyncio.create_task(one.live(), name=one.name) for one in self.workers]
        return lives if self.distributor is None else [*lives, first]

    async def _watch(self, lives: list[asyncio.Task[int]]) -> list[int]:
        """Waits for all; what did not begin, or has nothing to read any more, ends the others."""
        waiting = set(lives)
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(one.failure or one.source_failed for one in self.processes):
                self.stop()
            if self.distributor is not None and lives[-1].done():
                for worker in self.workers:
                    worker.finish()
        return [life.result() for life in lives]

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
            if not told and any(worker.handed_over for worker in stats):
                told = True
                log.warning(
                    "frames of some flows come to other workers than theirs, as the kernel or the "
                    "device tells by what is around a tunnel: they are handed over, a copy each"
                )

    def _judged(self, statuses: list[int]) -> int:
        """What failed is said; the exit status of all."""
        for worker, status in zip(self.processes[-len(statuses) :], statuses, strict=True):
            if worker.failure:
                log.error("%s", worker.failure)
                return 2
            if status != 0 and not worker._stopping and not worker.source_failed:
                log.error("%s %s: what its flows had to say is lost", worker, _why(status))
        return 1 if any(statuses) else 0

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
        """Of all workers that said what they came to."""
        found = merged([w.summary for w in self.workers if w.summary is not None])
        if self.distributor is None:
            return found
        before, said = self.distributor.stats.dropped, self.distributor.summary
        failed = said is not None and said.failed
        return attrs.evolve(
            found,
            dropped=found.dropped + before,
            failed=found.failed or failed,
            message=said.message if said is not None and failed else found.message,
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
