"""One place of a supervisor's, and the processes that stand there one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

from aiomos._control import Channel, Message
from aiomos._launch import Launch, Place
from aiomos._metrics import WorkerStats, sum_of
from aiomos._remains import stats_of_dead
from aiomos._summary import Summary
from aiomos._tallies import Tallies

if TYPE_CHECKING:
    from aiomos._engine.ledger import Ledger, Noted

log = logging.getLogger("aiomos")

#: Seconds before a worker that ended is started again: at first, and at the most.
BACK_OFF, BACK_OFF_MOST = 0.1, 10.0
#: A worker that lived for so many seconds begins with the first again.
STEADY = 5.0
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
        past: of those before it together.
    """

    def __init__(
        self,
        launch: Launch,
        place: Place,
        tallies: Tallies,
        ledger: Ledger | None,
        recover: Callable[[WorkerProcess], Awaitable[None]],
        module: str = "aiomos._worker",
    ) -> None:
        self.module = module
        self._recover = recover
        self.launch = launch
        self.place = place
        self.name = f"worker {place.number}"
        self._tallies = tallies
        self._ledger = ledger
        self.pid: int | None = None
        self.ready = asyncio.Event()
        self.restarts = 0
        self.summary: Summary | None = None
        self.stats = WorkerStats(number=place.number)
        self.past = WorkerStats(number=place.number)  # of those before it
        self.failure: str | None = None  # why it did not begin
        self.over = False  # no process follows the last one
        self.captured = False  # a distributor: its source is a capture
        self._gone: set[int] = set()  # a distributor: workers that take nothing any more
        self._recovering: dict[int, asyncio.Future[bool]] = {}
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
        try:
            return await self._live()
        finally:
            self.over = True
            self._forget_questions()

    async def _live(self) -> int:
        delay = BACK_OFF
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._one()
            if status == 0 or self._stopping or not self._may_start_again():
                if status != 0 and not self.begun and self.failure is None:
                    log.error("%s %s before it began", self, why_ended(status))
                if status != 0 and self.begun and self.summary is None and self.launch.live:
                    self._bury()  # nobody comes after it, but what it did counts
                return status
            if loop.time() - began >= STEADY:
                delay = BACK_OFF
            self.restarts += 1
            self._bury()
            log.warning(
                "%s %s; another one in %g s", self, self.failure or why_ended(status), delay
            )
            await self._recover(self)
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
            self._serving = False
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

    def forget(self, worker: int) -> None:
        """A distributor: nobody takes this worker's frames any more."""
        self._gone.add(worker)
        if self._channel is not None:
            self._channel.send("gone", worker=worker)

    def finish(self) -> None:
        """No more frames will come: it, or its successor, takes those there are, and ends."""
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
            self.captured = message.get("captured", False)
            self.ready.set()
            for worker in self._gone:
                self.forget(worker)
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
        elif kind == "recovered":
            self._recovering.pop(message["worker"]).set_result(True)
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
        for waiting in self._recovering.values():
            waiting.set_result(False)
        self._recovering.clear()

    async def take_back(self, worker: int) -> bool:
        """A distributor takes back what a dead worker held; False: it has ended, and did not.

        Asked for once of each process: what it did late would hit the worker's successor.
        """
        while not self.over:
            await self._present()
            if self._channel is None or self.over:
                continue
            answer = asyncio.get_running_loop().create_future()
            self._recovering[worker] = answer
            self._channel.send("recover", worker=worker)
            if await answer:
                return True
        return False

    async def _present(self) -> None:
        """Until a process serves, or none will any more."""
        while not (self._serving or self.over):
            await asyncio.sleep(BACK_OFF / 4)

    def _bury(self) -> None:
        """What a process that was killed has counted goes to that of those before it."""
        number, distributes = self.place.number, self.place.distributes
        taken = self._tallies.taken(number) - _frames(self.past)
        given = self._tallies.given(number) - self.past.handed_over if distributes else 0
        dead = stats_of_dead(
            self.stats,
            self._last_words(),
            taken=None if self.place.opens and not distributes else taken,
            given=given,
            untold=self._tallies.settle(number),
        )
        self.past = attrs.evolve(sum_of([self.past, dead]), number=number)
        self.stats = WorkerStats(number=number)

    def _last_words(self) -> Noted | None:
        if self._ledger is None:
            return None
        noted = self._ledger.read()
        self._ledger.clear()  # for the next one
        return noted

    async def ask_stats(self) -> WorkerStats:
        """Statistics of this place: of all processes that stood there."""
        await self._ask_process()
        return self.counted()

    def counted(self) -> WorkerStats:
        """The same, as far as is known now."""
        found = sum_of([self.past, self.stats if self.stats.pid else self._nobodys()])
        drops: dict[str, Any] = {**self._tallies.dropped(self.place.number)}
        told = sum(getattr(found, name) for name in drops)
        number, pid = self.place.number, self.pid or 0
        received = found.received - told + sum(drops.values())
        return attrs.evolve(found, number=number, pid=pid, received=received, **drops)

    def dropped_meanwhile(self) -> int:
        """Frames that were dropped and that no process has told of: they were dropped after its
        last word, or while none was there."""
        return self.counted().dropped - self.past.dropped - self.stats.dropped

    def _nobodys(self) -> WorkerStats:
        """What waits while there is no process that could tell of it."""
        number = self.place.number
        waiting = self._tallies.taken(number) + self._tallies.waiting(number) - _frames(self.past)
        return WorkerStats(received=max(waiting, 0), waiting=max(waiting, 0))

    async def _ask_process(self) -> None:
        """Those of the present one; the last known where it does not answer."""
        if self._channel is None or self.pid is None or not self._serving:
            return
        self._asked = number = self._asked + 1
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._channel.send("stats", id=number)
        await asyncio.wait([answer], timeout=ANSWER)  # cancelled: the process has ended
        self._answers.pop(number, None)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _frames(stats: WorkerStats) -> int:
    """Frames that were taken from the source."""
    return stats.received - stats.dropped


def why_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"
