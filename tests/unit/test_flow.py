"""A connection in a handler's hands: where it begins, what it tells, and how it ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, RST, SERVER, START, SYN
from kit import Notes, Tape, both_tasks, by_turns, play, tape_of

import aiomos

pytestmark = both_tasks


# ---- the beginning ------------------------------------------------------------------------------


def test_syn_of_a_flow_established_waits_for_the_handshake(tasks):
    app = aiomos.App()
    notes = []

    @app.tcp(start="syn")
    async def handler(flow):
        notes.append(flow.is_established)
        await flow.established()
        notes.append(flow.is_established)
        notes.append(await flow.client.read())

    play(app, by_turns(b"abc"), tasks=tasks, burst=1)
    assert notes == [False, True, b"abc"]


def test_refused_flow_established_returns_and_the_reset_is_told(tasks):
    app = aiomos.App()
    notes = []

    @app.tcp(start="syn")
    async def handler(flow):
        await flow.established()
        notes.append((flow.is_established, flow.is_closed, await flow.closed()))

    def refused(t):
        t.c(flags=SYN)
        t.s(flags=RST | ACK)

    play(app, refused, tasks=tasks, burst=1)
    assert notes == [(False, True, "RESET")]


@pytest.mark.parametrize("start", ["syn", "established", "data"])
def test_handler_begins_where_start_says(tasks, start):
    app = aiomos.App()
    begun = []

    @app.tcp(start=start, sides="client")
    async def handler(flow):
        begun.append((flow.client.port, flow.client.received))
        await flow.closed()

    def only_syn(t):
        t.c(flags=SYN)

    def silent(t):
        t.handshake()
        t.close()

    play(app, only_syn, silent, by_turns(b"abc"), tasks=tasks, burst=1)
    ports = [port for port, _ in begun]
    expected = {"syn": {40000, 40001, 40002}, "established": {40001, 40002}, "data": {40002}}
    assert set(ports) == expected[start]
    assert len(ports) == len(expected[start])


@pytest.mark.parametrize("start", ["syn", "established", "data"])
def test_handler_reads_all_bytes_wherever_it_begins(tasks, start):
    app = aiomos.App()
    notes = []

    @app.tcp(start=start)
    async def handler(flow):
        notes.extend(await asyncio.gather(flow.client.read(), flow.server.read()))

    for burst in (1, 64):
        notes.clear()
        play(app, by_turns(b"abc", b"xyz", b"def"), tasks=tasks, burst=burst)
        assert notes == [b"abcdef", b"xyz"]


def test_flow_picked_up_in_its_middle_says_so(tasks):
    notes = []

    async def handler(flow):
        notes.append((flow.midstream, flow.is_established, flow.client.syn_seen))
        notes.append(await flow.client.read())

    def script(t):
        t.skip(CLIENT, 1000)
        t.skip(SERVER, 1000)
        t.c(b"abc")
        t.s(b"x")
        t.close()

    play(handler, script, tasks=tasks)
    assert notes == [(True, True, False), b"abc"]


def test_one_side_visible_the_other_is_not_seen(tasks):
    notes = []

    async def handler(flow):
        notes.append((flow.client.seen, flow.server.seen))
        notes.append(await flow.client.read())

    def script(t):
        t.c(b"abc")
        t.c(b"def")

    play(handler, script, tasks=tasks, burst=1)
    assert notes == [(True, False), b"abcdef"]


# ---- what it tells ------------------------------------------------------------------------------


def test_flow_tells_its_key_times_and_context(tasks):
    notes = []

    async def handler(flow):
        notes.append(flow.context)
        flow.context = {"mine": 1}
        await flow.closed()
        notes.append(flow.context)
        notes.append((flow.key, flow.protocol, flow.ip_version, flow.id))
        notes.append((flow.start, round(flow.duration, 3)))

    def script(t):
        t.handshake()
        t.rest(1)
        t.c(b"abc")
        t.close()

    play(handler, script, tasks=tasks)
    assert notes[:2] == [None, {"mine": 1}]
    key = aiomos.FlowKey("10.0.0.1", 40000, "10.0.0.2", 80, "tcp")
    assert notes[2] == (key, "tcp", 4, 1)
    assert notes[3] == (START / 1e9, 1.006)


def test_ipv6_flow_has_its_addresses_in_short_form(tasks):
    notes = []

    async def handler(flow):
        notes.append((flow.client.address, flow.server.address, flow.ip_version, repr(flow)))

    tape = Tape()
    tape.talk(by_turns(b"abc"), client=("fd00::1", 40000), server=("fd00:0:0::2", 80))
    aiomos.run(handler, tape.source(), tasks=tasks)
    assert notes == [("fd00::1", "fd00::2", 6, "<Flow 1 tcp [fd00::1]:40000 > [fd00::2]:80>")]


def test_two_flows_have_a_context_each(tasks):
    notes = []

    async def handler(flow):
        flow.context = flow.client.port
        await flow.closed()
        notes.append(flow.context == flow.client.port)

    play(handler, by_turns(b"a"), by_turns(b"b"), tasks=tasks)
    assert notes == [True, True]


def test_tcp_flow_iterated_is_a_type_error(tasks):
    notes = []

    async def handler(flow):
        with pytest.raises(TypeError, match="only UDP"):
            async for _ in flow:
                pass
        notes.append("raised")

    play(handler, by_turns(b"abc"), tasks=tasks)
    assert notes == ["raised"]


# ---- the end ------------------------------------------------------------------------------------


def reason_of(script, *, tasks, others=(), app_options=None, **options):
    app = aiomos.App()
    notes = []

    @app.tcp(**(app_options or {}))
    async def handler(flow):
        notes.append((flow.client.port, flow.close_reason, await flow.closed(), flow.close_reason))

    play(app, script, *others, tasks=tasks, **options)
    return [(before, reason, after) for port, before, reason, after in notes if port == 40000]


def told(reason):
    return [(None, reason, reason)]


def test_both_fins_acknowledged_closes_with_fin(tasks):
    assert reason_of(by_turns(b"abc"), tasks=tasks, burst=1) == told("FIN")


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_valid_rst_closes_with_reset(tasks, side):
    def script(t):
        t.handshake()
        t.c(b"abc")
        t.s()
        t.say(side, RST | ACK)

    assert reason_of(script, tasks=tasks, burst=1) == told("RESET")


def test_invalid_rst_does_not_close(tasks):
    def script(t):
        t.handshake()
        t.c(b"abc")
        t.c(flags=RST, at=700)
        t.s(b"x")

    assert reason_of(script, tasks=tasks, burst=1) == told("CAPTURE_END")


def test_idle_flow_closes_with_timeout(tasks):
    def idle(t):
        t.handshake()

    def late(t):
        t.rest(3700)
        t.handshake()

    found = reason_of(idle, tasks=tasks, others=[late], burst=1)
    assert found == told("TIMEOUT")


def test_shorter_idle_time_is_an_option_of_the_engine(tasks):
    def idle(t):
        t.handshake()

    def late(t):
        t.rest(11)
        t.handshake()

    found = reason_of(idle, tasks=tasks, others=[late], burst=1, established=10)
    assert found == told("TIMEOUT")


def test_capture_end_closes_what_is_open(tasks):
    assert reason_of(by_turns(b"abc", end=False), tasks=tasks) == told("CAPTURE_END")


def test_syn_of_a_new_connection_after_the_close_begins_a_new_flow(tasks):
    ids, notes = [], []

    async def handler(flow):
        ids.append(flow.id)
        notes.append((await flow.client.read(), await flow.closed()))

    tape = Tape()
    first = tape.talk(by_turns(b"one"))
    tape.talk(by_turns(b"two"), isn=(900_000, 7_000_000), at=first.now)
    aiomos.run(handler, tape.source(), tasks=tasks)
    assert notes == [(b"one", "FIN"), (b"two", "FIN")]
    assert ids == [1, 2]


def test_syn_ack_for_another_syn_closes_the_old_flow_with_reused(tasks):
    notes = Notes()

    async def handler(flow):
        notes.append(flow.id)
        await notes.take(flow.client.read())
        notes.append(await flow.closed())

    tape = Tape()
    first = tape.talk(by_turns(b"one", end=False))
    tape.talk(by_turns(b"two"), isn=(900_000, 7_000_000), at=first.now)
    aiomos.run(handler, tape.source(), tasks=tasks, burst=1)
    assert notes == [1, b"one", "REUSED", 2, b"two", "FIN"]


def test_stopped_engine_closes_open_flows_with_shutdown(tasks):
    notes = []

    async def handler(flow):
        engine.stop()
        notes.append(await flow.closed())

    async def main():
        nonlocal engine
        source = aiomos.MemorySource(tape_of(by_turns(b"a", end=False)).frames)
        async with aiomos.Engine(source, tasks=tasks, burst=1) as engine:
            await engine.serve(handler)

    engine = None
    asyncio.run(main())
    assert notes == ["SHUTDOWN"]


def test_closed_returns_while_bytes_are_unread_and_they_can_be_read_after_it(tasks):
    notes = []

    async def handler(flow):
        notes.append(await flow.closed())
        notes.append(await flow.client.read())
        notes.append(flow.is_closed)

    play(handler, by_turns(b"abc", b"x", b"def"), tasks=tasks, burst=1)
    assert notes == ["FIN", b"abcdef", True]
