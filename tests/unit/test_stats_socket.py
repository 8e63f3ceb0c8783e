"""Statistics for another terminal: who may ask, and what is said where there is nobody to ask."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import aiomos_command

from aiomos._engine.errors import ConfigError
from aiomos._metrics import WorkerStats
from aiomos._statsocket import answering, ask, folder, running
from aiomos._statsview import report_of


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "aiomos"


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return process.pid


async def report():
    return report_of("somewhere", [WorkerStats(received=5, processed=3, filtered=2)])


def test_run_answers_its_user_alone_and_leaves_nothing(place):
    async def main():
        async with answering(report) as path:
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert running() == [os.getpid()]
            told = await asyncio.to_thread(ask, os.getpid())
        return told

    told = asyncio.run(main())
    assert told["source"] == "somewhere"
    assert told["workers"][0]["received"] == 5
    assert list(place.iterdir()) == []


def test_folder_that_cannot_be_made_leaves_the_run_without_a_socket(place):
    place.write_text("in the way")

    async def main():
        async with answering(report) as path:
            return path

    assert asyncio.run(main()) is None


def test_socket_left_behind_is_removed_and_others_stay(place, dead):
    place.mkdir()
    for name in (f"{dead}.sock", f"{os.getpid()}.sock", "other.sock"):
        (place / name).touch()
    assert running() == [os.getpid()]
    assert {path.name for path in place.iterdir()} == {f"{os.getpid()}.sock", "other.sock"}
    assert folder() == place


def test_process_that_does_not_answer_is_no_run(place):
    place.mkdir()
    (place / f"{os.getpid()}.sock").touch()
    with pytest.raises(ConfigError, match="is no live run of aiomos of this user"):
        ask(os.getpid())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no live run of aiomos of this user"),
        (("1",), "process 1 is no live run of aiomos of this user"),
        (("none",), "'none' is not a valid integer"),
        (("--watch", "0"), "0"),
    ],
)
def test_command_with_nobody_to_ask_fails_in_one_line(args, said):
    done = aiomos_command("stats", *args)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_command_with_two_runs_wants_one_named(place):
    place.mkdir()
    for pid in (os.getpid(), os.getppid()):
        (place / f"{pid}.sock").touch()
    done = aiomos_command("stats")
    assert done.returncode == 2
    assert b"several runs: name one of" in done.stderr
