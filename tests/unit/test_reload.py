"""A live run takes another app: new flows on new code, open ones stay with the old."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import ACK, SYN
from kit import LOOPS, both_tasks
from line import PATIENCE, serve, served_live, until  # noqa: F401

import aiomos
from aiomos._engine.errors import ConfigError

pytestmark = [pytest.mark.parametrize("loop", LOOPS), both_tasks]


class Notes(list):
    """What apps noted; `app(name)` is one that notes its lines and its life."""

    def app(self, name, filter="port 80", lifespan=None):
        app = aiomos.App()

        @app.tcp(filter)
        async def lines(flow):
            assert app.state == name, "its lifespan has ended"
            async for line in flow.client.lines():
                self.append((name, line.decode()))
                assert app.state == name, "its lifespan has ended"

        @app.lifespan
        async def life(app):
            self.append((name, "begins"))
            try:
                yield name
            finally:
                self.append((name, "ends"))
                app.state = None

        if lifespan is not None:
            app.lifespan(lifespan)
        return app

    async def until(self, *wanted):
        await until(lambda: set(wanted) <= set(self))

    def of(self, name):
        return [what for who, what in self if who == name]


def test_open_flow_stays_with_its_code_and_new_ones_are_on_new_code(play):
    notes = Notes()

    async def story(line, engine):
        old = line.greeting(b"1\n")
        await notes.until(("old", "1"))
        await engine.reload(notes.app("new"))
        new = line.greeting(b"2\n")
        old.c(b"3\n")
        await notes.until(("new", "2"), ("old", "3"))
        assert "ends" not in notes.of("old")
        old.close()
        await notes.until(("old", "ends"))
        new.c(b"4\n")
        await notes.until(("new", "4"))
        assert engine.flow_tasks()

    summary = play(notes.app("old"), story)
    assert notes.of("old") == ["begins", "1", "3", "ends"]
    assert notes.of("new") == ["begins", "2", "4", "ends"]
    assert (summary.handlers_started, summary.handler_errors) == (2, 0)
    assert summary.received == summary.processed == 3 + 1 + 3 + 1 + 1 + 3 + 1


def test_flow_that_has_not_begun_stays_with_the_code_that_wanted_it(play):
    """Between SYN and ACK no handler runs; the lifespan that it will need goes on."""
    notes = Notes()

    async def story(line, engine):
        talk = line.talk()
        talk.c(flags=SYN)
        await until(lambda: engine.core.usage()["flows"])
        await engine.reload(notes.app("new"))
        await asyncio.sleep(0.3)  # time in which the old one would have ended
        assert "ends" not in notes.of("old")
        talk.s(flags=SYN | ACK)
        talk.c()
        talk.c(b"1\n")
        await notes.until(("old", "1"))
        await asyncio.sleep(0.3)
        talk.c(b"2\n")
        await notes.until(("old", "2"))
        talk.close()
        await notes.until(("old", "ends"))

    summary = play(notes.app("old"), story)
    assert notes.of("old") == ["begins", "1", "2", "ends"]
    assert summary.handler_errors == 0


def test_old_lifespan_without_flows_ends_behind_the_beginning_of_the_new_one(play):
    notes = Notes()

    async def story(line, engine):
        await engine.reload(notes.app("new"))
        await notes.until(("old", "ends"))

    play(notes.app("old"), story)
    whole = [("old", "begins"), ("new", "begins"), ("old", "ends"), ("new", "ends")]
    assert notes == whole


def test_drain_over_the_old_lifespan_ends_and_its_flow_goes_on(play):
    notes = Notes()
    app = aiomos.App()

    @app.tcp()
    async def lines(flow):
        async for line in flow.client.lines():
            notes.append(("old", line.decode()))

    @app.lifespan
    async def life(app):
        yield
        notes.append(("old", "ends"))

    async def story(line, engine):
        engine._generations._drain = 0.1
        talk = line.greeting(b"1\n")
        await notes.until(("old", "1"))
        await engine.reload(notes.app("new"))
        await notes.until(("old", "ends"))
        talk.c(b"2\n")
        await notes.until(("old", "2"))

    play(app, story)
    assert notes.of("old") == ["1", "ends", "2"]


def test_reloaded_twice_each_flow_stays_with_its_own(play):
    notes = Notes()

    async def story(line, engine):
        talks = {}
        for name in "abc":
            if name != "a":
                await engine.reload(notes.app(name))
            talks[name] = line.greeting(b"first\n")
            await notes.until((name, "first"))
        for name, talk in talks.items():
            talk.c(b"second\n")
            await notes.until((name, "second"))
        talks["b"].close()
        await notes.until(("b", "ends"))

    play(notes.app("a"), story)
    for name in "abc":
        assert notes.of(name) == ["begins", "first", "second", "ends"]
    ends = [who for who, what in notes if what == "ends"]
    assert sorted(ends) == ["a", "b", "c"]
    assert ends[0] == "b"


def test_lifespans_hold_task_groups_and_all_is_one_task(play):
    notes, found = Notes(), []

    async def group(app):
        async with asyncio.TaskGroup() as tasks:
            child = tasks.create_task(asyncio.sleep(PATIENCE))
            found.append(asyncio.current_task())
            yield app.state
            found.append(asyncio.current_task())
            child.cancel()

    async def story(line, engine):
        for name in "bc":
            await engine.reload(notes.app(name, lifespan=group))
        await notes.until(("a", "ends"), ("b", "ends"))

    play(notes.app("a", lifespan=group), story)
    assert len(found) == 6
    assert len(set(found)) == 1


def test_every_of_the_old_code_rests_and_that_of_the_new_one_begins(play):
    notes = Notes()

    def ticking(name):
        app = notes.app(name)

        @app.every(0.001)
        async def tick():
            notes.append((name, "tick"))

        return app

    async def story(line, engine):
        await notes.until(("old", "tick"))
        await engine.reload(ticking("new"))
        count = notes.count(("old", "tick"))
        await notes.until(("new", "tick"))
        assert notes.count(("old", "tick")) == count

    play(ticking("old"), story)


def test_functions_of_packets_and_events_are_replaced(play):
    notes = Notes()

    def hearing(name):
        app = notes.app(name)

        @app.packet("tcp port 80")
        def packet(packet):
            notes.append((name, "packet"))

        @app.on(aiomos.ConnectionStart)
        def start(flow, event, packet):
            notes.append((name, "start"))

        return app

    async def story(line, engine):
        for name in ("old", "new"):
            if name == "new":
                await engine.reload(hearing(name))
            line.talk().c(flags=SYN)
            await notes.until((name, "packet"), (name, "start"))

    play(hearing("old"), story)
    told = [[notes.count((name, what)) for what in ("packet", "start")] for name in ("old", "new")]
    assert told[0] == told[1]  # each heard of one packet, and nothing of the other's
    assert told[0][0] == 1


async def raises(app):
    raise LookupError("by intent")
    yield


async def never_begins(app):
    await asyncio.Event().wait()
    yield


def broken(notes, how):
    if how == "lifespan":
        return notes.app("bad", lifespan=raises), LookupError
    if how == "filter":
        return notes.app("bad", filter="port"), aiomos.FilterError
    app = notes.app("bad")
    for _ in range(64):
        app.tcp()(nothing)
    return app, ConfigError


async def nothing(flow):
    pass


@pytest.mark.parametrize("how", ["lifespan", "filter", "too many"])
def test_app_that_cannot_be_served_leaves_all_as_it_was(play, how):
    notes = Notes()

    async def story(line, engine):
        app, error = broken(notes, how)
        with pytest.raises(error):
            await engine.reload(app)
        assert notes.of("bad") == ["begins", "ends"]
        for _ in range(2):
            line.greeting(b"1\n")
        await until(lambda: notes.of("old").count("1") == 2)
        await engine.reload(notes.app("new"))
        line.greeting(b"2\n")
        await notes.until(("new", "2"))

    play(notes.app("old"), story)
    assert notes.of("old") == ["begins", "1", "1", "ends"]


def test_reloaded_as_often_as_anybody_likes(play):
    """More often than there are bits for handlers in the mask of a flow."""
    notes = Notes()

    async def story(line, engine):
        first = line.greeting(b"1\n")
        await notes.until(("0", "1"))
        for number in range(1, 150):
            await engine.reload(notes.app(str(number)))
        line.greeting(b"2\n")
        await notes.until(("149", "2"))
        first.c(b"3\n")
        await notes.until(("0", "3"))

    summary = play(notes.app("0"), story)
    assert notes.of("0") == ["begins", "1", "3", "ends"]
    assert notes.of("149") == ["begins", "2", "ends"]
    assert all(notes.of(str(number)) == ["begins", "ends"] for number in range(1, 149))
    assert summary.handlers_started == 2


def waiting(notes, name, count):
    """An app with so many handlers, which begin with the first data."""
    app = notes.app(name, filter="port 81")
    for number in range(count):

        @app.tcp("port 80", start="data")
        async def notes_data(flow, number=number):
            notes.append((name, number))

    return app


def test_handlers_that_flows_have_yet_to_begin_with_keep_their_place(play):
    notes = Notes()

    async def story(line, engine):
        talk = line.greeting()
        await until(lambda: engine.core.usage()["flows"])
        await engine.reload(waiting(notes, "new", 22))
        later = line.greeting()
        await until(lambda: engine.core.usage()["flows"] == 2)
        with pytest.raises(ConfigError) as caught:
            await engine.reload(waiting(notes, "one too many", 2))
        said = "3 handlers are too many now: open flows have yet to begin with 62 of older code"
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)
        for one in (talk, later):
            one.c(b"1\n")
        await notes.until(("old", 39), ("new", 21))
        await engine.reload(waiting(notes, "newest", 63))
        last = line.greeting()  # which waits with bits that were others'
        await until(lambda: engine.core.usage()["flows"] == 3)
        await notes.until(("old", "ends"), ("new", "ends"))
        last.c(b"2\n")
        await notes.until(("newest", 62))

    play(waiting(notes, "old", 40), story)
    assert notes.of("old") == ["begins", *range(40), "ends"]
    assert notes.of("new") == ["begins", *range(22), "ends"]
    assert notes.of("one too many") == ["begins", "ends"]
    assert notes.of("newest") == ["begins", *range(63), "ends"]


def test_who_asked_has_given_up_and_the_run_goes_on(play):
    notes, go = Notes(), asyncio.Event()

    async def slow(app):
        await go.wait()
        yield app.state

    async def story(line, engine):
        asking = asyncio.create_task(engine.reload(notes.app("new", lifespan=slow)))
        await notes.until(("new", "begins"))
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        go.set()
        await notes.until(("old", "ends"))
        line.greeting(b"1\n")
        await notes.until(("new", "1"))

    play(notes.app("old"), story)
    assert notes.of("new") == ["begins", "1", "ends"]


def test_run_that_is_stopped_does_not_wait_for_a_lifespan_that_never_begins(play):
    notes = Notes()

    async def story(line, engine):
        asking = asyncio.create_task(engine.reload(notes.app("new", lifespan=never_begins)))
        await notes.until(("new", "begins"))
        engine.stop()
        with pytest.raises((ConfigError, TimeoutError)):
            await asking

    play(notes.app("old"), story)
    assert notes.of("old") == ["begins", "ends"]
    assert notes.of("new") == ["begins", "ends"]


def test_old_lifespan_that_fails_at_its_end_is_told_and_the_run_goes_on(play, caplog):
    notes = Notes()

    async def fails(app):
        yield app.state
        raise LookupError("by intent")

    async def story(line, engine):
        await engine.reload(notes.app("new"))
        await until(lambda: "failed at its end" in caplog.text)
        line.greeting(b"1\n")
        await notes.until(("new", "1"))

    play(notes.app("old", lifespan=fails), story)
    assert "by intent" in caplog.text


def test_run_that_is_over_reloads_nothing(play):
    notes, engines = Notes(), []

    async def story(line, engine):
        engines.append(engine)

    play(notes.app("old"), story)

    async def late():
        with pytest.raises(ConfigError, match="the run is over"):
            await engines[0].reload(notes.app("new"))

    asyncio.run(late())
    assert notes.of("new") == []


def test_replay_reloads_nothing(loop, tasks):
    async def main():
        async with aiomos.Engine(aiomos.MemorySource([]), tasks=tasks) as engine:
            with pytest.raises(ConfigError, match="begin it again"):
                await engine.reload(nothing)

    asyncio.run(main())


def test_statistics_that_only_the_new_code_wants_are_kept_from_then_on(play):
    found = []
    new = aiomos.App()

    @new.tcp()
    async def counts(flow):
        await flow.closed()
        found.append(flow.stats)

    async def story(line, engine):
        await engine.reload(new)
        talk = line.greeting(b"abc")
        talk.close()
        await until(lambda: found)

    play(nothing, story)
    assert found
