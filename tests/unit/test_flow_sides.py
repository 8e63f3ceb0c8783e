"""One side of a connection followed, or stopped: what is left of the other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, by_turns, play

import aiomos

pytestmark = both_tasks


@pytest.mark.replay_loop
def test_slow_handler_beside_a_quick_one_loses_only_its_own_bytes(tasks):
    app = aiomos.App()
    notes = {}

    @app.tcp(limit=1000)
    async def quick(flow):
        notes["quick"] = len(await flow.client.read())

    @app.tcp(limit=1000, on_full="stop")
    async def stops(flow):
        await flow.client.read(1)
        await asyncio.sleep(100)
        notes["stops"] = await flow.client.read(10)

    def script(t):
        t.handshake()
        for _ in range(100):
            t.c(b"x" * 500)
            t.s()
        t.close()

    summary = play(app, script, tasks=tasks, linger=200)
    assert notes == {"quick": 50_000, "stops": b""}
    assert summary.counters["slow_reader_bytes"] == 0


@pytest.mark.parametrize("side", ["client", "server"])
def test_side_left_out_is_followed_by_numbers_only(tasks, side):
    app = aiomos.App()
    notes = []

    @app.tcp(sides=side)
    async def handler(flow):
        read, left = (flow.client, flow.server) if side == "client" else (flow.server, flow.client)
        notes.append(await read.read())
        with pytest.raises(aiomos.AppError, match='sides="both"'):
            await left.read()
        notes.append((left.buffered, left.received, left.fin_seen))

    play(app, by_turns(b"abc", b"uvwxyz", b"def"), tasks=tasks, burst=64)
    sent = {"client": (b"abcdef", 6), "server": (b"uvwxyz", 6)}
    assert notes[0] == sent[side][0]
    assert notes[1][0] == 0
    assert notes[1][2]


READS = {
    "read": lambda end: end.read(1),
    "read to the end": lambda end: end.read(),
    "readexactly": lambda end: end.readexactly(1),
    "readline": lambda end: end.readline(),
    "peek": lambda end: end.peek(1),
    "skip": lambda end: end.skip(1),
    "chunks": lambda end: anext(end.chunks()),
}


@pytest.mark.parametrize("call", READS)
def test_side_left_out_is_never_read_as_empty(tasks, call):
    """An end that looks as if it had said nothing would be silently wrong."""
    raised = []

    async def handler(flow):
        try:
            await READS[call](flow.server)
        except aiomos.AppError as error:
            raised.append(error)

    app = aiomos.App()
    app.tcp(sides="client")(handler)
    play(app, by_turns(b"abc", b"uvwxyz", b"def"), tasks=tasks)
    assert len(raised) == 1


def test_turns_of_a_handler_of_one_side_are_refused(tasks):
    raised = []
    app = aiomos.App()

    @app.tcp(sides="client")
    async def handler(flow):
        try:
            await anext(flow.messages())
        except aiomos.AppError as error:
            raised.append(error)

    play(app, by_turns(b"abc", b"uvwxyz", b"def"), tasks=tasks)
    assert len(raised) == 1


def test_side_that_was_stopped_reads_as_ended(tasks):
    notes = []
    app = aiomos.App()

    @app.tcp()
    async def handler(flow):
        flow.server.stop()
        notes.append(await flow.server.read())

    play(app, by_turns(b"abc", b"uvwxyz", b"def"), tasks=tasks)
    assert notes == [b""]
