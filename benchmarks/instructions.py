"""Instructions a packet without a handler: ``python -m benchmarks.instructions``.

Each program runs on a capture with n packets after the handshakes and on one with 2n; what the
second executes more, divided by n, is the figure. Start, handshakes and end cancel out. Counted by
``perf stat`` where the processor lets itself be counted, else by valgrind's callgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import generate, programs, report
from benchmarks.programs import Program

Counter = Callable[[Sequence[str]], int]
_ENVIRONMENT = {**os.environ, "PYTHONHASHSEED": "0"}


def _last_number(pattern: str, text: str) -> int | None:
    found = re.findall(pattern, text)
    return int(found[-1].replace(",", "")) if found else None


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    return done.stderr


def _perf(command: Sequence[str]) -> int | None:
    """User-space instructions by the processor's own counter; None where there is none."""
    text = _output(["perf", "stat", "-x", ";", "-e", "instructions:u", "--", *command])
    return _last_number(r"(?m)^(\d+);[^;]*;instructions", text)


def _callgrind(command: Sequence[str]) -> int | None:
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    return _last_number(r"Collected : ([\d,]+)", _output([*tool, *command]))


def _counters() -> dict[str, Callable[[Sequence[str]], int | None]]:
    return {"perf": _perf, "valgrind": _callgrind}


def choose_counter() -> tuple[str, Counter]:
    """The best way of counting that works here."""
    for tool, count in _counters().items():
        if shutil.which(tool) and count(["true"]):
            return tool, _insisting(count)
    raise SystemExit("neither perf with a hardware counter nor valgrind is installed")


def _insisting(count: Callable[[Sequence[str]], int | None]) -> Counter:
    def counted(command: Sequence[str]) -> int:
        number = count(command)
        if number is None:
            raise SystemExit(f"no count for {' '.join(Path(word).name for word in command)}")
        return number

    return counted


def per_packet(count: Counter, program: Program, flows: int, packets: int) -> float:
    """Instructions a packet of ``program`` with ``flows`` connections established."""
    whole = generate.live(flows, 2 * packets)
    half = generate.beginning(whole, whole.packets - packets)
    more, fewer = (count(program.command(one.path, flows)) for one in (whole, half))
    return (more - fewer) / packets


def _measure(
    entrants: Sequence[Program], flows: Sequence[int], packets: int, count: Counter
) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for program in entrants:
        if reason := program.missing():
            print(f"skipped {program.name}: {reason}")
            continue
        found[program.name] = {}
        for number in flows:
            print(f"{program.name}, {number:,} live flows", file=sys.stderr)
            found[program.name][number] = per_packet(count, program, number, packets)
    return found


def _table(found: dict[str, dict[int, float]], flows: Sequence[int]) -> str:
    head = ["instructions a packet", *(f"{number:,} flows" for number in flows)]
    rows = [[name, *(f"{row[number]:,.0f}" for number in flows)] for name, row in found.items()]
    return report.columns([head, *rows])


def main() -> None:
    """Count, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", default="1000,10000,100000,1000000")
    parser.add_argument("--packets", type=int, default=100_000, help="n, packets of data")
    parser.add_argument("--only", help="names of programs, separated by commas")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    flows = [int(word) for word in args.flows.split(",")]
    entrants = programs.chosen(programs.without_handler(), args.only)
    tool, count = choose_counter()
    found = _measure(entrants, flows, args.packets, count)
    print(_table(found, flows))
    print(f"counted by {tool}")
    if args.json:
        content = {**report.circumstances(), "counter": tool, "instructions_per_packet": found}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
