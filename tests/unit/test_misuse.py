"""Misuse fails at the call, and says what to do instead."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, whole

import aiomos

# ---- a verdict on a tap ------------------------------------------------------------------------

OF_A_FLOW = {
    "flow.drop": lambda flow: flow.drop(),
    "flow.reset": lambda flow: flow.reset("client"),
    "flow.nat": lambda flow: flow.nat(dst=("10.0.0.9", 80)),
    "flow.mirror": lambda flow: flow.mirror("eth1"),
    "endpoint.hold": lambda flow: flow.client.hold(limit=14_000, timeout=0.2),
}


@both_tasks
@pytest.mark.parametrize("verb", OF_A_FLOW)
def test_verdict_on_a_flow_of_a_tap_says_what_can_be_done(verb, tasks):
    raised, read = [], []

    async def handler(flow):
        try:
            OF_A_FLOW[verb](flow)
        except aiomos.VerdictError as error:
            raised.append(str(error))
        read.append(await flow.client.read())

    assert play(handler, whole(b"abc"), tasks=tasks).handler_errors == 0
    (text,) = raised
    assert text.startswith(f"{verb}() is a verdict on a tap")
    assert ("peek()" if verb == "endpoint.hold" else "flow.bypass()") in text
    assert read == [b"abc"]  # and nothing came of it


@both_tasks
@pytest.mark.parametrize("verb", ["replace", "drop"])
def test_verdict_on_bytes_of_a_tap_says_why_not(verb, tasks):
    raised = []

    async def handler(flow):
        async for chunk in flow.client.chunks():
            with pytest.raises(aiomos.VerdictError) as info:
                chunk.replace(b"xyz") if verb == "replace" else chunk.drop()
            raised.append(str(info.value))

    assert play(handler, whole(b"abc"), tasks=tasks).handler_errors == 0
    (text,) = raised
    assert text.startswith(f"chunk.{verb}() is a verdict on a tap, which sees packets that have")


@pytest.mark.parametrize("verb", ["drop", "send"])
def test_verdict_on_a_packet_of_a_tap_says_what_can_be_done(verb):
    app, raised = aiomos.App(), set()

    @app.packet()
    def handler(packet):
        with pytest.raises(aiomos.VerdictError) as info:
            getattr(packet, verb)()
        raised.add(str(info.value))

    assert play(app, whole(b"abc")).handler_errors == 0
    (text,) = raised
    assert text.startswith(f"packet.{verb}() is a verdict on a tap")
    assert "aiomos.Writer" in text


@pytest.mark.parametrize("option", [{"inline": True}, {"hold": "client"}])
def test_handler_declared_inline_is_told_to_leave_that_out(option):
    with pytest.raises(aiomos.ConfigError, match=r"leave them out.*flow\.bypass\(\)"):
        aiomos.App().tcp(**option)


# ---- two readers on one cursor -----------------------------------------------------------------


@both_tasks
@pytest.mark.parametrize("method", ["read", "readline", "readexactly"])
def test_second_reader_of_one_cursor_is_told_of_a_second_handler(method, tasks):
    raised, read = [], []

    async def handler(flow):
        async def first():
            read.append(await flow.client.read())

        reading = asyncio.create_task(first())
        await asyncio.sleep(0)
        try:
            await getattr(flow.client, method)(*([5] if method == "readexactly" else []))
        except RuntimeError as error:
            raised.append(str(error))
        await reading

    assert play(handler, whole(b"abc"), tasks=tasks, burst=1).handler_errors == 0
    (text,) = raised
    assert "() called while another coroutine is already waiting for incoming data: " in text
    assert "declare a second handler, which has a cursor of its own" in text
    assert read == [b"abc"]


# ---- a borrowed packet -------------------------------------------------------------------------


def test_borrowed_packet_used_later_says_what_to_keep():
    app, kept = aiomos.App(), []

    @app.packet()
    def keep(packet):
        kept.append(packet)

    @app.on(aiomos.NewData)
    def keep_too(flow, event, packet):
        kept.append(packet)

    play(app, whole(b"abc"))
    assert len(kept) > 5
    for packet in kept:
        with pytest.raises(RuntimeError, match=r"keep bytes\(packet\), or make the handler async"):
            bytes(packet)


def test_borrowed_packet_looked_at_in_time_stays():
    app, kept = aiomos.App(), []

    @app.packet()
    def keep(packet):
        kept.append((packet, bytes(packet)))

    play(app, whole(b"abc"))
    assert all(bytes(packet) == content for packet, content in kept)


# ---- a handler that is no coroutine function ---------------------------------------------------


def plain(flow):
    """Not async."""


DECLARED = {
    "tcp": lambda app: app.tcp()(plain),
    "udp": lambda app: app.udp()(plain),
    "every": lambda app: app.every(1)(plain),
    "middleware": lambda app: app.middleware(plain),
}


@pytest.mark.parametrize("declared", DECLARED)
def test_plain_function_as_a_handler_is_told_to_write_async(declared):
    with pytest.raises(aiomos.AppError, match=r"@app\.\w+.*write 'async def plain\("):
        DECLARED[declared](aiomos.App())


def test_plain_function_as_an_app_is_told_to_write_async():
    with pytest.raises(aiomos.AppError, match=r"write 'async def plain\(flow\)'"):
        play(plain, whole(b"abc"))


def test_lifespan_that_is_no_generator_is_told_to_yield():
    async def coroutine(app):
        """Without a yield."""

    with pytest.raises(aiomos.AppError, match="with one yield"):
        aiomos.App().lifespan(coroutine)


def test_decorator_without_parentheses_is_told_to_have_them():
    with pytest.raises(aiomos.AppError, match=r"write @app\.tcp\(\) with parentheses"):
        aiomos.App().tcp(plain)


# ---- a blocking call ---------------------------------------------------------------------------


@both_tasks
def test_blocking_call_is_named_with_what_to_call_instead(tasks, caplog):
    def stalls():
        return [text for text in caplog.messages if "blocked the core" in text]

    async def blocks(flow):
        deadline = time.monotonic() + 30
        while not stalls() and time.monotonic() < deadline:
            time.sleep(0.001)  # noqa: ASYNC251 - the stall

    with caplog.at_level(logging.WARNING, logger="aiomos"):
        assert play(blocks, whole(b"abc"), tasks=tasks, stall=0.01).stalls == 1
    (text,) = stalls()
    assert ".blocks " in text
    assert f"{__file__}:" in text
    assert "await asyncio.to_thread(" in text


@pytest.mark.parametrize("stall", [-1, float("inf"), float("nan")])
def test_stall_that_is_no_time_is_told_what_it_is(stall):
    with pytest.raises(aiomos.ConfigError, match="a number of seconds, or None"):
        play(aiomos.App(), whole(b"abc"), stall=stall)
