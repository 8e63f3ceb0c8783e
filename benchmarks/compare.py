"""aiomos and its peers side by side: ``python -m benchmarks.compare [--quick]``.

Every program is run whole, as a process; what counts is its CPU time, user and system. The exit
status is 1 if a program failed or counted other bytes than the capture holds; never because
something was slow.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generate, programs, report
from benchmarks.contest import Contest, compete


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int = 9
    short_packets: int = 2_000_000
    data_packets: int = 1_000_000
    live: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)


QUICK = Plan(rounds=3, short_packets=100_000, data_packets=100_000, live=(1_000, 10_000))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small captures")
    parser.add_argument("--suite", choices=("read", "no-handler", "all"), default="all")
    parser.add_argument("--only", help="names of programs, separated by commas")
    parser.add_argument("--runs", type=int, help="rounds (default 9, quick 3)")
    parser.add_argument("--packets", type=int, help="packets of short connections to generate")
    parser.add_argument("--flows", help="live flows without handler, separated by commas")
    parser.add_argument("--capture", type=Path, help="read this capture (NAME.json beside it)")
    parser.add_argument("--json", type=Path, help="where to write JSON")
    return parser.parse_args()


def _plan(args: argparse.Namespace) -> Plan:
    base = QUICK if args.quick else Plan()
    flows = tuple(int(word) for word in args.flows.split(",")) if args.flows else base.live
    return Plan(
        rounds=args.runs or base.rounds,
        short_packets=args.packets or base.short_packets,
        data_packets=base.data_packets,
        live=flows,
    )


def _read(plan: Plan, args: argparse.Namespace) -> Contest:
    path: Path | None = args.capture
    capture = generate.load(path) if path else generate.short(plan.short_packets)
    entrants = programs.chosen(programs.reading(), args.only)
    return compete("every byte read", entrants, capture, plan.rounds)


def _no_handler(plan: Plan, args: argparse.Namespace, flows: int) -> Contest:
    capture = generate.live(flows, max(plan.data_packets, 2 * flows))
    opening = generate.beginning(capture, capture.number("handshake_packets"))
    entrants = programs.chosen(programs.without_handler(), args.only)
    return compete(f"no handler, {flows:,} live flows", entrants, capture, plan.rounds, opening)


def _contests(plan: Plan, args: argparse.Namespace) -> Iterator[Contest]:
    if args.suite in ("read", "all"):
        yield _read(plan, args)
    if args.suite in ("no-handler", "all"):
        for flows in plan.live:
            yield _no_handler(plan, args, flows)


def main() -> int:
    """Compare, print, write JSON; the number of problems decides the exit status."""
    args = _arguments()
    before = report.circumstances()
    finished: list[Contest] = []
    for contest in _contests(_plan(args), args):
        print(report.table(contest), end="\n\n", flush=True)
        finished.append(contest)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = args.json or Path(__file__).parent / "results" / f"{stamp}.json"
    report.write_json(path, before, finished)
    problems = [problem for contest in finished for problem in contest.problems]
    for problem in problems:
        print(f"!!! MISMATCH OR FAILURE: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
