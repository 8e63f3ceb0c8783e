"""What each kind of event says, and when, as apps and handlers get it: `@app.on`, `flow.events`,
`flow.wait`. Order among them: the whole life of one connection, told exactly."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import (
    ACK,
    CLIENT,
    FIN,
    ICMP,
    MILLISECOND,
    RST,
    SECOND,
    START,
    URG,
    datagram,
    ethernet,
    ipv4,
    window_scale,
)
from kit import both_tasks, play, tape_of

import aiomos
from aiomos import (
    Anomaly,
    ConnectionEnd,
    Event,
    Gap,
    IcmpError,
    Orphan,
    ResetSeen,
    State,
    WindowUpdate,
    ZeroWindow,
)


def words(event):
    """An event as its class, hook and side, then its own fields."""
    own = [
        str(getattr(event, field.name))
        for field in attrs.fields(type(event))
        if field.name not in ("time", "side", "hook")
    ]
    return " ".join([type(event).__name__, event.hook, event.side or "-", *own])


def stamp(number):
    """Capture time of a script's packet, by its number."""
    return float(START + number * MILLISECOND) / SECOND


def told_in_place(script, *wanted, hook=None, **options):
    """What a plain function of the app is called with, and the packet's number with each."""
    app, told = aiomos.App(), []

    @app.on(*wanted, hook=hook)
    def note(flow, event, packet):
        told.append((packet and round((packet.time * SECOND - START) / MILLISECOND), event))

    play(app, script, **options)
    return told


def told_to_handler(script, *wanted, tasks="engine"):
    """What flow.events gives a handler that begins behind the first packet."""
    app, told = aiomos.App(), []

    @app.tcp(start="syn")
    async def handler(flow):
        async for event in flow.events(*wanted):
            told.append(event)

    play(app, script, tasks=tasks, burst=1)
    return told


def waited_for(script, *wanted, **options):
    """What flow.wait gives, call after call; the last is None."""
    app, found = aiomos.App(), []

    @app.tcp(start="syn")
    async def handler(flow):
        while not found or found[-1] is not None:
            found.append(await flow.wait(*wanted))

    play(app, script, burst=1, **options)
    return found


# ---- a life -------------------------------------------------------------------------------------


def life(talk):
    talk.handshake()
    talk.c(b"hello")
    talk.s()
    talk.s(b"there")
    talk.c()
    talk.c(flags=FIN | ACK)
    talk.s()
    talk.s(flags=FIN | ACK)
    talk.c()


def at(hook, told):
    """Words of what a stack tells: behind the class stands the hook."""
    return [said.replace(" ", f" {hook} ", 1) for said in told]


def passes(side, sender=(), receiver=(), last=()):
    """A packet's way: its sender's stack, then its receiver's; what each tells of it."""
    return [
        *at("sender", [f"PacketSeen {side} accepted", *sender]),
        *at("receiver", [*receiver, f"PacketSeen {side} accepted", *last]),
    ]


LIFE = [
    passes(
        "client",
        ["ConnectionStart client", "StateChange client CLOSED SYN_SENT"],
        [
            "StateChange server CLOSED LISTEN",
            "ConnectionStart server",
            "StateChange server LISTEN SYN_RECEIVED",
        ],
    ),
    passes("server", [], ["StateChange client SYN_SENT ESTABLISHED"]),
    passes("client", [], ["StateChange server SYN_RECEIVED ESTABLISHED", "Established -"]),
    passes("client", [], ["NewData client 0 5 b'hello'"]),
    passes("server"),
    passes("server", [], ["NewData server 0 5 b'there'"]),
    passes("client"),
    passes(
        "client",
        ["FinSeen client 5", "StateChange client ESTABLISHED FIN_WAIT_1"],
        ["StateChange server ESTABLISHED CLOSE_WAIT"],
    ),
    passes("server", [], ["StateChange client FIN_WAIT_1 FIN_WAIT_2"]),
    passes(
        "server",
        ["FinSeen server 5", "StateChange server CLOSE_WAIT LAST_ACK"],
        ["StateChange client FIN_WAIT_2 TIME_WAIT"],
    ),
    passes("client", [], ["StateChange server LAST_ACK CLOSED"], ["ConnectionEnd - FIN"]),
]


@pytest.mark.parametrize("burst", [1, 7, 64])
def test_life_of_a_connection_is_told_in_place_packet_by_packet_in_this_order(burst):
    told = told_in_place(life, Event, burst=burst)
    by_packet = [[words(e) for n, e in told if n == number] for number in range(len(LIFE))]
    assert by_packet == LIFE
    assert [n for n, _ in told] == sorted(n for n, _ in told)
    assert [e.time for _, e in told] == [stamp(n) for n, _ in told]
    changes = [e for _, e in told if type(e) is aiomos.StateChange]
    assert len(changes) == 11
    assert all(isinstance(s, State) for e in changes for s in (e.old, e.new))


@pytest.mark.parametrize("hook", ["sender", "receiver"])
def test_life_of_a_connection_at_one_hook_is_what_that_stack_tells(hook):
    told = told_in_place(life, Event, hook=hook)
    assert [words(e) for _, e in told] == [w for packet in LIFE for w in packet if f" {hook} " in w]


@both_tasks
def test_life_of_a_connection_is_told_to_a_handler_from_its_start_on(tasks):
    told = told_to_handler(life, tasks=tasks)
    assert [words(e) for e in told] == [w for packet in LIFE[1:] for w in packet]


# ---- windows ------------------------------------------------------------------------------------


def closing_window(talk):
    talk.handshake((window_scale(7), window_scale(2)))
    talk.c(b"fill")
    talk.s(window=0)
    talk.s(window=0)  # says nothing new
    talk.s(window=1000)
    talk.s(window=1000)
    talk.s(b"x", window=500)  # with data it is no update
    talk.c(window=0)
    talk.c(window=3)
    talk.close()


#: The server's window is scaled by 2 bits, the client's by 7.
WINDOWS = [
    ZeroWindow(side="server", hook="sender", time=stamp(4)),
    WindowUpdate(4000, 0, side="server", hook="sender", time=stamp(6)),
    ZeroWindow(side="client", hook="sender", time=stamp(9)),
    WindowUpdate(384, 0, side="client", hook="sender", time=stamp(10)),
]


def test_window_closed_and_opened_is_told_once_each_scaled():
    told = told_in_place(closing_window, ZeroWindow, WindowUpdate)
    assert [e for _, e in told][:4] == WINDOWS
    assert [n for n, _ in told][:4] == [4, 6, 9, 10]
    assert told_to_handler(closing_window, ZeroWindow, WindowUpdate)[:4] == WINDOWS
    assert waited_for(closing_window, ZeroWindow) == [WINDOWS[0], WINDOWS[2], None]


# ---- resets -------------------------------------------------------------------------------------


def resets(talk):
    talk.handshake()
    talk.c(b"abc")
    talk.s()
    talk.s(flags=RST, at=1000)
    talk.c(flags=RST | ACK)


def test_reset_is_told_with_whether_its_receiver_believes_it():
    told = [e for _, e in told_in_place(resets, ResetSeen, ConnectionEnd)]
    assert [words(e) for e in told] == [
        "ResetSeen sender server False",
        "ResetSeen sender client True",
        "ConnectionEnd receiver - RESET",
    ]
    assert told_to_handler(resets, ResetSeen, ConnectionEnd) == told
    assert waited_for(resets, ResetSeen) == [told[0], told[1], None]


# ---- ICMP ---------------------------------------------------------------------------------------


def too_big(talk):
    """A router cannot pass on what the client sent; then another says that the server is gone."""
    talk.handshake()
    talk.c(b"large")
    quoted = talk.segment(CLIENT, ACK, b"large", at=0)[14:]
    for kind, code, info in ((3, 4, 1400), (3, 1, 0)):
        body = struct.pack(">BBHI", kind, code, 0, info) + quoted
        talk.give(ethernet(ipv4(body, "192.0.2.9", "10.0.0.1", ICMP)))
    talk.close()


def test_icmp_error_is_told_to_the_flow_that_it_quotes():
    told = told_in_place(too_big, IcmpError)
    assert [(n, words(e)) for n, e in told] == [
        (4, "IcmpError receiver client 3 4 1400"),
        (5, "IcmpError receiver client 3 1 0"),
    ]
    errors = [e for _, e in told]
    assert told_to_handler(too_big, IcmpError) == errors
    assert waited_for(too_big, IcmpError) == [*errors, None]


# ---- orphans ------------------------------------------------------------------------------------


def strays(talk):
    talk.c(flags=RST)  # opens nothing
    talk.give(ethernet(b"\0\1\x08\0\6\4\0\1" + bytes(20), 0x0806))
    talk.give(ethernet(ipv4(bytes(20), protocol=47 + 100)))
    talk.give(datagram(b"x")[:20])
    life(talk)
    talk.c(b"late")


def test_packet_of_no_flow_is_told_with_why_and_without_flow():
    app, told = aiomos.App(), []

    @app.on(Orphan)
    def note(flow, event, packet):
        told.append((flow, words(event), len(packet)))

    play(app, strays)
    assert [(flow, said) for flow, said, _ in told] == [
        (None, "Orphan sender - no_flow"),
        (None, "Orphan sender - not_ip"),
        (None, "Orphan sender - protocol"),
        (None, "Orphan sender - malformed"),
        (None, "Orphan sender - closed"),
    ]
    assert [size for *_, size in told] == [54, 42, 54, 20, 58]


def test_packet_of_no_flow_is_no_event_of_any_flow():
    assert told_to_handler(strays, Orphan) == []
    assert waited_for(strays, Orphan) == [None]


# ---- urgent data --------------------------------------------------------------------------------


def urgent(talk):
    talk.handshake()
    raw = bytearray(talk.segment(CLIENT, ACK | URG, b"woXrd"))
    raw[14 + 20 + 18 : 14 + 20 + 20] = struct.pack(">H", 3)
    talk.give(bytes(raw))
    talk.close()


URGENT = {
    "inline": [],
    "oob": ["Anomaly receiver client urgent 1"],
    "gap": ["Anomaly receiver client urgent 1", "Gap receiver client 2 1 urgent"],
    "drop": ["Anomaly receiver client urgent 5", "Gap receiver client 0 5 urgent"],
}


@pytest.mark.parametrize("policy", URGENT)
def test_urgent_byte_not_in_line_is_an_anomaly_and_a_gap_where_it_leaves_one(policy):
    app, told = aiomos.App(), []

    @app.on(Anomaly, Gap)
    def note(flow, event, packet):
        told.append(words(event))

    @app.tcp(urgent=policy, on_gap="skip")
    async def handler(flow):
        await flow.client.read()

    play(app, urgent)
    assert told == URGENT[policy]


def test_urgent_byte_can_be_waited_for():
    found = waited_for(urgent, Anomaly, urgent="oob")
    assert [words(e) for e in found[:-1]] == URGENT["oob"]
    assert found[-1] is None


def test_tape_has_one_frame_a_millisecond():
    """What the numbers of packets above rest on."""
    times = [at for _, at in tape_of(life).in_order()]
    assert times == [START + n * MILLISECOND for n in range(len(LIFE))]
