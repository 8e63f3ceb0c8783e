"""Handlers that are slow, never end, fail or block: what becomes of them, of their flow, of others."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import defaultdict
from pathlib import Path

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks

import aiomos
from aiomos import testing
from aiomos.testing import Conversation, client, server

pytestmark = both_tasks

ELEPHANT = 40_000  # port of the client
SLOW = 10.0  # seconds of capture time


def mouse(number):
    """A small conversation with a pause in it, some seconds after the elephant began."""
    talk = Conversation(client=("10.0.0.1", ELEPHANT + number), start=testing.START + number)
    talk.handshake().data(client, b"ask %d\n" % number).data(server, b"wait\n")
    return talk.wait(1.5).data(server, b"answer %d\n" % number).close()


def elephant(megabytes):
    """An upload that takes longer than its slow handler sleeps."""
    talk = Conversation(client=("10.0.0.1", ELEPHANT)).handshake()
    for _ in range(16):
        for _ in range(megabytes):
            talk.data(client, bytes(range(250)) * 250).ack(server)
        talk.wait(1)
    return talk.close()


def recorded(flow):
    """All that is told of a flow, but for the number that it has among others."""
    return attrs.evolve(flow, id=0)


# ---- row 42 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("megabytes", [1, pytest.param(10, marks=pytest.mark.full)])
def test_slow_handler_on_an_elephant_changes_no_record_of_other_flows(megabytes, tasks):
    """Row 42: one counted gap for it; the others' records are those of a run without it."""
    app, gaps, mice = aiomos.App(), [], defaultdict(list)

    @app.tcp()
    async def handler(flow):
        if flow.client.port != ELEPHANT:
            async for turn in flow.messages():
                mice[flow.client.port].append(turn)
            return
        await flow.client.readexactly(1000)
        await asyncio.sleep(SLOW)
        while True:
            try:
                if not await flow.client.read(65536):
                    return
            except aiomos.GapError as gap:
                gaps.append(gap)

    others = [mouse(number) for number in range(1, 11)]
    alone = testing.run(app, *others, tasks=tasks)
    said_alone = dict(mice)
    mice.clear()
    beside = testing.run(app, elephant(megabytes), *others, tasks=tasks)

    assert [gap.cause for gap in gaps] == ["slow_reader"]
    assert beside.summary.counters["slow_reader_bytes"] == gaps[0].length > 400_000 * megabytes
    assert alone.summary.counters["slow_reader_bytes"] == 0
    small = [recorded(flow) for flow in beside.flows if flow.key.client_port != ELEPHANT]
    assert small == [recorded(flow) for flow in alone.flows]
    assert len(small) == 10
    assert mice == said_alone
    assert [len(turns) for turns in mice.values()] == [2] * 10


# ---- row 43 ------------------------------------------------------------------------------------


def beside_a_good_one(bad, tasks, **options):
    """Plays two flows, one with the bad handler; the result, and what the good one read."""
    app, good = aiomos.App(), []

    @app.tcp(f"port {ELEPHANT}")
    async def _(flow):
        await bad(flow)

    @app.tcp()
    async def reads(flow):
        good.append(await flow.client.read())

    traffic = [
        Conversation(client=("10.0.0.1", port)).handshake().data(client, b"hello").close()
        for port in (ELEPHANT, ELEPHANT + 1)
    ]
    result = testing.run(app, *traffic, tasks=tasks, failures="keep", **options)
    assert [flow.close_reason for flow in result.flows] == ["FIN", "FIN"]
    assert good == [b"hello", b"hello"]  # of the bad handler's flow, too
    return result


def test_handler_that_never_returns_is_cancelled_after_the_linger(tasks):
    """Row 43: and its `finally` runs."""
    ends = []

    async def bad(flow):
        loop = asyncio.get_running_loop()
        closed = await flow.closed()
        begin = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append((closed, round(loop.time() - begin, 3)))

    result = beside_a_good_one(bad, tasks, linger=2.5)
    ((reason, seconds),) = ends
    assert reason == "FIN"
    assert seconds >= 2.5
    assert result.failures == ()


def test_handler_that_swallows_its_cancellation_goes_on_and_may_end(tasks, caplog):
    """Row 43: it is asked once; a cancellation is no failure, however it comes out."""
    told = []

    async def bad(flow):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            told.append(asyncio.current_task().cancelling())

    assert beside_a_good_one(bad, tasks).failures == ()
    assert told == [1]
    assert not [text for text in caplog.messages if "abandoned" in text]


def test_handler_that_raises_is_counted_and_its_flow_accounted_for(tasks, caplog):
    """Row 43: reported with the flow and the offsets of both sides."""

    async def bad(flow):
        await flow.client.readexactly(2)
        raise LookupError("by intent")

    with caplog.at_level(logging.ERROR, logger="aiomos"):
        result = beside_a_good_one(bad, tasks)
    (failure,) = result.failures
    assert isinstance(failure.error, LookupError)
    assert result.summary.handler_errors == 1
    (said,) = (text for text in caplog.messages if "failed on <Flow" in text)
    assert "client offset 2, server offset 0" in said
    assert f":{ELEPHANT} > 10.0.0.2:80" in said


def test_task_that_a_handler_leaks_lives_on_and_reads_what_is_left(tasks):
    """Row 43: it is asyncio's own; the end of the run ends it as `asyncio.run` does."""
    told = []

    async def leaked(flow):
        told.append(await flow.closed())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def bad(flow):
        flow.context = asyncio.create_task(leaked(flow))

    assert beside_a_good_one(bad, tasks).failures == ()
    assert told == ["FIN", "cancelled"]


def test_handler_that_blocks_the_core_is_told_of_once(tasks, caplog):
    """Row 43: once, while it blocks, however long it goes on."""

    def stalls():
        return [text for text in caplog.messages if "blocked the core" in text]

    async def bad(flow):
        deadline = time.monotonic() + 30
        while not stalls() and time.monotonic() < deadline:
            time.sleep(0.001)  # noqa: ASYNC251 - the stall
        time.sleep(0.2)  # noqa: ASYNC251 - ten times as long as it takes to be told

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        result = beside_a_good_one(bad, tasks, stall=0.02)
    (said,) = stalls()
    assert f"{__file__}:" in said
    assert "in bad: time.sleep(0.001)" in said
    assert result.summary.stalls == 1
