"""Declarations: what an app takes, what it refuses, and what becomes of it when it runs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import both_tasks, play, whole

import aiomos
from aiomos._app import as_app


async def handler(flow):
    pass


def slow(t):
    """Five seconds."""
    t.handshake()
    for _ in range(5):
        t.c(b"x")
        t.rest(1)
    t.close()


# ---- declarations -----------------------------------------------------------------------------


def test_decorators_give_the_function_back():
    app = aiomos.App()
    assert app.tcp("port 80")(handler) is handler
    assert app.udp()(handler) is handler
    assert app.packet()(print) is print
    assert app.every(1)(handler) is handler


@pytest.mark.parametrize(
    "options",
    [
        {"start": "fin"},
        {"sides": "left"},
        {"on_gap": "fill"},
        {"on_full": "block"},
        {"limit": 0},
        {"limit": -1},
        {"limit": "many"},
        {"limit": 1 << 40},
        {"deliver": "never"},
        {"overlap": "random"},
        {"inline": True},
        {"hold": "client"},
    ],
    ids=str,
)
def test_option_with_another_value_is_refused_by_name(options):
    (name,) = options
    with pytest.raises(aiomos.ConfigError, match=name):
        aiomos.App().tcp(**options)(handler)


def test_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="nonsense"):
        aiomos.App().tcp(nonsense=1)


@pytest.mark.parametrize("name", ["tcp", "udp", "packet"])
def test_decorator_without_parentheses_says_so(name):
    with pytest.raises(aiomos.AppError, match=rf"@app.{name}\(\) with parentheses"):
        getattr(aiomos.App(), name)(handler)


@pytest.mark.parametrize("name", ["tcp", "udp", "packet"])
def test_filter_that_is_no_string_is_refused(name):
    with pytest.raises(aiomos.ConfigError, match="a filter is a string"):
        getattr(aiomos.App(), name)(80)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_every_needs_a_period(seconds):
    with pytest.raises(aiomos.ConfigError):
        aiomos.App().every(seconds)


def test_lifespan_must_be_an_async_generator():
    with pytest.raises(aiomos.AppError, match="async generator"):
        aiomos.App().lifespan(handler)


def test_class_with_an_async_call_is_a_handler():
    class Counts:
        seen = 0

        async def __call__(self, flow):
            self.seen += 1

    counts = Counts()
    play(counts, whole(b"a"), whole(b"b"))
    assert counts.seen == 2


def test_as_app_takes_apps_and_coroutine_functions_only():
    app = aiomos.App()
    assert as_app(app) is app
    assert len(as_app(handler).flow_rules) == 1
    for thing in (print, None, 3, "app", handler.__call__):
        with pytest.raises(aiomos.AppError, match="neither"):
            as_app(thing)


def test_filter_that_does_not_compile_is_refused_when_the_app_runs():
    app = aiomos.App()
    app.tcp("prt 80")(handler)
    with pytest.raises(aiomos.FilterError, match="prt 80"):
        play(app, whole())


# ---- while it runs -----------------------------------------------------------------------------


@both_tasks
def test_filters_choose_the_handlers_of_a_flow(tasks):
    app, seen = aiomos.App(), []
    for expression in ("port 40000", "dst port 80", "src port 80", None, "host 10.0.0.9"):

        async def take(flow, expression=expression):
            seen.append((flow.client.port, expression))

        app.tcp(expression)(take)
    play(app, whole(b"a"), whole(b"b"), tasks=tasks)
    assert sorted(seen, key=str) == sorted(
        [
            *[(40000, "port 40000"), (40000, "dst port 80"), (40000, None)],
            *[(40001, "dst port 80"), (40001, None)],
        ],
        key=str,
    )


@pytest.mark.replay_loop
@both_tasks
def test_every_runs_each_period_of_capture_time(tasks):
    app, times = aiomos.App(), []

    @app.every(0.5)
    async def tick():
        times.append(asyncio.get_running_loop().time())

    play(app, slow, tasks=tasks, linger=0)
    assert len(times) in (9, 10)
    steps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
    assert set(steps) == {0.5}


@pytest.mark.replay_loop
@both_tasks
def test_every_never_overlaps_itself(tasks):
    app, running, most = aiomos.App(), [], []

    @app.every(0.5)
    async def tick():
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.75)
        running.pop()

    play(app, slow, tasks=tasks)
    assert max(most) == 1
    assert len(most) >= 3


@both_tasks
def test_every_that_raises_is_logged(tasks, caplog):
    app = aiomos.App()

    @app.every(1)
    async def tick():
        raise LookupError("by intent")

    with caplog.at_level(logging.ERROR, "aiomos"):
        play(app, slow, tasks=tasks)
    assert caplog.records
    assert isinstance(caplog.records[0].exc_info[1], LookupError)


@both_tasks
def test_lifespan_brackets_the_run_and_gives_the_state(tasks):
    app, order = aiomos.App(), []

    @app.lifespan
    async def lifespan(given):
        assert given is app
        order.append("up")
        yield {"state": 1}
        order.append("down")

    @app.tcp()
    async def run(flow):
        order.append(dict(app.state))
        try:
            await asyncio.sleep(1000)
        finally:
            order.append("handler ended")

    play(app, whole(b"a"), tasks=tasks, linger=0.1)
    assert order == ["up", {"state": 1}, "handler ended", "down"]


@both_tasks
def test_two_lifespans_end_in_reverse_order(tasks):
    app, order = aiomos.App(), []
    for name in ("first", "second"):

        async def lifespan(app, name=name):
            order.append(f"{name} up")
            yield name
            order.append(f"{name} down")

        app.lifespan(lifespan)
    play(app, whole(b"a"), tasks=tasks)
    assert order == ["first up", "second up", "second down", "first down"]
    assert app.state == "second"


@both_tasks
def test_lifespan_with_a_task_group_whose_task_fails_ends_the_run_with_that_error(tasks):
    app, order = aiomos.App(), []

    async def fail():
        raise LookupError("by intent")

    @app.lifespan
    async def lifespan(app):
        try:
            async with asyncio.TaskGroup() as group:
                yield group
        finally:
            order.append("down")

    @app.tcp()
    async def run(flow):
        app.state.create_task(fail())
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failed:
        play(app, whole(b"a"), tasks=tasks)
    assert failed.group_contains(LookupError, match="by intent")
    assert order == ["down"]


@both_tasks
@pytest.mark.parametrize("again", [False, True])
def test_lifespan_that_takes_no_notice_of_what_ends_the_run_does_not_undo_it(tasks, again):
    app, seen = aiomos.App(), []

    @app.lifespan
    async def lifespan(app):
        try:
            yield asyncio.current_task()
        except asyncio.CancelledError:
            seen.append("cancelled")
        if again:
            yield

    @app.tcp()
    async def run(flow):
        app.state.cancel()
        await asyncio.Event().wait()

    with pytest.raises(aiomos.ConfigError if again else asyncio.CancelledError):
        play(app, whole(b"a"), tasks=tasks)
    assert seen == ["cancelled"]


@both_tasks
def test_lifespan_that_fails_before_traffic_ends_the_run(tasks):
    app, seen = aiomos.App(), []

    @app.lifespan
    async def lifespan(app):
        raise LookupError("by intent")
        yield

    @app.tcp()
    async def run(flow):
        seen.append(flow)

    with pytest.raises(LookupError, match="by intent"):
        play(app, whole(b"a"), tasks=tasks)
    assert seen == []


@both_tasks
def test_one_app_runs_several_times(tasks):
    app, seen = aiomos.App(), []

    @app.tcp()
    async def run(flow):
        seen.append((flow.id, await flow.client.read()))

    for _ in range(2):
        play(app, whole(b"a"), tasks=tasks)
    assert seen == [(1, b"a"), (1, b"a")]


@both_tasks
def test_app_without_handlers_runs(tasks):
    summary = play(aiomos.App(), whole(b"a"), tasks=tasks)
    assert (summary.processed, summary.handlers_started) == (7, 0)


@both_tasks
def test_sixty_four_handlers_all_see_the_flow(tasks):
    app, seen = aiomos.App(), []
    for number in range(64):

        async def take(flow, number=number):
            await flow.client.read()
            seen.append(number)

        app.tcp()(take)
    play(app, whole(b"abc"), tasks=tasks)
    assert sorted(seen) == list(range(64))


def test_more_handlers_than_the_engine_takes_are_refused():
    app = aiomos.App()
    for _ in range(65):
        app.tcp()(handler)
    with pytest.raises(aiomos.ConfigError):
        play(app, whole(b"abc"))
