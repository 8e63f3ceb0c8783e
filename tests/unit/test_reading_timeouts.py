"""Reads and waits with a time of their own, and reads that were given up."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, quiet
from readings import noted, slow

import aiomos
from aiomos._engine.task import Parking

pytestmark = both_tasks


# ---- timeout= -----------------------------------------------------------------------------------

LATE = {
    "read": lambda end, timeout: end.read(100, timeout=timeout),
    "read to the end": lambda end, timeout: end.read(timeout=timeout),
    "readexactly": lambda end, timeout: end.readexactly(3, timeout=timeout),
    "readuntil": lambda end, timeout: end.readuntil(b"c", timeout=timeout),
    "readline": lambda end, timeout: end.readline(timeout=timeout),
    "peek": lambda end, timeout: end.peek(3, timeout=timeout),
    "skip": lambda end, timeout: end.skip(3, timeout=timeout),
    "lines": lambda end, timeout: anext(end.lines(timeout=timeout)),
    "chunks": lambda end, timeout: anext(end.chunks(timeout=timeout)),
}


@pytest.mark.replay_loop
@pytest.mark.parametrize("call", LATE)
def test_timeout_passed_raises_at_its_time_and_takes_nothing(tasks, call):
    async def handler(flow, notes):
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await LATE[call](flow.client, 0.25)
        notes.append(round(asyncio.get_running_loop().time() - began, 3))
        notes.append(await flow.client.readexactly(6))

    notes = noted(handler, slow(b"abcdef"), tasks=tasks)
    assert notes == [0.25, b"abcdef"]


@pytest.mark.parametrize("call", LATE)
def test_timeout_not_reached_changes_nothing(tasks, call):
    async def plain(flow, notes):
        notes.append(await LATE[call](flow.client, None))

    async def timed(flow, notes):
        notes.append(await LATE[call](flow.client, 30))

    script = slow(b"abc\n")
    expected = noted(plain, script, tasks=tasks)
    assert noted(timed, script, tasks=tasks) == expected
    assert len(expected) == 1


def test_timeout_error_is_no_flow_timeout(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError, match=r"readexactly\(\)") as caught:
            await flow.client.readexactly(3, timeout=0.25)
        notes.append(isinstance(caught.value, aiomos.FlowTimeout))

    assert noted(handler, slow(b"abc"), tasks=tasks) == [False]


@pytest.mark.parametrize("seconds", [0, -1])
def test_timeout_of_zero_takes_what_is_there_or_raises_at_once(tasks, seconds):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.readexactly(4, timeout=seconds)
        await flow.client.peek(4)
        notes.append(await flow.client.readexactly(4, timeout=seconds))

    assert noted(handler, slow(b"four"), tasks=tasks) == [b"four"]


def test_timeout_that_is_no_number_is_a_value_error(tasks):
    async def handler(flow, notes):
        with pytest.raises(ValueError, match="seconds"):
            await flow.client.read(1, timeout=float("nan"))

    assert noted(handler, slow(b"x"), tasks=tasks) == []


def test_timeout_and_cancellation_from_outside_leave_no_timer_behind(tasks):
    """A timer that stayed would wake the next, unlimited wait."""

    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await flow.client.read(10, timeout=0.3)
        notes.append(await flow.client.read(10))
        notes.append(await flow.client.read(10))

    assert noted(handler, slow(b"one", b"two"), tasks=tasks) == [b"one", b"two"]


def test_bytes_that_come_at_the_very_end_of_the_time_are_not_lost(tasks):
    """Skip passes what came in time, and the rest can be read."""

    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.client.skip(8, timeout=1.5)
        notes.append(flow.client.offset)
        notes.append(await flow.client.read())

    assert noted(handler, slow(b"abcd", b"efgh"), tasks=tasks) == [4, b"efgh"]


@pytest.mark.parametrize("wait", ["closed", "wait"])
def test_flow_waits_take_a_timeout_too(tasks, wait):
    async def handler(flow, notes):
        call = flow.closed if wait == "closed" else lambda **how: flow.wait(aiomos.FinSeen, **how)
        with pytest.raises(TimeoutError):
            await call(timeout=0.5)
        notes.append(flow.is_closed)
        came = await call(timeout=30)
        notes.append(came if wait == "closed" else type(came))

    last = aiomos.CloseReason.FIN if wait == "closed" else aiomos.FinSeen
    assert noted(handler, slow(b"x"), tasks=tasks) == [False, last]


def test_established_takes_a_timeout(tasks):
    async def handler(flow, notes):
        with pytest.raises(TimeoutError):
            await flow.established(timeout=0.5)
        await flow.established(timeout=5)
        notes.append(flow.is_established)

    def script(t):
        t.c(flags=0x02)
        t.rest(1)
        t.s(flags=0x12)
        t.c()
        t.close()

    assert noted(handler, script, tasks=tasks, start="syn") == [True]


# ---- sleep --------------------------------------------------------------------------------------


@pytest.mark.replay_loop
def test_flow_sleep_takes_capture_time(tasks):
    async def handler(flow, notes):
        loop = asyncio.get_running_loop()
        began = loop.time()
        await flow.sleep(0.75)
        notes.append(round(loop.time() - began, 3))
        await flow.sleep(0)
        notes.append(flow.client.buffered)

    assert noted(handler, slow(b"x"), tasks=tasks) == [0.75, 0]


# ---- what was given up --------------------------------------------------------------------------


@pytest.mark.replay_loop
def test_read_to_the_end_given_up_gives_nothing_of_it_to_the_next(tasks):
    async def handler(flow, notes):
        flow.client.configure(limit=512)
        notes.append(await quiet(flow.client.read()))
        notes.append(await flow.client.read(50))
        notes.append(await flow.client.read())

    notes = noted(handler, slow(b"a" * 1000, b"b" * 100, b"c" * 10, pause=0.4), tasks=tasks)
    assert notes == ["late", b"b" * 50, b"b" * 50 + b"c" * 10]


@pytest.mark.replay_loop
def test_read_of_an_ordinary_task_cancelled_the_handler_reads_on(tasks):
    async def handler(flow, notes):
        notes.append(await asyncio.create_task(quiet(flow.client.read(10))))
        notes.append(await flow.client.read(10))

    assert noted(handler, slow(b"x" * 10), tasks=tasks) == ["late", b"x" * 10]


def test_waits_for_the_end_of_a_flow_given_up_leave_nothing(tasks):
    def parkings():
        return sum(type(thing) is Parking for thing in gc.get_objects())

    async def handler(flow, notes):
        before = parkings()
        for _ in range(100):
            await quiet(flow.closed(timeout=0.01))
        notes.append(parkings() - before < 10)

    assert noted(handler, slow(b"x", pause=100), tasks=tasks) == [True]
