"""What the tests of the core begin with: a core whose flows are read, and a connection in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import Talk, assert_idle


@pytest.fixture
def driver() -> Iterator[Any]:
    """A core with default options; at the end it holds nothing."""
    from aiomos._engine._testcore import CoreDriver  # the package's own tests have the hooks

    driver = CoreDriver()
    yield driver
    assert_idle(driver)


@pytest.fixture(params=[1000, 2**32 - 8])
def talk(driver: Any, request: pytest.FixtureRequest) -> Talk:
    """A connection that is established, and whose sequence numbers soon wrap."""
    talk = Talk(driver.input, isn=(request.param, 2**32 - 5))
    talk.handshake()
    return talk
