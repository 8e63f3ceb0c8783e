"""Conversations through an app: what two ends say (craft.Talk), and what a handler made of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from craft import MILLISECOND, SECOND, START, Talk

import aiomos
from aiomos._engine.source import read_all

#: Both ways of running handlers. A test that takes `tasks` hands it on to `play`.
both_tasks = pytest.mark.parametrize("tasks", ["engine", "asyncio"])

Script = Callable[[Talk], object]
NewLoop = Callable[[], asyncio.AbstractEventLoop]

#: Loops of other people's, by name.
LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
#: What `play` runs on: the project's own loop, or, when a whole run is to be seen there, another.
LOOP = os.environ.get("AIOMOS_LOOP") or "replay"


class Tape:
    """Frames with their times, of one conversation or several."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, int]] = []

    def add(self, raw: bytes, time_ns: int) -> None:
        self.frames.append((raw, time_ns))

    def talk(self, script: Script, **fields: Any) -> Talk:
        """Records a conversation; without its own port it is the client's next one."""
        talk = Talk(self.add, **fields)
        script(talk)
        return talk

    def talks(self, scripts: Iterable[Script]) -> None:
        """Conversations at the same time, each from a client port of its own, from 40000 on."""
        for number, script in enumerate(scripts):
            self.talk(script, client=("10.0.0.1", 40000 + number), at=START + number * 1000)

    def in_order(self) -> list[tuple[bytes, int]]:
        return sorted(self.frames, key=lambda frame: frame[1])

    def source(self, **options: Any) -> aiomos.MemorySource:
        source = aiomos.MemorySource(self.in_order(), **options)
        source.finish()
        return source

    def write(self, path: Path) -> Path:
        format = "pcapng" if path.suffix == ".pcapng" else "pcap-ns"
        with aiomos.Writer(path, format=format) as writer:
            for frame in self.in_order():
                writer.write(frame)
        return path


def tape_of(*scripts: Script) -> Tape:
    tape = Tape()
    tape.talks(scripts)
    return tape


def play(app: Any, *scripts: Script, tasks: str = "engine", **options: Any) -> aiomos.Summary:
    """Runs an app, or one handler, over conversations, on the loop that AIOMOS_LOOP names."""
    source = tape_of(*scripts).source()
    if LOOP == "replay":
        return aiomos.run(app, source, tasks=tasks, **options)
    return attached(app, source, LOOPS[LOOP], tasks=tasks, **options)


def attached(app: Any, source: Any, new_loop: NewLoop, **options: Any) -> aiomos.Summary:
    """Runs an app on a loop that is not the project's own, as a program that has one does."""

    async def serve() -> aiomos.Summary:
        async with aiomos.Engine(source, **options) as engine:
            return await engine.serve(app)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(serve())


class Notes(list[Any]):
    """What handlers noted, in order; `take` notes how an awaitable came out."""

    #: Of the run, when it is over.
    summary: aiomos.Summary

    async def take(self, awaitable: Any) -> None:
        try:
            self.append(await awaitable)
        except Exception as error:
            self.append(error)


def said(error: BaseException) -> tuple[Any, ...]:
    """A gap error as offset, length and cause; any other exception as its class."""
    if isinstance(error, aiomos.GapError):
        return error.offset, error.length, error.cause
    return (type(error),)


def whole(client: bytes = b"", server: bytes = b"") -> Script:
    """A connection from SYN to FIN in which each end says one thing."""

    def script(t: Talk) -> None:
        t.handshake()
        for side, data in enumerate((client, server)):
            for at in range(0, len(data), 1400):
                t.say(side, 0x10, data[at : at + 1400])
        t.close()

    return script


def by_turns(*words: bytes, end: bool = True) -> Script:
    """Client and server speak in turn, a segment each."""

    def script(t: Talk) -> None:
        t.handshake()
        for number, word in enumerate(words):
            t.say(number % 2, 0x10, word)
        if end:
            t.close()

    return script


def frames_of(path: Path) -> list[tuple[bytes, int]]:
    """Bytes and times of the frames in a capture."""
    with aiomos.open_files(path) as source:
        return [(frame.data, frame.time_ns) for frame in read_all(source)]


def aiomos_command(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs the command line; its output as bytes."""
    command = [sys.executable, "-m", "aiomos.cli", *map(str, args)]
    options = {"capture_output": True, "timeout": 60} | options
    return subprocess.run(command, check=False, **options)


async def quiet(awaitable: Awaitable[Any]) -> Any:
    """What comes within half a second of the loop's clock, or "late"."""
    try:
        return await asyncio.wait_for(awaitable, 0.5)
    except TimeoutError:
        return "late"


async def pause(seconds: float) -> None:
    """Waits on the loop's clock."""
    await asyncio.sleep(seconds)


__all__ = [
    "MILLISECOND",
    "SECOND",
    "START",
    "Notes",
    "Script",
    "Tape",
    "aiomos_command",
    "both_tasks",
    "by_turns",
    "frames_of",
    "pause",
    "play",
    "quiet",
    "said",
    "tape_of",
    "whole",
]
