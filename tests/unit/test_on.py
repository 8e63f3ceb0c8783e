"""@app.on: functions called with events, in place or after the burst."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ICMP, IP4, MILLISECOND, START, datagram, ethernet, ipv4
from kit import Tape, both_tasks, play, tape_of, whole

import aiomos
from aiomos import events
from aiomos._engine.errors import AppError, ConfigError, FilterError

HELLO = whole(b"hello", b"there")


def heard(*wanted, script=HELLO, **options):
    """What a plain function is given, as (flow, event, kind of its packet)."""
    app, found = aiomos.App(), []

    @app.on(*wanted, **options)
    def note(flow, event, packet):
        found.append((flow, event, packet and packet.kind))

    play(app, script)
    return found


# ---- plain functions -----------------------------------------------------------------------


def test_open_connection_state_changes_are_told_in_place_with_flow_and_packet():
    found = heard(aiomos.StateChange)
    assert {type(e) for _, e, _ in found} == {aiomos.StateChange}
    assert {kind for _, _, kind in found} == {"tcp"}
    [flow] = {id(f): f for f, _, _ in found}.values()
    assert (flow.client.address, flow.server.port) == ("10.0.0.1", 80)
    first = found[0][1]
    assert (first.side, first.hook, first.old, first.new) == (
        *("client", "sender"),
        *("CLOSED", "SYN_SENT"),
    )
    assert first.time == START / 1e9


def test_hook_chooses_the_stack_that_tells():
    by_hook = {hook: heard(aiomos.StateChange, hook=hook) for hook in ("sender", "receiver", None)}
    for hook in ("sender", "receiver"):
        assert {e.hook for _, e, _ in by_hook[hook]} == {hook}
    told = [e for _, e, _ in by_hook[None] if e.hook != "timer"]
    assert sorted(e.time for e in told) == sorted(
        e.time for hook in ("sender", "receiver") for _, e, _ in by_hook[hook]
    )


def test_asking_for_the_base_class_gives_every_kind_in_the_order_of_raising():
    found = [e for _, e, _ in heard(aiomos.Event)]
    assert {aiomos.StateChange, aiomos.ConnectionEnd} <= {type(e) for e in found}
    assert [e.time for e in found] == sorted(e.time for e in found)
    assert type(found[-1]) is aiomos.ConnectionEnd


def test_functions_are_called_in_order_of_declaration_for_each_event():
    app, calls = aiomos.App(), []
    for name in "abc":

        @app.on(aiomos.StateChange)
        def note(flow, event, packet, name=name):
            calls.append((name, event.new))

    play(app, HELLO)
    assert [n for n, _ in calls] == list("abc") * (len(calls) // 3)
    assert len({s for _, s in calls[:3]}) == 1


def test_all_functions_of_a_flow_share_one_flow_object_and_its_context():
    app, flows = aiomos.App(), []

    @app.on(aiomos.StateChange)
    def count(flow, event, packet):
        flow.context = (flow.context or 0) + 1
        flows.append(flow)

    @app.on(aiomos.ConnectionEnd)
    async def end(flow, event):
        flows.append(flow.context)

    play(app, HELLO)
    assert flows[-1] == len(flows) - 1
    assert len({id(f) for f in flows[:-1]}) == 1


def test_function_that_raises_is_reported_and_counted_and_the_others_go_on(caplog):
    app, found = aiomos.App(), []

    @app.on(aiomos.ConnectionEnd)
    def broken(flow, event, packet):
        raise ValueError("no")

    @app.on(aiomos.ConnectionEnd)
    def note(flow, event, packet):
        found.append(event.reason)

    with caplog.at_level(logging.ERROR):
        summary = play(app, HELLO, HELLO)
    assert summary.handler_errors == 2
    assert found == ["FIN", "FIN"]
    assert "broken failed on <Flow 1 " in caplog.text


def test_function_that_exits_leaves_the_run_after_the_burst():
    app, found = aiomos.App(), []

    @app.on(aiomos.StateChange)
    def leave(flow, event, packet):
        found.append(event)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        play(app, HELLO)
    assert len(found) == 3  # those of the packet that was being processed


def test_borrowed_packet_is_gone_after_the_call():
    app, kept = aiomos.App(), []

    @app.on(aiomos.StateChange)
    def keep(flow, event, packet):
        kept.append(packet)

    play(app, HELLO)
    with pytest.raises(RuntimeError, match="borrowed"):
        bytes(kept[0])


def test_connection_end_by_timeout_comes_without_packet():
    found = heard(aiomos.ConnectionEnd, script=lambda t: (t.handshake(), t.rest(7200), t.c(b"x")))
    _, event, packet = found[0]
    assert (event.reason, event.hook, packet) == ("TIMEOUT", "timer", None)


def test_connection_end_is_told_once_a_flow_and_last():
    def reset(t):
        t.handshake()
        t.c(b"x")
        t.s(flags=0x14)
        t.c(b"late")

    def unfinished(t):
        t.handshake()

    last = {}
    app = aiomos.App()

    @app.on(aiomos.Event)
    def note(flow, event, packet):
        assert type(last.get(flow.id)) is not aiomos.ConnectionEnd
        last[flow.id] = event

    play(app, HELLO, reset, unfinished, whole())
    assert [str(last[i].reason) for i in sorted(last)] == ["FIN", "RESET", "CAPTURE_END", "FIN"]


def test_syn_flood_nobody_asked_about_makes_no_flow_objects(monkeypatch):
    app, made = aiomos.App(), []
    app.on(aiomos.Established)(lambda flow, event, packet: made.append(flow))
    app.on(aiomos.NewData)(lambda flow, event, packet: made.append(flow))
    summary = play(app, *[lambda t: t.c(flags=2)] * 50)
    assert (summary.counters["flows"], made) == (50, [])


# ---- filters -------------------------------------------------------------------------------


def test_filter_judges_the_packet_of_each_event():
    found = heard(aiomos.StateChange, filter="tcp[tcpflags] & tcp-fin != 0")
    assert {e.new for _, e, _ in found} >= {"FIN_WAIT_1", "LAST_ACK"}
    assert "ESTABLISHED" not in {e.new for _, e, _ in found}


@pytest.mark.parametrize(
    ("expression", "told"),
    [("port 80", True), ("port 81", False), ("len > 1", False)],
    ids=["its flow passes", "its flow does not", "no flow can answer"],
)
def test_event_of_a_timer_is_judged_by_its_flow(expression, told):
    found = heard(aiomos.ConnectionEnd, filter=expression, script=lambda t: t.handshake())
    assert [e.reason for _, e, _ in found] == ["CAPTURE_END"] * told


def test_filter_that_does_not_compile_is_refused_when_run():
    app = aiomos.App()
    app.on(aiomos.StateChange, filter="port eighty")(lambda flow, event, packet: None)
    with pytest.raises(FilterError):
        play(app, HELLO)


# ---- coroutine functions -------------------------------------------------------------------


@both_tasks
def test_coroutine_function_gets_events_of_a_flow_one_by_one_in_order(tasks):
    app, plain, later, running = aiomos.App(), {}, {}, set()

    @app.on(aiomos.Event)
    def now(flow, event, packet):
        plain.setdefault(flow.id, []).append(event)

    @app.on(aiomos.Event)
    async def after(flow, event):
        assert flow.id not in running
        running.add(flow.id)
        await asyncio.sleep(0)
        running.remove(flow.id)
        later.setdefault(flow.id, []).append(event)

    summary = play(app, HELLO, HELLO, whole(b"x" * 5000), tasks=tasks)
    assert summary.handler_errors == 0
    assert later == plain


@both_tasks
def test_coroutine_function_that_raises_gets_the_next_event(tasks, caplog):
    app, found = aiomos.App(), []

    @app.on(aiomos.StateChange)
    async def broken(flow, event):
        found.append(event)
        raise ValueError("no")

    with caplog.at_level(logging.ERROR):
        summary = play(app, HELLO, tasks=tasks)
    assert summary.handler_errors == len(found) > 5
    assert "broken failed on <Flow 1 " in caplog.text


@both_tasks
def test_coroutine_function_that_never_takes_is_told_how_many_events_it_lost(tasks):
    app, counts, types = aiomos.App(), [0, 0], []

    @app.on(aiomos.Event)
    def now(flow, event, packet):
        counts[0] += 1

    @app.on(aiomos.Event)
    async def slow(flow, event):
        if not types:
            await asyncio.sleep(5)
        types.append(type(event))
        counts[1] += event.count if type(event) is aiomos.EventsLost else 1

    def many(t):
        for _ in range(400):
            t.handshake()
            t.close()
            t.rest(0.001)

    def long(t):
        t.handshake()
        for n in range(3000):
            t.c(b"x", at=2 * n)
            t.s()
        t.close()

    summary = play(app, long, tasks=tasks, linger=10)
    assert counts[0] == counts[1]
    if counts[0] > 1100:  # the engine tells of every byte
        assert summary.counters["events_lost"] > 0
        assert types.count(aiomos.EventsLost) == 1
    assert types[-1] is aiomos.ConnectionEnd


@both_tasks
def test_coroutine_function_still_running_at_the_end_is_cancelled_after_the_linger(tasks):
    app, ends = aiomos.App(), []

    @app.on(aiomos.ConnectionEnd)
    async def endless(flow, event):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ends.append(flow.id)
            raise

    assert play(app, HELLO, tasks=tasks).handler_errors == 0
    assert ends == [1]


# ---- no flow -------------------------------------------------------------------------------


def test_frames_of_no_flow_that_anomalies_and_orphans_tell_have_none():
    app, found = aiomos.App(), []

    @app.on(aiomos.Orphan, aiomos.Anomaly)
    def note(flow, event, packet):
        assert packet is not None
        found.append((flow, event.side))

    tape = Tape()
    tape.add(ethernet(ipv4(b"\x08\0\0\0", protocol=ICMP), IP4), START)
    tape.add(b"\0" * 14, START + MILLISECOND)
    aiomos.run(app, tape.source())
    assert set(found) <= {(None, "")}


# ---- declarations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "function", "error", "words"),
    [
        ((aiomos.Gap,), lambda flow, event: None, AppError, "flow, event, packet"),
        ((), lambda flow, event, packet: None, AppError, "no event is named"),
        ((aiomos.Flow,), lambda flow, event, packet: None, AppError, "no class of events"),
        ((aiomos.EventsLost,), lambda f, e, p: None, ConfigError, "comes by itself"),
    ],
)
def test_wrong_declaration_is_refused(arguments, function, error, words):
    with pytest.raises(error, match=words):
        aiomos.App().on(*arguments)(function)


def test_coroutine_function_with_a_packet_is_refused():
    async def handler(flow, event, packet): ...

    with pytest.raises(AppError, match=r"async def .*handler\(flow, event\)"):
        aiomos.App().on(aiomos.Gap)(handler)


def test_unknown_hook_and_missing_parentheses_are_refused():
    with pytest.raises(ConfigError, match="hook='middle'"):
        aiomos.App().on(aiomos.Gap, hook="middle")
    with pytest.raises(AppError, match="no class of events"):
        aiomos.App().on(lambda flow, event, packet: None)


def test_app_without_handlers_for_events_wants_none():
    assert events.Gap is aiomos.Gap
    summary = aiomos.run(aiomos.App(), tape_of(HELLO).source())
    assert summary.counters["events_lost"] == 0


@both_tasks
def test_coroutine_function_can_wait_for_its_flow(tasks):
    app, found = aiomos.App(), []

    @app.on(aiomos.StateChange, hook="sender")
    async def wait(flow, event):
        if event.old == "CLOSED":
            await flow.established()
            found.append((flow.is_established, flow.is_closed))
            found.append(await flow.closed())

    play(app, HELLO, tasks=tasks, burst=1)
    assert found == [(True, False), "FIN"]


def test_packets_of_the_server_go_through_the_functions_in_reverse():
    """On UDP, where both ends' packets are alike."""
    app, found = aiomos.App(), []

    @app.on(aiomos.PacketSeen, hook="sender")
    def first(flow, event, packet):
        found.append((event.side, "first"))
        if not flow.context:
            flow.context = True
            flow.subscribe(
                aiomos.PacketSeen, lambda f, e, p: found.append((e.side, "flow")), hook="sender"
            )

    @app.on(aiomos.PacketSeen, hook="sender")
    def second(flow, event, packet):
        found.append((event.side, "second"))

    ends = ("10.0.0.1", 5000), ("10.0.0.2", 53)
    tape = Tape()
    for number in range(3):
        tape.add(datagram(b"x", *(ends[::-1] if number == 1 else ends)), START + number)
    aiomos.run(app, tape.source())
    forth = [("client", n) for n in ("first", "second", "flow")]
    back = [("server", n) for n in ("flow", "second", "first")]
    assert found == forth[:2] + back + forth


def test_udp_flow_tells_its_start_on_each_side_its_packets_and_its_end():
    found = []
    app = aiomos.App()
    app.on(aiomos.Event)(lambda flow, event, packet: found.append(event))
    tape = Tape()
    tape.add(datagram(b"x"), START)
    tape.add(datagram(b"x", ("10.0.0.2", 53), ("10.0.0.1", 5000)), START + MILLISECOND)
    aiomos.run(app, tape.source())
    assert [(type(e).__name__, e.side, e.hook) for e in found] == [
        ("ConnectionStart", "client", "sender"),
        ("PacketSeen", "client", "sender"),
        ("PacketSeen", "client", "receiver"),
        ("ConnectionStart", "server", "sender"),
        ("PacketSeen", "server", "sender"),
        ("PacketSeen", "server", "receiver"),
        ("ConnectionEnd", "", "timer"),
    ]


def test_event_caused_while_one_is_told_comes_behind_it():
    app, found = aiomos.App(), []

    @app.on(aiomos.Event)
    def first(flow, event, packet):
        found.append(("first", type(event)))
        if len(found) == 1:
            flow._events.timer_due(flow, 0, None, "caused")

    @app.on(aiomos.Event)
    def second(flow, event, packet):
        found.append(("second", type(event)))

    play(app, HELLO)
    caused = aiomos.TimerFired
    assert [n for n, _ in found[:4]] == ["first", "second"] * 2
    assert [kind is caused for _, kind in found[:5]] == [False, False, True, True, False]
