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
from aiomos._metrics import WorkerStats, sum_of, summary_of
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
#: Seconds between looks whether the rings are empty, when no more frames come.
SETTLE = 0.01


class WorkerProcess:
    """One place, and the process that stands there now.

    Attributes:
        place: the same for all processes that follow each other.
        pid: of the process; None while there is none.
        ready: the app is being served.
        restarts: processes that ended and were followed by another.
        summary: what the last one came to, once it has said so.
        stats: of the last one, as it last said.
        past: of those before it together.
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
        self.past = WorkerStats(number=place.number)  # of those before it
        self.failure: str | None = None  # why it did not begin
        self._serving = False  # the present process has begun
        self._channel: Channel | None = None
        self._answers: dict[int, asyncio.Future[WorkerStats]] = {}
        self._asked = 0
        self._stopping = False
        self._stopped = asyncio.Event()  # ends the wait for another process
        self._going = False
        self._finishing = False
        self.output_gone = False  # nobody reads any more what it prints
        self._process: asyncio.subprocess.Process | None = None
        self.on_output_gone: Callable[[], None] = lambda: None  # called when that is so

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
                if status != 0 and not self.begun and self.failure is None:
                    log.error("%s %s before it began", self, _why(status))
                return status
            if loop.time() - began >= STEADY:
                delay = BACK_OFF
            self.restarts += 1
            self._bury()
            log.warning("%s %s; another one in %g s", self, self.failure or _why(status), delay)
            if await self._stopped_within(delay):
                return 0
            delay = min(2 * delay, BACK_OFF_MOST)

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        return self._stopping

    def _may_start_again(self) -> bool:
        """Not if it never began, nor in the middle of a file, whose flows nobody can go on with,
        nor where there is nothing to read any more, or nobody who reads what it prints."""
        return self.launch.live and self.begun and not self.source_failed and not self.output_gone

    @property
    def begun(self) -> bool:
        """This process, or one before it, has served."""
        return self.ready.is_set()

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
        self._channel = channel = Channel(ours, loop, self._heard, lambda: _set(gone))
        self.pid = process.pid
        channel.send("serve", launch=attrs.asdict(self.launch), place=attrs.asdict(self.place))
        try:
            status = await process.wait()
            with contextlib.suppress(TimeoutError):  # children of its own may hold the other end
                async with asyncio.timeout(ANSWER):
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
        self._end_of_life()
        if self._channel is not None:
            self._channel.send("stop")
        asyncio.get_running_loop().call_later(self.launch.drain, self.kill)

    def kill(self) -> None:
        """At once."""
        self._end_of_life()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _end_of_life(self) -> None:
        self._stopping = True
        self._stopped.set()

    def go(self) -> None:
        """All others are there; this one, and those that follow it, may begin."""
        self._going = True
        if self._channel is not None:
            self._channel.send("go")

    def finish(self) -> None:
        """No more frames will come: it ends when it has taken those there are."""
        self._finishing = True
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
            if self._finishing:
                self.finish()
            if self._stopping and self._channel is not None:
                self._channel.send("stop")
        elif kind == "failed":
            self.failure = message["message"]
        elif kind == "output gone":
            self.output_gone = True
            self.on_output_gone()
        elif kind == "stats":
            self._answered(message["id"], WorkerStats(**message["stats"]))
        elif kind == "done":
            self.summary = Summary(**message["summary"])
            self.output_gone |= message.get("output_gone", False)
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
        taken = self._taken(self.place.number) - _frames(self.past)
        lost = max(taken - _frames(dead), 0) + self.stats.waiting
        more = WorkerStats(received=lost - self.stats.waiting, lost=lost)
        self.past = attrs.evolve(sum_of([self.past, dead, more]), number=self.place.number)
        self.stats = WorkerStats(number=self.place.number)

    async def ask_stats(self) -> WorkerStats:
        """Statistics of this place: of all processes that stood there."""
        latest = await self._ask_process()
        number, pid = self.place.number, self.pid or 0
        return attrs.evolve(sum_of([self.past, latest]), number=number, pid=pid)

    async def _ask_process(self) -> WorkerStats:
        """Those of the present one; the last known where it does not answer."""
        if self._channel is None or self.pid is None or not self._serving:
            return self.stats
        self._asked = number = self._asked + 1
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._channel.send("stats", id=number)
        await asyncio.wait([answer], timeout=ANSWER)  # cancelled: the process has ended
        self._answers.pop(number, None)
        return self.stats


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


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
        settled: no frame is on its way to one of the places of these numbers.
    """

    def __init__(
        self,
        launch: Launch,
        places: list[Place],
        taken: Callable[[int], int],
        distributed: bool = False,
        settled: Callable[[set[int]], bool] = lambda numbers: True,
    ) -> None:
        self.launch = launch
        self._settled = settled
        self.processes = [WorkerProcess(launch, place, taken) for place in places]
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
        lives = [asyncio.create_task(one.live(), name=one.name) for one in self.workers]
        return lives if self.distributor is None else [*lives, first]

    async def _watch(self, lives: list[asyncio.Task[int]]) -> list[int]:
        """Waits for all; what did not begin, or has nothing to read any more, ends the others."""
        waiting, of = set(lives), self.processes[-len(lives) :]
        ending: asyncio.Task[None] | None = None
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(self._ends_all(one, life) for one, life in zip(of, lives, strict=True)):
                self.stop()
            elif self.distributor is not None and lives[-1].done() and ending is None:
                ending = asyncio.create_task(self._finish(dict(zip(of, lives, strict=True))))
        if ending is not None:
            ending.cancel()
        return [life.result() for life in lives]

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
        while True:
            await asyncio.sleep(LISTEN)
            await self.stats()

    def _judged(self, statuses: list[int]) -> int:
        """What failed is said; the exit status of all."""
        for worker, status in zip(self.processes[-len(statuses) :], statuses, strict=True):
            if worker.failure and not worker.begun:
                log.error("%s", worker.failure)
                return 2
            explained = worker._stopping or worker.source_failed or worker.output_gone
            if status != 0 and worker.begun and not explained:
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
        """Of all workers that said what they came to, and of those killed before them."""
        said = [w.summary for w in self.workers if w.summary is not None]
        found = merged(said + [summary_of(w.past) for w in self.workers if w.restarts])
        if self.distributor is None:
            return found
        before = self.distributor.past.dropped + self.distributor.stats.dropped
        last = self.distributor.summary
        failed = last is not None and last.failed
        return attrs.evolve(
            found,
            dropped=found.dropped + before,
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
