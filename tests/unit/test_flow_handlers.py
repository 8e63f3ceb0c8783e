"""Handlers that share a connection, end early, or raise."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, RST
from kit import both_tasks, by_turns, play, tape_of

import aiomos

pytestmark = both_tasks


# ---- several handlers on one flow ---------------------------------------------------------------


@pytest.mark.replay_loop
def test_two_handlers_on_one_flow_read_the_same_bytes_each_with_its_own_cursor(tasks):
    app = aiomos.App()
    notes = {}

    @app.tcp()
    async def at_once(flow):
        flow.context = "first"
        notes["first"] = await flow.client.read(), flow.client.offset, flow.context

    @app.tcp()
    async def later(flow):
        await asyncio.sleep(2)
        notes["second"] = await flow.client.read(), flow.client.offset, flow.context

    @app.tcp()
    async def in_part(flow):
        notes["third"] = await flow.client.readexactly(2), flow.client.offset, flow.context

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.rest(3)
        t.c(b"def")
        t.close()

    summary = play(app, script, tasks=tasks, burst=1)
    assert notes == {
        "first": (b"abcdef", 6, "first"),
        "second": (b"abcdef", 6, None),
        "third": (b"ab", 2, None),
    }
    assert summary.handlers_started == 3


def test_handler_that_fails_leaves_the_others_of_its_flow_alone(tasks, caplog):
    app = aiomos.App()
    notes = []

    @app.tcp()
    async def fails(flow):
        await flow.client.readexactly(1)
        raise LookupError("by intent")

    @app.tcp()
    async def reads(flow):
        notes.append(await flow.client.read())

    summary = play(app, by_turns(b"abc", b"x", b"def"), tasks=tasks, burst=1)
    assert notes == [b"abcdef"]
    assert summary.handler_errors == 1


# ---- ending early -------------------------------------------------------------------------------


def usage_after(app, script, *, tasks, **options):
    """What the engine holds while the flows still stand in its table."""

    async def main():
        async with aiomos.Engine(tape_of(script).source(), tasks=tasks, **options) as engine:
            summary = await engine.serve(app)
            return engine.core.usage(), summary

    return asyncio.run(main())


def test_handler_that_ends_early_leaves_nothing_buffered(tasks):
    async def handler(flow):
        await flow.client.readexactly(10)

    def script(t):
        t.handshake()
        for _ in range(100):
            t.c(b"x" * 1000)
            t.s()

    usage, summary = usage_after(handler, script, tasks=tasks)
    assert (usage["buffer_bytes"], usage["blocks"]) == (0, 0)
    assert usage["buffer_bytes_peak"] < 200_000
    assert summary.counters["slow_reader_bytes"] == 0


def test_bypass_leaves_nothing_buffered_while_the_handler_goes_on(tasks):
    notes = []

    async def handler(flow):
        await flow.client.readexactly(10)
        flow.bypass()
        await flow.closed()
        notes.append((flow.client.buffered, await flow.client.read(10), await flow.server.read()))

    def script(t):
        t.handshake()
        for _ in range(100):
            t.c(b"x" * 1000)
            t.s()
        t.close()

    usage, summary = usage_after(handler, script, tasks=tasks, burst=7)
    assert notes == [(0, b"", b"")]
    assert usage["buffer_bytes_peak"] < 100_000
    assert summary.counters["slow_reader_bytes"] == 0


def test_accept_is_allowed_everywhere(tasks):
    notes = []

    async def handler(flow):
        flow.accept()
        notes.append(await flow.client.read())

    play(handler, by_turns(b"abc"), tasks=tasks)
    assert notes == [b"abc"]


# ---- handlers that raise ------------------------------------------------------------------------


def test_handler_that_raises_is_logged_with_flow_and_offsets_and_counted(tasks, caplog):
    notes = []

    async def breaks(flow):
        if flow.client.port == 40000:
            await flow.client.readexactly(2)
            await flow.server.readexactly(1)
            raise LookupError("by intent")
        notes.append(await flow.client.read())

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(breaks, by_turns(b"abc", b"xyz"), by_turns(b"def"), tasks=tasks)
    assert notes == [b"def"]
    assert summary.handler_errors == 1
    (record,) = caplog.records
    text = record.getMessage()
    for part in ("breaks", "<Flow ", "10.0.0.1:40000 > 10.0.0.2:80", "offset 2", "offset 1"):
        assert part in text
    assert isinstance(record.exc_info[1], LookupError)


def test_end_of_the_flow_not_caught_is_no_failure_of_the_handler(tasks, caplog):
    async def handler(flow):
        while await flow.client.read(100):
            pass

    def script(t):
        t.handshake()
        t.c(b"abc")
        t.s(flags=RST | ACK)

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(handler, script, tasks=tasks)
    assert (summary.handler_errors, caplog.records) == (0, [])


def test_gap_not_caught_is_a_failure_of_the_handler(tasks, caplog):
    async def handler(flow):
        while await flow.client.read(100):
            pass

    def script(t):
        t.handshake()
        t.skip(CLIENT, 5)
        t.c(b"abc")
        t.s()
        t.rest(1)
        t.close()

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(handler, script, tasks=tasks)
    assert summary.handler_errors == 1
    assert isinstance(caplog.records[0].exc_info[1], aiomos.GapError)


def test_handler_cancelled_by_itself_is_no_failure(tasks, caplog):
    async def handler(flow):
        asyncio.current_task().cancel()
        await flow.client.read()

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(handler, by_turns(b"abc"), tasks=tasks)
    assert (summary.handler_errors, caplog.records) == (0, [])


def test_handler_that_returns_no_coroutine_is_refused(tasks):
    app = aiomos.App()
    with pytest.raises(aiomos.AppError, match="no coroutine function"):
        app.tcp()(lambda flow: None)
