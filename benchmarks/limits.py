"""What many flows and many segments above a hole cost: ``python -m benchmarks.limits``.

Memory is what the engine says it held at the most, and what the process held beyond one that read
an empty capture. Time is CPU time of the process beyond that one's, over the packets; instructions
are counted where they can be (perf or valgrind) and asked for with ``--instructions``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import generate, instructions, measure, report
from benchmarks.generate import Capture

REQUIRED = 384  # bytes a flow, table entry and its share of the index (semantics.md 15)
_HELD = [sys.executable, str(Path(__file__).with_name("held.py"))]
_HEAD = ("what", "packets", "engine held", "a flow", "process, beyond empty", "CPU ns a packet",
         "instructions a packet", "gaps")  # fmt: skip


def _command(capture: Capture, words: Sequence[str]) -> list[str]:
    return [*_HELD, str(capture.path), *words]


def _counted(capture: Capture, words: Sequence[str], count: instructions.Counter | None) -> str:
    """Instructions a packet beyond those on an empty capture."""
    if count is None:
        return "-"
    more, fewer = (count(_command(one, words)) for one in (capture, generate.empty()))
    return f"{(more - fewer) / capture.packets:,.0f}"


def _row(
    what: str, capture: Capture, words: Sequence[str], count: instructions.Counter | None
) -> list[str]:
    empty = measure.run(_command(generate.empty(), words))
    run = measure.run(_command(capture, words))
    held = run.result
    table = held["flow_bytes"] + held["index_bytes"]
    return [
        what,
        f"{capture.packets:,}",
        f"{table + held['memory_held']:,}",
        f"{table / max(1, held['flows']):,.0f}" if held["flows"] > 1 else "-",
        f"{run.rss - empty.rss:,}",
        f"{(run.cpu - empty.cpu) * 1e9 / capture.packets:,.0f}",
        _counted(capture, words, count),
        str(held["gaps"]),
    ]


def _rows(quick: bool, count: instructions.Counter | None) -> list[list[str]]:
    flows = (1_000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    segments = (1_000, 10_000) if quick else (25_000, 50_000, 100_000)
    rows = [_row(f"{n:,} flows", generate.live(n, n), [], count) for n in flows]
    for apart, name in ((0, "one hole"), (1, "holes")):
        for n in segments:
            capture = generate.hole(n, apart)
            rows.append(_row(f"{n:,} segments, {name}", capture, ["handlers"], count))
    return rows


def main() -> None:
    """Run, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--instructions", action="store_true", help="count them: some minutes")
    args = parser.parse_args()
    tool, count = instructions.choose_counter() if args.instructions else (None, None)
    print(report.columns([_HEAD, *_rows(args.quick, count)]))
    print(f"required: at most {REQUIRED} bytes a flow; the same CPU time a packet on every row")
    if tool:
        print(f"counted by {tool}")


if __name__ == "__main__":
    main()
