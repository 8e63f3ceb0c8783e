"""Two workers beside one, on one capture: ``python -m benchmarks.workers [--quick]``.

Each worker reads the whole file, decodes up to the flow, and follows its own share of them, every
byte read (``read_flows.py``). A round is one run of each, a moment apart; what counts is the ratio
of the wall clock, start and end included. Nothing fails because it was slow.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import generate
from benchmarks.report import columns
from benchmarks.spread import Spread, ratios

REQUIRED = 1.8
APP = Path(__file__).with_name("read_flows.py")


def rate(capture: generate.Capture, workers: int) -> float:
    """Packets a second of so many workers; all of them were processed."""
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
    return capture.packets / passed


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
    one, two = [], []
    for _ in range(args.rounds or (2 if args.quick else 7)):
        one.append(rate(capture, 1))
        two.append(rate(capture, 2))
    ratio = ratios(two, one)
    assert ratio is not None
    rows = [
        ("workers", "packets/s", "of one's", "required"),
        ("1", f"{Spread.of(one):,.0f}", "1", ""),
        ("2", f"{Spread.of(two):,.0f}", f"{ratio:.2f}", f"{REQUIRED:.1f}"),
    ]
    print(columns(rows))


if __name__ == "__main__":
    main()
