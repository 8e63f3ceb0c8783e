"""DPDK in processes of their own: it starts once a process, and leaves threads behind.

A *scene* is a function in `dpdk_scenes/`; `act` plays it in a new process and gives back what
it returned, `Actor` plays one that others talk with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

SCENES = Path(__file__).parent / "dpdk_scenes"
PATIENCE = 120.0
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
HUGE_NEEDED = 64

needs_dpdk = pytest.mark.skipif(
    importlib.util.find_spec("aiomos._engine._dpdk") is None, reason="built without DPDK"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class SceneError(Exception):
    """What a scene raised: its type and message."""


def command(scene: str, arguments: dict[str, Any]) -> list[str]:
    return [sys.executable, str(SCENES), scene, json.dumps(arguments)]


def act(scene: str, **arguments: Any) -> Any:
    """Plays a scene to its end; what it returned. SceneError for what it raised."""
    done = subprocess.run(
        command(scene, arguments), capture_output=True, text=True, timeout=PATIENCE
    )
    lines = done.stdout.splitlines()
    assert lines, f"the scene said nothing (status {done.returncode}): {done.stderr}"
    return answer_of(lines[-1])


def answer_of(line: str) -> Any:
    answer = json.loads(line)
    if "raised" in answer:
        raise SceneError(answer["raised"])
    return answer["returned"]


class Actor:
    """A scene that goes on: it says something, waits for a word, says something..."""

    def __init__(self, scene: str, **arguments: Any) -> None:
        self.process = subprocess.Popen(
            command(scene, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nobody talks to it any more: it ends, or is ended."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE if exc_info[0] is None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def hear(self) -> Any:
        """The next thing that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with status {self.process.wait()}"
        return answer_of(line)

    def tell(self, word: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def ask(self, word: str = "go") -> Any:
        self.tell(word)
        return self.hear()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def huge_pages(folder: Path) -> Iterator[Path]:
    """A hugetlbfs mounted for the test, with free pages; skips where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to reserve huge pages")
    before = int(HUGE_PAGES.read_text())
    if free_pages() < HUGE_NEEDED:
        with contextlib.suppress(OSError):
            HUGE_PAGES.write_text(str(before + HUGE_NEEDED))
    try:
        if free_pages() < HUGE_NEEDED:
            pytest.skip(f"no {HUGE_NEEDED} huge pages of 2 MiB can be had")
        mounted = subprocess.run(
            ["mount", "-t", "hugetlbfs", "aiomos-test", folder], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"hugetlbfs cannot be mounted: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        if int(HUGE_PAGES.read_text()) != before:
            HUGE_PAGES.write_text(str(before))


def free_pages() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("HugePages_Free:"):
            return int(line.split()[1])
    return 0
