"""A connection that is over leaves nothing behind, whatever its handler did."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, START, SYN
from kit import Tape, both_tasks, by_turns, tape_of, whole

import aiomos

pytestmark = both_tasks


SCRIPTS = {
    "fin": by_turns(b"abc", b"xyz"),
    "open": by_turns(b"abc", b"xyz", end=False),
    "half": lambda t: (t.handshake(), t.c(b"a"), t.c(flags=FIN | ACK)),
    "reset": lambda t: (t.handshake(), t.c(b"a"), t.s(flags=RST | ACK)),
    "syn": lambda t: t.c(flags=SYN),
    "hole": lambda t: (t.handshake(), t.skip(CLIENT, 9), t.c(b"abc"), t.s(ack=0)),
    "midstream": lambda t: (t.skip(CLIENT, 9), t.c(b"abc"), t.s(b"x")),
}
HANDLERS = {}


def a_handler(function):
    HANDLERS[function.__name__] = function
    return function


@a_handler
async def reads(flow):
    await asyncio.gather(flow.client.read(), flow.server.read(), return_exceptions=True)


@a_handler
async def returns(flow):
    pass


@a_handler
async def raises(flow):
    raise LookupError


@a_handler
async def never_ends(flow):
    await asyncio.Event().wait()


@a_handler
async def waits_for_its_end(flow):
    await flow.closed()


@a_handler
async def keeps_itself(flow):
    flow.context = [flow, flow.client, asyncio.current_task()]
    await flow.client.read(1)


@a_handler
async def peeks(flow):
    await flow.client.peek(1000)
    await flow.server.peek(1000)


@pytest.mark.parametrize("start", ["syn", "established"])
@pytest.mark.parametrize("name", HANDLERS)
def test_run_over_every_kind_of_end_leaves_nothing_behind(tasks, name, start, caplog):
    app = aiomos.App()
    begun = []

    @app.tcp(start=start)
    async def handler(flow):
        begun.append(flow.id)
        await HANDLERS[name](flow)

    async def main():
        tape = tape_of(*SCRIPTS.values())
        async with aiomos.Engine(tape.source(), tasks=tasks) as engine:
            await engine.serve(app)
            return engine.core.usage(), engine._pump.queue.alive, engine._alive()

    usage, alive, running = asyncio.run(main())
    gc.collect()
    assert (alive, running) == (0, 0)
    assert (usage["blocks"], usage["buffer_bytes"]) == (0, 0)
    assert begun


class Marked(aiomos.Flow):
    """A flow that can be watched."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("name", ["reads", "returns", "raises", "peeks", "waits_for_its_end"])
def test_flow_objects_go_by_reference_count_alone(tasks, name, monkeypatch):
    monkeypatch.setattr(aiomos.Engine, "_flow_class", Marked)
    monkeypatch.setattr(logging.getLogger("aiomos"), "disabled", True)  # it keeps tracebacks
    alive = weakref.WeakSet()
    most = 0

    async def handler(flow):
        nonlocal most
        alive.add(flow)
        most = max(most, len(alive))
        try:
            await HANDLERS[name](flow)
        finally:
            del flow

    gc.collect()
    gc.disable()
    try:
        tape = Tape()
        for number in range(50):
            tape.talk(
                by_turns(b"abc", b"xyz"),
                client=("10.0.0.1", 40000 + number),
                at=START + number * 1_000_000_000,
            )
        aiomos.run(handler, tape.source(), tasks=tasks, burst=1)
        left = len(alive)
    finally:
        gc.enable()
    assert 1 <= most <= 3
    assert left == 0


def test_expired_flow_entries_are_given_back(tasks):
    async def main():
        tape = Tape()
        for number in range(20):
            tape.talk(whole(b"abc"), client=("10.0.0.1", 40000 + number))
        tape.talk(whole(b"abc"), at=START + 4000 * 1_000_000_000)
        async with aiomos.Engine(tape.source(), tasks=tasks) as engine:
            await engine.serve(returns)
            return engine.core.usage()

    usage = asyncio.run(main())
    assert usage["flow_entries"] <= 1
    assert usage["flows"] == usage["flow_entries"]
