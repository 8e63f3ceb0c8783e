"""One program, run whole as a process: what it printed and what it used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCHER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py"))]


class ProgramFailed(Exception):
    """A program ended with an error, or printed no result."""


@dataclass(frozen=True)
class Run:
    """What one process used, its children included.

    Seconds of wall clock, seconds of CPU (user and system), bytes of peak resident memory (of the
    largest process, if there are several), and the JSON object it printed last.
    """

    wall: float
    cpu: float
    rss: int
    result: dict[str, int]


def run(command: Sequence[str]) -> Run:
    """Run ``command`` to its end."""
    done = subprocess.run([*_LAUNCHER, *command], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) < 2:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        called = " ".join(Path(word).name for word in command)
        raise ProgramFailed(f"{called}: status {done.returncode}\n{tail}")
    return Run(**json.loads(lines[-1]), result=json.loads(lines[-2]))
