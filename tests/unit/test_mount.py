"""Apps in apps: filters together, middlewares around handlers, lifespans with their own app."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import Notes, both_tasks, play, tape_of, whole

import aiomos
from aiomos import testing
from aiomos._mount import both, declared

pytestmark = both_tasks


def test_mounted_handlers_run_where_both_filters_pass(tasks):
    notes = Notes()
    inner, app = aiomos.App(), aiomos.App()

    @inner.tcp("src port 40001 or src port 40002")
    async def two(flow):
        notes.append(("inner", flow.client.port))

    @app.tcp("src port 40000")
    async def one(flow):
        notes.append(("outer", flow.client.port))

    app.mount("src port 40000 or src port 40001", inner)
    play(app, *[whole(b"x")] * 3, tasks=tasks)
    assert sorted(notes) == [("inner", 40001), ("outer", 40000)]


def test_one_flow_is_seen_by_handlers_of_several_apps(tasks):
    notes = Notes()
    apps = [aiomos.App() for _ in range(3)]

    def declare(number, app):
        @app.tcp()
        async def reads(flow):
            notes.append((number, await flow.client.read()))

    for number, app in enumerate(apps):
        declare(number, app)
    apps[0].mount(None, apps[1])
    apps[1].mount(None, apps[2])
    play(apps[0], whole(b"same bytes"), tasks=tasks)
    assert sorted(notes) == [(n, b"same bytes") for n in range(3)]


def test_mount_takes_packets_events_and_every_too(tasks):
    notes = Notes()
    inner, app = aiomos.App(), aiomos.App()

    @inner.packet()
    def frame(packet):
        notes.append("frame")

    @inner.on(aiomos.ConnectionEnd)
    def ends(flow, event, packet):
        notes.append(event.reason)

    @inner.every(0.002)
    async def tick():
        notes.append("tick")

    app.mount("src port 40001 or dst port 40001", inner)
    play(app, whole(b"a"), whole(b"b"), tasks=tasks, burst=1)
    one = aiomos.App()
    one.mount(None, inner)
    assert notes.count("frame") == len(tape_of(whole(b"b")).frames)
    assert notes.count(aiomos.CloseReason.FIN) == 1
    assert "tick" in notes


def test_mount_counts_what_is_declared_later(tasks):
    notes = Notes()
    inner, app = aiomos.App(), aiomos.App()
    app.mount(None, inner)

    @inner.tcp()
    async def late(flow):
        notes.append("late")

    play(app, whole(b"x"), tasks=tasks)
    assert notes == ["late"]


def test_lifespans_are_entered_outside_in_with_their_own_app(tasks):
    notes = Notes()
    inner, app = aiomos.App(), aiomos.App()

    for name, one in (("inner", inner), ("outer", app)):

        @one.lifespan
        async def life(which, name=name, one=one):
            assert which is one
            notes.append(f"{name} up")
            yield name
            notes.append(f"{name} down")

    @inner.tcp()
    async def handler(flow):
        notes.append((inner.state, app.state))

    app.mount(None, inner)
    play(app, whole(b"x"), tasks=tasks)
    expected = ["outer up", "inner up", ("inner", "outer"), "inner down", "outer down"]
    assert notes == expected


def test_overlap_policy_of_a_mounted_app_is_that_of_its_handlers(tasks):
    inner, app = aiomos.App(overlap="last"), aiomos.App(overlap="linux")

    @inner.tcp()
    async def one(flow): ...

    @inner.tcp(overlap="bsd")
    async def two(flow): ...

    app.mount(None, inner)
    assert [rule.overlap for rule in declared(app).flow_rules] == ["last", "bsd"]


def test_mount_in_a_circle_is_an_app_error(tasks):
    one, two = aiomos.App(), aiomos.App()
    one.mount(None, two)
    two.mount(None, one)
    with pytest.raises(aiomos.AppError, match="mounted in itself"):
        play(one, whole(b"x"), tasks=tasks)


def test_mount_of_something_else_is_an_app_error(tasks):
    async def handler(flow): ...

    with pytest.raises(aiomos.AppError, match=r"handler is no aiomos\.App"):
        aiomos.App().mount(None, handler)
    with pytest.raises(aiomos.ConfigError, match="a filter is a string"):
        aiomos.App().mount(aiomos.App(), "port 80")


def test_mount_of_a_table_of_policies_is_a_config_error(tasks):
    with pytest.raises(aiomos.ConfigError, match="to the app that is run"):
        aiomos.App().mount(None, aiomos.App(overlap={"10.0.0.0/8": "linux"}))


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (None, None, None),
        ("tcp", None, "tcp"),
        (None, "tcp", "tcp"),
        ("port 1 or port 2", "not port 3", "(port 1 or port 2) and (not port 3)"),
    ],
)
def test_filters_are_put_together_as_expressions(tasks, outer, inner, expected):
    assert both(outer, inner) == expected


# ---- middleware --------------------------------------------------------------------------------


def test_middlewares_stand_around_handlers_the_first_outermost(tasks):
    notes = Notes()
    inner, app = aiomos.App(), aiomos.App()

    def declare(app, name):
        @app.middleware
        async def around(flow, call_next):
            notes.append(f"{name} in")
            await call_next(flow)
            notes.append(f"{name} out")

    declare(app, "a")
    declare(app, "b")
    declare(inner, "c")

    @inner.tcp()
    async def handler(flow):
        notes.append(await flow.client.read())

    app.mount(None, inner)
    play(app, whole(b"x"), tasks=tasks)
    assert notes == ["a in", "b in", "c in", b"x", "c out", "b out", "a out"]


def test_middleware_that_does_not_call_next_leaves_the_handler_out(tasks):
    notes = Notes()
    app = aiomos.App()

    @app.middleware
    async def only_short(flow, call_next):
        if await flow.client.peek(10) == b"short":
            return await call_next(flow)
        flow.bypass()

    @app.tcp()
    async def handler(flow):
        notes.append(await flow.client.read())

    play(app, whole(b"short"), whole(b"a longer one"), tasks=tasks)
    assert notes == [b"short"]


def test_middleware_stands_around_udp_handlers_too_and_keeps_their_names(tasks):
    app = aiomos.App()

    @app.middleware
    async def around(flow, call_next):
        await call_next(flow)

    @app.udp()
    async def datagrams(flow): ...

    rule = declared(app).flow_rules[0]
    assert rule.name.endswith("datagrams")
    assert rule.function.__wrapped__ is datagrams


def test_failure_inside_is_reported_by_the_handlers_name_and_its_own_lines(tasks, caplog):
    app = aiomos.App()

    @app.middleware
    async def around(flow, call_next):
        await call_next(flow)

    @app.tcp()
    async def fails(flow):
        await flow.client.readexactly(1000)

    with caplog.at_level(logging.ERROR, logger="aiomos"):
        summary = play(app, whole(b"x"), tasks=tasks)
    assert summary.handler_errors == 1
    assert "fails failed on <Flow" in caplog.text
    assert "await flow.client.readexactly(1000)" in caplog.text
    assert "IncompleteReadError" in caplog.text
    assert str(Path(aiomos.__file__).parent) not in caplog.text


@pytest.mark.parametrize("wrong", [lambda flow, call_next: None, "not a function"])
def test_middleware_that_is_no_coroutine_function_is_an_app_error(tasks, wrong):
    with pytest.raises(aiomos.AppError, match="no coroutine function"):
        aiomos.App().middleware(wrong)


def test_middleware_with_other_arguments_is_an_app_error(tasks):
    async def wrong(flow): ...

    with pytest.raises(aiomos.AppError, match=r"write 'async def .*wrong\(flow, call_next\)'"):
        aiomos.App().middleware(wrong)


@pytest.mark.parametrize(
    ("outer", "inner", "runs"),
    [
        ("port 80", "vlan 5", True),
        ("vlan 5", "port 80", True),
        ("vlan", "vlan 5", True),
        ("vlan 5", "vlan 6", False),
        ("not vlan", "port 80", False),
        ("tcp", "vlan and host 10.0.0.1", True),
    ],
)
def test_mounted_flow_filters_are_judged_each_on_its_own(tasks, outer, inner, runs):
    """After the word "vlan" an expression goes on behind the tag; another one does not."""
    notes = Notes()
    other, app = aiomos.App(), aiomos.App()

    @other.tcp(inner)
    async def handler(flow):
        notes.append(flow.vlan)

    app.mount(outer, other)
    tagged = testing.Conversation(vlan=(5,)).handshake().data("client", b"x").close()
    testing.run(app, tagged, tasks=tasks)
    assert notes == ([(5,)] if runs else [])


def test_mounted_not_vlan_passes_flows_without_a_tag(tasks):
    notes = Notes()
    other, app = aiomos.App(), aiomos.App()

    @other.tcp("port 80")
    async def handler(flow):
        notes.append(flow.vlan)

    app.mount("not vlan", other)
    play(app, whole(b"x"), tasks=tasks)
    assert notes == [()]
