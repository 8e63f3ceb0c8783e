"""The pytest plugin in projects of others: found by its entry point, beside pytest-asyncio."""

from __future__ import annotations

import asyncio
import gc
import re
import textwrap
from pathlib import Path

import pytest

import aiomos
from aiomos import testing
from aiomos.testing import Conversation, client
from aiomos.testing._leaks import held

pytest_plugins = "pytester"

DOCS = Path(__file__).resolve().parents[2] / "docs" / "testing.md"

HEAD = """
import asyncio, logging
import pytest, aiomos
from aiomos.testing import Conversation, client

seen = []

async def handler(flow):
    async with asyncio.timeout(3600):
        seen.append(await flow.client.readline())
"""

TEST = """
async def test_virtual(aiomos_engine):
    async with aiomos_engine(handler) as engine:
        await engine.play(Conversation().handshake().data(client, b"x\\n"))
        assert seen == [b"x\\n"]
        await engine.wait(7200)

{mark}
async def test_ordinary():
    assert type(asyncio.get_running_loop()).__name__ != "ReplayLoop"
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project of somebody else's: its tests, in a mode of pytest-asyncio."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def make(code, mode="auto", head=HEAD, **files):
        pytester.makeini(
            f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
            "addopts = --strict-markers\n"
        )
        pytester.makepyfile(test_it=head + textwrap.dedent(code), **files)
        return pytester.runpytest_subprocess("-v")

    return make


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_fresh_project_in_either_mode_has_the_clock_where_it_asked(project, mode):
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    result = project(mark + TEST.format(mark=mark), mode)
    result.assert_outcomes(passed=2)
    # Names of tests are as without the plugin: no parameter was added.
    result.stdout.fnmatch_lines(["*::test_virtual PASSED*", "*::test_ordinary PASSED*"])


def test_mark_gives_the_clock_and_async_fixtures_share_it(project):
    code = """
    pytestmark = pytest.mark.aiomos

    @pytest.fixture
    async def an_hour_later():
        await asyncio.sleep(3600)
        return asyncio.get_running_loop()

    @pytest.mark.parametrize("n", [1, 2])
    async def test_marked(an_hour_later, n):
        assert asyncio.get_running_loop() is an_hour_later
        assert an_hour_later.time() >= 3600
    """
    project(code).assert_outcomes(passed=2)


def test_loops_that_the_project_wants_stay_with_its_other_tests(project):
    conftest = """
        import asyncio

        class Mine(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories(config, item):
            return {"mine": Mine}
    """
    code = """
    async def test_mine():
        assert type(asyncio.get_running_loop()).__name__ == "Mine"

    async def test_virtual(aiomos_engine):
        async with aiomos_engine(handler) as engine:
            await engine.wait(1)
    """
    project(code, conftest=textwrap.dedent(conftest)).assert_outcomes(passed=2)


def test_replay_takes_paths_from_the_folder_of_the_test(project, pytester):
    Conversation().handshake().data(client, b"x\n").close().save(pytester.path / "talk.pcap")
    code = """
    def test_replay(aiomos_replay, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert aiomos_replay(handler, "talk.pcap").flow().close_reason == "FIN"
        assert seen == [b"x\\n"]
    """
    project(code).assert_outcomes(passed=1)


def test_leak_is_an_error_of_the_test_that_has_it(project):
    code = """
    def test_leaky(aiomos_no_leaks):
        source = aiomos.MemorySource(Conversation().handshake().frames())
        first = source.take(1)
        aiomos.run(handler, source)

    def test_tight(aiomos_replay):
        aiomos_replay(handler, Conversation().handshake().data(client, b"x\\n"))
    """
    result = project(code)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*::test_tight PASSED*", "*held after the end of the run:*'frames': 1*"]
    )


def test_failing_handler_fails_the_test_with_its_own_traceback(project):
    code = """
    async def checks(flow):
        assert await flow.client.readline() == b"wanted"

    def test_it(aiomos_replay):
        aiomos_replay(checks, Conversation().handshake().data(client, b"got\\n"))
    """
    result = project(code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['*assert await flow.client.readline() == b"wanted"*', "*b'got\\n' == b'wanted'*"]
    )


def test_project_without_pytest_asyncio_keeps_the_rest(project, pytester):
    pytester.makepyfile(
        test_it=HEAD
        + textwrap.dedent("""
    def test_replay(aiomos_replay):
        aiomos_replay(handler, Conversation().handshake().data(client, b"x\\n"))
    """)
    )
    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_loop_with_another_clock_is_refused_with_what_to_do():
    async def handler(flow):
        pass

    async def main():
        async with testing.engine(handler):
            pass

    with pytest.raises(aiomos.ConfigError, match="aiomos_engine"):
        asyncio.run(main())


def test_loop_of_ones_own_serves_where_there_is_no_plugin():
    async def main():
        async with testing.engine(handler) as engine:
            await engine.play(Conversation().handshake())
            await engine.wait(3600)
        return engine.result

    async def handler(flow):
        await asyncio.sleep(1800)

    with asyncio.Runner(loop_factory=testing.new_event_loop) as runner:
        assert runner.run(main()).flow().handlers


# ---- what counts as a leak --------------------------------------------------------------------


def served(app, talk, **options):
    """The engine of a run to its end."""
    engine = aiomos.Engine(aiomos.MemorySource(talk.frames()), **options)
    with asyncio.Runner(loop_factory=testing.new_event_loop) as runner:
        runner.run(engine.serve(app))
    return engine


async def reads(flow):
    await flow.client.read()


TALK = Conversation().handshake().data(client, b"x")


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_engine_at_its_end_holds_nothing(tasks):
    assert held(served(reads, TALK, tasks=tasks)) == {}


def test_engine_that_never_served_holds_nothing():
    assert held(aiomos.Engine(aiomos.MemorySource([]))) == {}


def test_flow_that_the_test_still_has_is_no_leak_and_gone_it_is_none():
    kept = []

    async def keeps(flow):
        kept.append(flow)
        await flow.client.read()

    engine = served(keeps, TALK)
    assert engine.core.usage()["flow_entries"] == 1
    assert held(engine) == {}
    assert engine.core.usage()["flow_entries"] == 1
    kept.clear()
    gc.collect()
    assert engine.core.usage()["flow_entries"] == 0


def test_engine_that_was_broken_off_is_not_judged():
    async def main():
        engine = aiomos.Engine(aiomos.MemorySource(TALK.frames()))
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await engine.serve(reads)

    with testing.no_leaks(), pytest.raises(asyncio.CancelledError):
        with asyncio.Runner(loop_factory=testing.new_event_loop) as runner:
            runner.run(main())


# ---- the page about it ------------------------------------------------------------------------


def examples():
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    return blocks


def test_ten_lines_are_ten_and_pass(project):
    first = examples()[0]
    lines = [line for line in first.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 10
    project(first, head="").assert_outcomes(passed=1)


def test_every_example_of_the_page_passes(project):
    result = project("\n".join(examples()), head="")
    assert result.ret == 0
    for name in re.findall(r"def (test_\w+)", "".join(examples())):
        result.stdout.fnmatch_lines([f"*::{name}* PASSED*"])
