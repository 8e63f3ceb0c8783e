"""What all tests share: captures, the corpus, and which tests run only at full size."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FULL = os.environ.get("AIOMOS_FULL", "") not in ("", "0")
LOOP = os.environ.get("AIOMOS_LOOP") or "replay"


def corpus_folder() -> Path | None:
    """The corpus of captures with known answers: AIOMOS_CORPUS, else beside the checkout."""
    folder = Path(os.environ.get("AIOMOS_CORPUS") or ROOT.parent / "shared" / "corpus")
    return folder.resolve() if folder.is_dir() else None


def pytest_report_header() -> list[str]:
    """Say at the top what this run can and cannot show."""
    return [
        f"corpus: {corpus_folder() or 'ABSENT'}",
        f"full size: {'yes' if FULL else 'no (AIOMOS_FULL=1 or make acceptance)'}",
        f"conversations are played on: {LOOP} (AIOMOS_LOOP: replay, asyncio or uvloop)",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, visibly, what is marked for another kind of run than this one."""
    if not FULL:
        leave_out(items, "full", "full size: AIOMOS_FULL=1, or make acceptance")
    if LOOP != "replay":
        leave_out(items, "replay_loop", "needs the loop of replays (AIOMOS_LOOP)")


def leave_out(items: list[pytest.Item], mark: str, reason: str) -> None:
    skip = pytest.mark.skip(reason=reason)
    for item in items:
        if item.get_closest_marker(mark) is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of the corpus; a test that asks for it is skipped where there is none."""
    folder = corpus_folder()
    if folder is None:
        pytest.skip("no corpus: set AIOMOS_CORPUS, or put it at ../shared/corpus")
    return folder


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of the project's own captures (tests/captures/README.md)."""
    return ROOT / "tests" / "captures"


@pytest.fixture(autouse=True)
def nothing_leaks(aiomos_no_leaks: None) -> None:
    """Every engine that served to its end gives back flows, tasks, buffers and frames."""


@pytest.fixture
def deadline() -> Iterator[None]:
    """A test that hangs fails after a minute of real time."""

    def expire(*_: object) -> None:
        raise AssertionError("the test hangs")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
