"""Two workers beside one, on one capture: ``python -m benchmarks.workers [--quick]``.

Each worker reads the whole file, looks at each frame as far as the flow, and follows its own share
of them, every byte read (``read_flows.py``). A round is one run of each, a moment apart, and one of
each on an empty capture. Two ratios of the wall clock: of whole runs, start and end included, and
of the throughput, without what the empty one took. Nothing fails because it was slow.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import generate
from benchmarks.report import columns
from benchmarks.spread import Spread, ratios

REQUIRED = 1.8
APP = Path(__file__).with_name("read_flows.py")


def seconds(capture: generate.Capture, workers: int) -> float:
    """How long a run of so many workers takes; all packets were processed."""
    words = [sys.executable, "-m", "aiomos.cli", "run", str(APP), "-r", str(capture.path)]
    began = time.perf_counter()
    done = subprocess.run(
        [*words, "--workers", str(workers), "--stall", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    passed = time.perf_counter() - began
    found = re.search(r"^(\d+) packets processed", done.stderr, re.MULTILINE)
    if done.returncode or found is None or int(found[1]) != capture.packets:
        raise SystemExit(f"{workers} workers: status {done.returncode}\n{done.stderr}")
    return passed


@dataclass
class Runs:
    """Packets a second of so many workers, round by round."""

    workers: int
    whole: list[float] = field(default_factory=list)
    without_start: list[float] = field(default_factory=list)

    def measure(self, capture: generate.Capture) -> None:
        """One round."""
        start = seconds(generate.empty(), self.workers)
        passed = seconds(capture, self.workers)
        self.whole.append(capture.packets / passed)
        self.without_start.append(capture.packets / (passed - start))


def table(one: Runs, two: Runs) -> str:
    """Both counts, with and without the start."""
    rows = [("packets a second", "1 worker", "2 workers", "of one's", "required")]
    for name, ours, theirs in (
        ("start and end included", two.whole, one.whole),
        ("without them", two.without_start, one.without_start),
    ):
        both = (f"{Spread.of(theirs):,.0f}", f"{Spread.of(ours):,.0f}")
        rows.append((name, *both, f"{ratios(ours, theirs):.2f}", f"{REQUIRED:.1f}"))
    return columns(rows)


def main() -> None:
    """Run, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--rounds", type=int, help="pairs of runs (default 7, quick 2)")
    parser.add_argument("--packets", type=int, help="in the capture (default 4 million)")
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        print("one core: nothing to share out")
        return
    capture = generate.short(args.packets or (100_000 if args.quick else 4_000_000))
    one, two = Runs(1), Runs(2)
    for _ in range(args.rounds or (2 if args.quick else 7)):
        one.measure(capture)
        two.measure(capture)
    print(table(one, two))


if __name__ == "__main__":
    main()
