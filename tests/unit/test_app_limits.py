"""Bounds as handlers meet them: eviction, memory, and what usage() says of both."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import aiomos

sys.path.append(str(Path(__file__).parents[1]))
from craft import SECOND, SYN
from kit import START, Notes, Tape, both_tasks, said


def second_flow_later(tape, first, seconds=10):
    """Two flows; the second begins so long after the first."""
    tape.talk(first, client=("10.0.0.1", 40000))
    later = START + seconds * SECOND
    tape.talk(lambda t: t.handshake(), client=("10.0.0.2", 40000), at=later)


@both_tasks
def test_flow_evicted_reader_gets_its_bytes_then_flow_evicted(tasks):
    app = aiomos.App()
    notes = Notes()

    @app.tcp("host 10.0.0.1")
    async def handler(flow):
        await notes.take(flow.client.read(3))
        await notes.take(flow.client.read(100))
        await notes.take(flow.client.read(100))
        notes.append(await flow.closed())

    def first(t):
        t.handshake()
        t.c(b"abcdef")

    tape = Tape()
    second_flow_later(tape, first)
    summary = aiomos.run(app, tape.source(), tasks=tasks, max_flows=1)
    assert notes[:2] == [b"abc", b"def"]
    assert said(notes[2]) == (aiomos.FlowEvicted,)
    assert notes[3] is aiomos.CloseReason.EVICTED
    assert summary.counters["evicted_idle"] == 1
    assert "1 flows given up for others" in str(summary)


@both_tasks
def test_flow_evicted_is_no_failure_of_its_handler(tasks):
    app = aiomos.App()

    @app.tcp()
    async def handler(flow):
        await flow.client.readexactly(1000)

    tape = Tape()
    second_flow_later(tape, lambda t: (t.handshake(), t.c(b"x")))
    summary = aiomos.run(app, tape.source(), tasks=tasks, max_flows=1)
    assert summary.counters["evicted_idle"] == 1


@both_tasks
def test_syn_flood_starts_no_handler(tasks):
    app = aiomos.App()
    started = []

    @app.tcp()
    async def handler(flow):
        started.append(flow.client.port)
        await flow.closed()

    tape = Tape()
    for number in range(2000):
        ends = (f"10.1.{number >> 8}.{number & 255}", 1024 + number)
        tape.talk(lambda t: t.c(flags=SYN), client=ends, at=START + number * 1000)
    tape.talk(lambda t: t.handshake(), client=("10.0.0.1", 40000))
    source = tape.source()
    summary = aiomos.run(app, source, tasks=tasks, max_embryonic=100, max_flows=200)
    assert started == [40000]
    assert summary.handlers_started == 1
    assert summary.counters["evicted_embryonic"] >= 1900


def test_python_objects_are_charged_while_they_live():
    app = aiomos.App()
    held = []
    tape = Tape()
    for number in range(10):
        tape.talk(lambda t: t.handshake(), client=("10.0.0.1", 40000 + number))
    source = tape.source()
    engine = aiomos.Engine(source)

    @app.tcp()
    async def handler(flow):
        sizes = [sys.getsizeof(thing) for thing in (flow, flow.client, flow.server)]
        held.append((engine.core.usage()["object_bytes"], sum(sizes)))
        await flow.closed()

    asyncio.run(engine.serve(app))
    charged = [bytes for bytes, _ in held]
    assert charged == [charged[-1]] * 10  # one burst: all begin before the first is stepped
    assert held[0][1] < charged[-1] / 10 < 4 * held[0][1]
    del held[:]
    gc.collect()
    assert engine.core.usage()["object_bytes"] == 0


def test_memory_short_slow_handlers_lose_bytes_as_a_memory_gap():
    app = aiomos.App()
    gaps = []

    @app.tcp(limit=1 << 20)
    async def slow(flow):
        await flow.client.peek(1)
        await flow.closed()
        while True:
            try:
                if not await flow.client.read(1 << 20):
                    break
            except aiomos.GapError as error:
                gaps.append(error.cause)

    def script(t):
        t.handshake()
        for _ in range(40):
            t.c(b"h" * 1400)
            t.s()
        t.close()

    tape = Tape()
    for number in range(20):
        tape.talk(script, client=("10.0.0.1", 40000 + number), at=START + number * 1000)
    summary = aiomos.run(app, tape.source(), memory=1 << 19)
    assert summary.counters["shed_reader_bytes"] > 0
    assert set(gaps) == {"memory"}
    assert summary.handler_errors == 0
