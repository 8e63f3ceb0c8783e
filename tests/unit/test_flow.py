"""A connection in a handler's hands: its life, its ends, and the handlers that share it."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, CLIENT, FIN, RST, SERVER, START, SYN
from kit import Notes, Tape, both_tasks, play, tape_of, whole

import aiomos

pytestmark = both_tasks


def say(*words, end=True):
    """Client and server speak by turns."""

    def script(t):
        t.handshake()
        for number, word in enumerate(words):
            t.say(number % 2, ACK, word)
        if end:
            t.close()

    return script


# ---- the beginning -----------------------------------------------------------------------------


def test_syn_of_a_flow_established_waits_for_the_handshake(tasks):
    app = aiomos.App()
    notes = []

    @app.tcp(start="syn")
    async def handler(flow):
        notes.append(flow.is_established)
        await flow.established()
        notes.append(flow.is_established)
        notes.append(await flow.client.read())

    play(app, say(b"abc"), tasks=tasks, burst=1)
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

    play(app, only_syn, silent, say(b"abc"), tasks=tasks, burst=1)
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
        play(app, say(b"abc", b"xyz", b"def"), tasks=tasks, burst=burst)
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


# ---- the end -----------------------------------------------------------------------------------


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
    assert reason_of(say(b"abc"), tasks=tasks, burst=1) == told("FIN")


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
    assert reason_of(say(b"abc", end=False), tasks=tasks) == told("CAPTURE_END")


def test_syn_of_a_new_connection_after_the_close_begins_a_new_flow(tasks):
    ids, notes = [], []

    async def handler(flow):
        ids.append(flow.id)
        notes.append((await flow.client.read(), await flow.closed()))

    tape = Tape()
    first = tape.talk(say(b"one"))
    tape.talk(say(b"two"), isn=(900_000, 7_000_000), at=first.now)
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
    first = tape.talk(say(b"one", end=False))
    tape.talk(say(b"two"), isn=(900_000, 7_000_000), at=first.now)
    aiomos.run(handler, tape.source(), tasks=tasks, burst=1)
    assert notes == [1, b"one", "REUSED", 2, b"two", "FIN"]


def test_stopped_engine_closes_open_flows_with_shutdown(tasks):
    notes = []

    async def handler(flow):
        engine.stop()
        notes.append(await flow.closed())

    async def main():
        nonlocal engine
        source = aiomos.MemorySource(tape_of(say(b"a", end=False)).frames)
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

    play(handler, say(b"abc", b"x", b"def"), tasks=tasks, burst=1)
    assert notes == ["FIN", b"abcdef", True]


# ---- what a flow tells -------------------------------------------------------------------------


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
    tape.talk(say(b"abc"), client=("fd00::1", 40000), server=("fd00:0:0::2", 80))
    aiomos.run(handler, tape.source(), tasks=tasks)
    assert notes == [("fd00::1", "fd00::2", 6, "<Flow 1 tcp [fd00::1]:40000 > [fd00::2]:80>")]


def test_two_flows_have_a_context_each(tasks):
    notes = []

    async def handler(flow):
        flow.context = flow.client.port
        await flow.closed()
        notes.append(flow.context == flow.client.port)

    play(handler, say(b"a"), say(b"b"), tasks=tasks)
    assert notes == [True, True]


def test_tcp_flow_iterated_is_a_type_error(tasks):
    notes = []

    async def handler(flow):
        with pytest.raises(TypeError, match="only UDP"):
            async for _ in flow:
                pass
        notes.append("raised")

    play(handler, say(b"abc"), tasks=tasks)
    assert notes == ["raised"]


# ---- several handlers on one flow --------------------------------------------------------------


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

    summary = play(app, say(b"abc", b"x", b"def"), tasks=tasks, burst=1)
    assert notes == [b"abcdef"]
    assert summary.handler_errors == 1


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

    play(app, say(b"abc", b"uvwxyz", b"def"), tasks=tasks, burst=64)
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
    play(app, say(b"abc", b"uvwxyz", b"def"), tasks=tasks)
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

    play(app, say(b"abc", b"uvwxyz", b"def"), tasks=tasks)
    assert len(raised) == 1


def test_side_that_was_stopped_reads_as_ended(tasks):
    notes = []
    app = aiomos.App()

    @app.tcp()
    async def handler(flow):
        flow.server.stop()
        notes.append(await flow.server.read())

    play(app, say(b"abc", b"uvwxyz", b"def"), tasks=tasks)
    assert notes == [b""]


# ---- ending early ------------------------------------------------------------------------------


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

    play(handler, say(b"abc"), tasks=tasks)
    assert notes == [b"abc"]


# ---- handlers that raise -----------------------------------------------------------------------


def test_handler_that_raises_is_logged_with_flow_and_offsets_and_counted(tasks, caplog):
    notes = []

    async def breaks(flow):
        if flow.client.port == 40000:
            await flow.client.readexactly(2)
            await flow.server.readexactly(1)
            raise LookupError("by intent")
        notes.append(await flow.client.read())

    with caplog.at_level(logging.ERROR, "aiomos"):
        summary = play(breaks, say(b"abc", b"xyz"), say(b"def"), tasks=tasks)
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
        summary = play(handler, say(b"abc"), tasks=tasks)
    assert (summary.handler_errors, caplog.records) == (0, [])


def test_handler_that_returns_no_coroutine_is_refused(tasks):
    app = aiomos.App()
    with pytest.raises(aiomos.AppError, match="no coroutine function"):
        app.tcp()(lambda flow: None)


# ---- nothing is left behind --------------------------------------------------------------------

SCRIPTS = {
    "fin": say(b"abc", b"xyz"),
    "open": say(b"abc", b"xyz", end=False),
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
    monkeypatch.setattr("aiomos._runner.Flow", Marked)
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
                say(b"abc", b"xyz"),
                client=("10.0.0.1", 40000 + number),
                at=START + number * 1_000_000_000,
            )
        aiomos.run(handler, tape.source(), tasks=tasks, burst=1)
        left = len(alive)
    finally:
        gc.enable()
    assert most <= 3
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
