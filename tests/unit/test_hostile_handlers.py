"""Handlers that do what they should not, and captures that do not help them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    IP6,
    MILLISECOND,
    SECOND,
    START,
    SYN,
    datagram,
    ethernet,
    extension,
    ipv6,
    tcp,
)
from kit import both_tasks, play, said, tape_of, whole

import aiomos
from aiomos._endpoint import Endpoint
from aiomos._replay_loop import ReplayLoop


def played(handler, *scripts, tasks, protocol="tcp", source=None, options=None, **rule):
    """Runs `handler(flow, notes)`; what it noted. A failure of its own is noted too."""
    notes = []
    app = aiomos.App()

    @getattr(app, protocol)(**rule)
    async def run(flow):
        try:
            await handler(flow, notes)
        except (Exception, pytest.fail.Exception) as error:
            notes.append(("FAILED", error))

    source = tape_of(*scripts).source() if source is None else source
    aiomos.run(app, source, tasks=tasks, **(options or {}))
    return notes


def datagrams(*payloads, apart=MILLISECOND):
    return aiomos.MemorySource([(datagram(p), START + n * apart) for n, p in enumerate(payloads)])


async def pieces(end):
    """What reading by blocks gives up to the end, gaps as `said` has them."""
    found = []
    while True:
        try:
            data = await end.read(65536)
        except aiomos.GapError as error:
            found.append(said(error))
            continue
        if not data:
            return found
        found.append(data)


# ---- handlers of the wrong shape --------------------------------------------


@both_tasks
def test_handler_of_wrong_arity_flow_starts_is_counted_and_the_other_handler_runs(tasks):
    app = aiomos.App()
    seen = []

    @app.tcp()
    async def before(flow):
        seen.append(("before", await flow.client.read()))

    @app.tcp()
    async def wrong():
        seen.append("wrong")

    @app.tcp()
    async def after(flow):
        seen.append(("after", await flow.client.read()))

    summary = play(app, *[whole(b"abc")] * 5, tasks=tasks)
    assert sorted(seen) == [("after", b"abc")] * 5 + [("before", b"abc")] * 5
    assert summary.handler_errors == 5


@both_tasks
def test_async_packet_handler_of_wrong_arity_frames_arrive_each_is_counted(tasks):
    app = aiomos.App()

    @app.packet()
    async def wrong():
        pass

    summary = play(app, whole(b"abc"), tasks=tasks)
    assert summary.received > 0
    assert summary.handler_errors == summary.received


@pytest.mark.parametrize("made", [aiomos.Flow, Endpoint])
def test_no_engine_view_made_by_hand_is_a_type_error(made):
    with pytest.raises(TypeError, match="made by the engine"):
        made()


@both_tasks
def test_every_handler_raises_once_goes_on_and_is_counted(tasks):
    app = aiomos.App()
    ticks = []

    @app.every(1)
    async def tick():
        ticks.append(1)
        if len(ticks) == 2:
            raise ValueError("once")

    def script(t):
        t.handshake()
        t.rest(20)
        t.c(b"x")

    summary = play(app, script, tasks=tasks)
    assert len(ticks) >= 19
    assert summary.handler_errors == 1


@both_tasks
def test_handler_returned_its_child_waits_for_closed_is_told(tasks):
    app = aiomos.App()
    found, children = [], []

    async def watch(flow):
        found.append(await flow.closed())

    @app.tcp()
    async def run(flow):
        children.append(asyncio.create_task(watch(flow)))
        await flow.client.read(1)

    def script(t):
        t.handshake()
        t.c(b"hello")
        t.rest(1)
        t.close()

    play(app, script, tasks=tasks, burst=1)
    assert found == ["FIN"]
    assert [child.cancelled() for child in children] == [False]


# ---- two handlers of one flow --------------------------------------------


def one_reads_one_waits(tasks, count=100, size=60_000):
    """What both got of count * size bytes, what was sent, and the engine."""
    app = aiomos.App()
    data = [bytes([n % 251]) * size for n in range(count)]
    got = {}

    @app.tcp()
    async def reads(flow):
        got["reads"] = await pieces(flow.client)

    @app.tcp()
    async def idle(flow):
        await flow.closed()
        got["idle"] = await pieces(flow.client)

    def script(t):
        t.handshake()
        for piece in data:
            t.c(piece)
            t.s()
        t.close()

    async def serve():
        engine = aiomos.Engine(tape_of(script).source(), tasks=tasks)
        await engine.serve(app)
        return engine

    with asyncio.Runner(loop_factory=ReplayLoop) as runner:
        engine = runner.run(serve())
    return got, b"".join(data), engine


@both_tasks
def test_two_handlers_one_idle_the_other_reads_everything(tasks):
    got, data, _ = one_reads_one_waits(tasks)
    assert b"".join(got["reads"]) == data


@both_tasks
def test_two_handlers_one_idle_meets_one_gap_then_what_follows(tasks):
    got, data, _ = one_reads_one_waits(tasks)
    gaps = [item for item in got["idle"] if isinstance(item, tuple)]
    assert len(gaps) == 1
    offset, length, cause = gaps[0]
    assert cause == "slow_reader"
    read = b"".join(item for item in got["idle"] if isinstance(item, bytes))
    assert read == data[:offset] + data[offset + length :]
    assert got["idle"][-1] != gaps[0]


@both_tasks
def test_two_handlers_one_idle_memory_is_bounded(tasks):
    _, data, engine = one_reads_one_waits(tasks)
    assert engine.core.usage()["buffer_bytes_peak"] < 1_000_000 < len(data)


@both_tasks
def test_one_reader_waits_second_refused_the_first_wakes_for_its_own(tasks):
    async def handler(flow, notes):
        async def first():
            notes.append(await flow.client.readline())
            notes.append(int(asyncio.get_running_loop().time()))

        reading = asyncio.create_task(first())
        await asyncio.sleep(0.5)
        with pytest.raises(RuntimeError, match="already waiting"):
            await flow.client.readexactly(50_000)
        await reading

    def script(t):
        t.handshake()
        t.rest(1)
        t.c(b"hello\n")
        t.s()
        t.rest(30)
        t.close()

    notes = played(handler, script, tasks=tasks, options={"burst": 1})
    assert notes == [b"hello\n", 1]


# ---- what is read --------------------------------------------


@both_tasks
def test_syn_received_servers_bytes_before_the_clients_ack_are_read(tasks):
    async def handler(flow, notes):
        notes.append(await flow.server.read())
        notes.append((flow.server.gaps, flow.server.complete))

    def script(t):
        t.c(flags=SYN)
        t.s(flags=SYN | ACK)
        late = t.segment(CLIENT, ACK)
        t.s(b"220 hello\r\n")
        t.give(late)
        t.s(b"next\r\n")
        t.c()
        t.close()

    assert played(handler, script, tasks=tasks) == [b"220 hello\r\nnext\r\n", (0, True)]


def gap_between(before, after):
    """The client says both; ten bytes between them were acknowledged, and never captured."""

    def script(t):
        t.handshake()
        t.c(before)
        t.s()
        t.skip(CLIENT, 10)
        t.c(after)
        t.s()
        t.rest(1)
        t.close()

    return script


@both_tasks
def test_skipping_reader_read_to_the_end_never_spans_a_gap(tasks):
    async def handler(flow, notes):
        for _ in range(3):
            notes.append(await flow.client.read())

    notes = played(handler, gap_between(b"AAA", b"BBB"), tasks=tasks, on_gap="skip")
    assert notes == [b"AAA", b"BBB", b""]


@both_tasks
def test_skipping_reader_stopped_while_resynchronising_reads_the_end(tasks):
    async def handler(flow, notes):
        reading = asyncio.create_task(flow.client.readline())
        await asyncio.sleep(3)
        flow.client.stop()
        notes.append(await reading)

    def script(t):
        t.handshake()
        t.c(b"half a li")
        t.s()
        t.skip(CLIENT, 20)
        t.c(b"rest of a line")
        t.s()
        for _ in range(3):
            t.rest(3)
            t.c(b"more")
            t.s()
        t.close()

    options = {"burst": 1}
    assert played(handler, script, tasks=tasks, on_gap="skip", options=options) == [b""]


@both_tasks
def test_unread_side_under_skip_read_late_goes_on_after_the_gap(tasks):
    lines = [b"line %d\n" % n for n in range(100)]

    async def handler(flow, notes):
        await asyncio.sleep(1)
        while True:
            try:
                line = await flow.client.readline()
            except ValueError:
                continue
            if not line:
                break
            notes.append(line)

    def script(t):
        t.handshake()
        for _ in range(20):
            t.c(b"x" * 100)
            t.s()
        t.rest(2)
        t.c(b"\n")
        t.s()
        for line in lines:
            t.c(line)
            t.s()
        t.close()

    options = {"burst": 1}
    notes = played(handler, script, tasks=tasks, on_gap="skip", limit=1000, options=options)
    assert notes[-100:] == lines


@both_tasks
def test_readexactly_beyond_the_limit_served_gives_the_limit_back(tasks):
    async def handler(flow, notes):
        notes.append(len(await flow.client.readexactly(1_000_000)))
        await asyncio.sleep(10)
        notes.append(flow.client.buffered <= 65536)

    def script(t):
        t.handshake()
        for _ in range(40):
            t.c(b"z" * 50_000)
            t.s()
        t.rest(20)
        t.close()

    assert played(handler, script, tasks=tasks, options={"burst": 1}) == [1_000_000, True]


# ---- no memory --------------------------------------------


@both_tasks
def test_memory_refused_tcp_read_raises_flow_evicted(tasks):
    async def handler(flow, notes):
        with pytest.raises(aiomos.FlowEvicted):
            await flow.client.read()
        notes.append("raised")

    options = {"memory": 100, "burst": 1}
    assert played(handler, whole(b"hello"), tasks=tasks, options=options) == ["raised"]


@both_tasks
def test_memory_refused_udp_iteration_raises_flow_evicted(tasks):
    async def handler(flow, notes):
        with pytest.raises(aiomos.FlowEvicted):
            await anext(flow)
        notes.append("raised")

    source = datagrams(b"A", b"B")
    options = {"memory": 100, "burst": 1}
    notes = played(handler, protocol="udp", source=source, tasks=tasks, options=options)
    assert notes == ["raised"]


# ---- UDP --------------------------------------------

READS = {
    "read": lambda end: end.read(5),
    "read_to_the_end": lambda end: end.read(),
    "readexactly": lambda end: end.readexactly(5),
    "readline": lambda end: end.readline(),
    "peek": lambda end: end.peek(5),
}


@both_tasks
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("name", READS)
def test_udp_flow_read_as_a_stream_is_a_type_error(tasks, side, name):
    async def handler(flow, notes):
        with pytest.raises(TypeError, match="datagrams"):
            await READS[name](getattr(flow, side))
        async for each in flow:
            notes.append(each.data)

    source = datagrams(b"A" * 50, b"B" * 50)
    notes = played(handler, protocol="udp", source=source, tasks=tasks)
    assert notes == [b"A" * 50, b"B" * 50]


@both_tasks
@pytest.mark.parametrize("leave", [lambda f: f.bypass(), lambda f: f.client.stop()])
def test_udp_iteration_side_given_up_inside_it_ends(tasks, leave):
    async def handler(flow, notes):
        async for each in flow:
            notes.append(each.data)
            leave(flow)
        notes.append(flow.is_closed)

    source = datagrams(b"A", b"B", b"C", apart=SECOND)
    options = {"burst": 1}
    notes = played(handler, protocol="udp", source=source, tasks=tasks, options=options)
    assert notes == [b"A", False]


@both_tasks
def test_udp_two_handlers_one_idle_the_other_gets_every_datagram(tasks):
    app = aiomos.App()
    got = []

    @app.udp()
    async def reads(flow):
        async for each in flow:
            got.append(each.data)

    @app.udp()
    async def idle(flow):
        await flow.closed()

    sent = [b"%04d" % n * 250 for n in range(1000)]
    aiomos.run(app, datagrams(*sent), tasks=tasks, burst=8)
    assert got == sent


# ---- packet functions --------------------------------------------


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("burst", [1, 64])
def test_packet_function_raises_an_exit_run_is_left_and_frames_released(leave, burst):
    app = aiomos.App()
    seen = []

    @app.packet()
    def look(packet):
        seen.append(1)
        if len(seen) == 2:
            raise leave(3)

    source = tape_of(whole(b"abc", b"xyz")).source()
    with pytest.raises(leave) as caught:
        aiomos.run(app, source, burst=burst)
    assert caught.value.args == (3,)
    assert len(seen) == 2
    assert source.stats().outstanding == 0


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_packet_function_raised_its_packet_is_refused_afterwards(error):
    app = aiomos.App()
    kept = []

    @app.packet()
    def keep(packet):
        kept.append(packet)
        raise error

    source = tape_of(whole(b"abc")).source()
    if error is SystemExit:
        with pytest.raises(SystemExit):
            aiomos.run(app, source)
    else:
        assert aiomos.run(app, source).handler_errors == len(kept)
    assert kept
    for packet in kept:
        with pytest.raises(RuntimeError):
            bytes(packet)


@pytest.mark.parametrize("seed", range(8))
def test_segmented_frame_with_ipv6_extensions_packet_tells_its_ends(seed):
    app = aiomos.App()
    seen = []

    @app.packet()
    def look(packet):
        seen.append((packet.source, packet.destination, packet.sport, packet.dport))

    segment = tcp(1, 2, 0, 0, SYN, ends=("fd00::1", "fd00::2"))
    raw = ethernet(ipv6(segment, extensions=[extension(0, b"\0" * (6 + 8 * 35))]), IP6)
    source = aiomos.MemorySource([(raw, START)], segment_seed=seed)
    assert aiomos.run(app, source).handler_errors == 0
    assert seen == [("fd00::1", "fd00::2", 1, 2)]
