"""What tests of live runs share: two hosts on a cable, and runs that end with their test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live


@pytest.fixture(scope="module")
def wire() -> Iterator[live.Wire]:
    """Two hosts on a cable, for all tests of a module."""
    with live.wire() as built:
        yield built


class Here:
    """Where a run needs no host of its own."""

    entered = staticmethod(contextlib.nullcontext)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., live.Run]]:
    """Starts `aiomos run` with an app of this text, here; ended when the test is."""
    with contextlib.ExitStack() as stack:

        def run(text: str, *args: object, **options: object) -> live.Run:
            app = tmp_path / "app.py"
            app.write_text(text)
            folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(live.started(Here(), folder, app, *args, **options))

        yield run
