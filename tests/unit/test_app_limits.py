"""Bounds as handlers meet them: eviction, memory, and what usage() says of both."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import aiomos
from aiomos.testing import START, Conversation, client, run, server

sys.path.append(str(Path(__file__).parents[1]))
from kit import Notes, both_tasks, said

HANDSHAKE = Conversation().handshake()


def second_flow_later(first, seconds=10):
    """Two flows; the second begins so long after the first."""
    return first, Conversation(client=("10.0.0.2", 40000), start=START + seconds).handshake()


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

    first = Conversation().handshake().data(client, b"abcdef")
    summary = run(app, *second_flow_later(first), tasks=tasks, max_flows=1).summary
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
        while await flow.client.read(1000):
            pass

    first = Conversation().handshake().data(client, b"x")
    result = run(app, *second_flow_later(first), tasks=tasks, max_flows=1)
    assert result.flows[0].close_reason == "EVICTED"
    assert result.failures == ()
    assert result.summary.counters["evicted_idle"] == 1


@both_tasks
def test_syn_flood_starts_no_handler(tasks):
    app = aiomos.App()
    started = []

    @app.tcp()
    async def handler(flow):
        started.append(flow.client.port)
        await flow.closed()

    flood = [
        Conversation(client=(f"10.1.{n >> 8}.{n & 255}", 1024 + n), start=START + n / 1e6).syn()
        for n in range(2000)
    ]
    result = run(app, *flood, HANDSHAKE, tasks=tasks, max_embryonic=100, max_flows=200)
    summary = result.summary
    assert started == [40000]
    assert summary.handlers_started == 1
    assert summary.counters["evicted_embryonic"] >= 1900


def test_python_objects_are_charged_while_they_live():
    app = aiomos.App()
    held = []
    talks = [Conversation(client=("10.0.0.1", 40000 + n)).handshake() for n in range(10)]
    frames = sorted((frame for talk in talks for frame in talk), key=lambda frame: frame.time_ns)
    engine = aiomos.Engine(aiomos.MemorySource(frames))

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

    talks = [Conversation(client=("10.0.0.1", 40000 + n)).handshake() for n in range(20)]
    for talk in talks:
        for _ in range(40):
            talk.data(client, b"h" * 1400).ack(server)
        talk.close()
    result = run(app, *talks, memory=1 << 19)
    assert result.summary.counters["shed_reader_bytes"] > 0
    assert set(gaps) == {"memory"}
