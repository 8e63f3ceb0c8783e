"""The pytest plugin: fixtures, and a virtual clock for tests that are coroutines.

It is loaded by pytest itself (entry point ``pytest11``). Coroutines are run by pytest-asyncio, in
either of its modes; this plugin only tells it which loop a test wants.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomos import testing
from aiomos.testing import Result, SteppedEngine
from aiomos.testing._leaks import no_leaks

MARK = "aiomos"
_FIXTURE = "aiomos_engine"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", f"{MARK}: run the test, a coroutine, on a loop with a virtual clock"
    )


class _VirtualClock:
    """Tells pytest-asyncio (1.4 or newer) which loop to make."""

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(self, config: object, item: object) -> dict[str, Any]:
        return {"aiomos": testing.new_event_loop}


@pytest.hookimpl(hookwrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """The hook above exists only while a test that wants it is collected.

    pytest-asyncio asks for loops here, and takes the mere presence of that hook for a wish that
    concerns all tests: those of others must not notice that this plugin is installed.
    """
    wanted = _FIXTURE in metafunc.fixturenames or metafunc.definition.get_closest_marker(MARK)
    plugins = metafunc.config.pluginmanager
    clock = plugins.register(_VirtualClock()) if wanted else None
    yield
    if clock is not None:
        plugins.unregister(name=clock)


@pytest.fixture
def aiomos_engine(aiomos_no_leaks: None) -> Callable[..., SteppedEngine]:
    """:func:`aiomos.testing.engine`, for ``async with aiomos_engine(app) as engine:``.

    The test that asks for it runs on a virtual clock; nothing may leak.
    """
    return testing.engine


@pytest.fixture
def aiomos_replay(aiomos_no_leaks: None, request: pytest.FixtureRequest) -> Callable[..., Result]:
    """:func:`aiomos.testing.run`, for ``result = aiomos_replay(app, "capture.pcap")``.

    Paths are relative to the folder of the test's file; nothing may leak.
    """
    folder = request.path.parent

    @functools.wraps(testing.run)
    def replay(app: Any, *traffic: Any, **options: Any) -> Result:
        __tracebackhide__ = True
        return testing.run(app, *(_in(folder, one) for one in traffic), **options)

    return replay


def _in(folder: Path, one: Any) -> Any:
    return folder / one if isinstance(one, str | os.PathLike) else one


@pytest.fixture
def aiomos_no_leaks() -> Iterator[None]:
    """At the end of the test, every engine that served to its end must hold nothing any more.

    Flows, tasks, buffers and frames are counted. ``pytestmark =
    pytest.mark.usefixtures("aiomos_no_leaks")`` takes it for a whole file.
    """
    __tracebackhide__ = True
    with no_leaks():
        yield
