"""Every example runs, over a capture that suits it, and says how."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import aiomos_command

from aiomos._loader import load_app

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_example_over_a_capture_prints_results_and_ends_well(example, tasks):
    named = re.search(r"-r (tests/captures/\S+)", example.read_text())
    capture = ROOT / (named[1] if named else "tests/captures/http_demo.pcap")
    done = aiomos_command("run", example, "-r", capture, "--tasks", tasks, "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_says_how_to_run_it_and_has_an_app(example):
    assert f"aiomos run examples/{example.name}" in example.read_text().split('"""')[1]
    load_app(str(example))
