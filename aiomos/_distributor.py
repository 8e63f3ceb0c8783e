"""The software distributor: one process that receives, and gives each worker its flows' frames.

``python -m aiomos._distributor FD``, started by the supervisor like a worker. It runs no user
code, and of the engine the decoder and the flow's hash.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable

import attrs

from aiomos._control import Channel, Message, leave_signals_alone, refuse, told
from aiomos._dpdkplace import attached_fan
from aiomos._engine.distributor import Distributor, FanDistributor
from aiomos._engine.errors import AiomosError
from aiomos._engine.options import check_options
from aiomos._launch import Launch, Place
from aiomos._metrics import WorkerStats
from aiomos._sources import attach_rings, opened_place
from aiomos._summary import Summary

log = logging.getLogger("aiomos")

IDLE_POLL = 0.002  # seconds between looks at a source without a descriptor
LAST_WORDS = 2.0  # seconds for a last message to be taken


class Distributing:
    """Moves frames on the running loop until the source ends or somebody says stop."""

    def __init__(
        self,
        distributor: Distributor,
        end: socket.socket,
        number: int,
        recover: Callable[[int], object] | None = None,
    ) -> None:
        self.distributor = distributor
        self.number = number
        self.recover = recover  # takes back what a dead worker held
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.channel = Channel(end, self.loop, self._heard, self.over.set)
        self._fd = distributor.source.fileno()
        self._handle: asyncio.Handle | None = None

    async def run(self) -> int:
        """From the word "go", when there are workers, until the end; the exit status."""
        self.channel.send("ready", pid=os.getpid())
        await self.over.wait()
        if self._fd >= 0:
            self.loop.remove_reader(self._fd)
        if self._handle is not None:
            self._handle.cancel()
        return self.say_goodbye()

    def _look(self) -> None:
        """One burst; then at once another, or none until something comes."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        moved = self.distributor.turn()
        if moved < 0:
            self.over.set()
        elif moved > 0:
            self._handle = self.loop.call_soon(self._look)
        elif self._fd < 0:
            self._handle = self.loop.call_later(IDLE_POLL, self._look)

    def _heard(self, message: Message) -> None:
        if self.over.is_set():
            return  # "stop" may come before "go", and the source is closed soon
        if message["kind"] == "stop":
            self.over.set()
        elif message["kind"] == "go":
            if self._fd >= 0:
                self.loop.add_reader(self._fd, self._look)
            self._look()
        elif message["kind"] == "recover":
            assert self.recover is not None
            self.recover(message["worker"])
            self.channel.send("recovered", worker=message["worker"])
        elif message["kind"] == "stats":
            self.channel.send("stats", id=message["id"], stats=attrs.asdict(self.stats()))

    def stats(self) -> WorkerStats:
        """What came, and that it went on to workers."""
        source = self.distributor.source.stats()
        dropped = source.dropped_nic + source.dropped_kernel + source.dropped_ring
        return WorkerStats(
            number=self.number,
            pid=os.getpid(),
            received=source.frames + source.queued + dropped,
            dropped_nic=source.dropped_nic,
            dropped_kernel=source.dropped_kernel,
            dropped_ring=source.dropped_ring,
            waiting=source.queued + source.frames - self.distributor.distributed,
            handed_over=self.distributor.distributed,
        )

    def say_goodbye(self) -> int:
        """What it came to; the exit status."""
        source = self.distributor.source
        summary = Summary(failed=source.result not in (0, -1), message=source.message)
        self.channel.send("done", summary=attrs.asdict(summary), stats=attrs.asdict(self.stats()))
        self.channel.flush(LAST_WORDS)
        return 1 if summary.failed else 0


async def distribute(end: socket.socket, launch: Launch, place: Place) -> int:
    """Opens what the place has, and serves."""
    with opened_place(launch, place) as source:
        decode = {k: v for k, v in launch.engine.items() if k == "decode"}
        decoders = check_options(decode)["decode"]
        if not place.fan:
            copying = Distributor(source, attach_rings(place), decoders)
            return await Distributing(copying, end, place.number).run()
        with attached_fan() as fan:
            handing = FanDistributor(source, fan, place.count, decoders)
            return await Distributing(handing, end, place.number, fan.recover).run()


def main() -> None:
    """The process."""
    import uvloop

    leave_signals_alone()
    end = socket.socket(fileno=int(sys.argv[1]))
    instructions = told(end)
    launch, place = Launch(**instructions["launch"]), Place(**instructions["place"])
    if place.cores:
        os.sched_setaffinity(0, {place.cores[place.number % len(place.cores)]})
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("aiomos: distributor: %(message)s"))
    log.addHandler(handler)
    try:
        status = uvloop.run(distribute(end, launch, place))
    except AiomosError as error:
        status = refuse(end, error)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
