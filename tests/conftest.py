"""What all tests share: captures, the corpus, and which tests run only at full size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FULL = os.environ.get("AIOMOS_FULL", "") not in ("", "0")


def corpus_folder() -> Path | None:
    """The corpus of captures with known answers: AIOMOS_CORPUS, else beside the checkout."""
    folder = Path(os.environ.get("AIOMOS_CORPUS") or ROOT.parent / "shared" / "corpus")
    return folder.resolve() if folder.is_dir() else None


def pytest_report_header() -> list[str]:
    """Say at the top what this run can and cannot show."""
    return [
        f"corpus: {corpus_folder() or 'ABSENT'}",
        f"full size: {'yes' if FULL else 'no (AIOMOS_FULL=1 or make acceptance)'}",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests marked `full` out, visibly, unless they were asked for."""
    if FULL:
        return
    skip = pytest.mark.skip(reason="full size: AIOMOS_FULL=1, or make acceptance")
    for item in items:
        if item.get_closest_marker("full") is not None:
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
