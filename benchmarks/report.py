"""What a contest found, as a table for people and as JSON for later comparison."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.contest import Contest, Outcome
from benchmarks.spread import Spread

_PACKAGES = ("aiomos", "dpkt", "scapy", "nfstream", "uvloop")
_HEADERS = (
    "program", "packets", "runs", "packets/s", "CPU ns/packet", "MiB", "start ms",
    "aiomos' CPU / this one's", "required",
)  # fmt: skip


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    return "\n".join(lines)


def _row(contest: Contest, one: Outcome) -> list[str]:
    ratio = contest.ratio(one)
    return [
        one.program.name,
        f"{one.capture.packets:,}" + ("*" if one.capture.truth.get("cut") else ""),
        str(len(one.runs)),
        f"{one.packets_per_second:,.0f}",
        f"{Spread.of(one.costs):,.0f}",
        f"{Spread.of(run.rss for run in one.runs).median / 2**20:,.0f}",
        f"{one.start_seconds * 1e3:.0f}",
        f"{ratio:.4f}" if ratio else "",
        f"{one.program.required:.3f}" if one.program.required and ratio else "",
    ]


def _data_row(contest: Contest, one: Outcome) -> list[str]:
    ratio = contest.data_ratio(one)
    costs = f"{Spread.of(one.data_costs):,.0f}"
    return [one.program.name, costs, f"{ratio:.3f}" if ratio else ""]


def table(contest: Contest) -> str:
    """The contest for a reader."""
    ran = [one for one in contest.outcomes if one.runs]
    lines = [f"== {contest.title}: {contest.capture.packets:,} packets =="]
    lines.append(columns([_HEADERS, *(_row(contest, one) for one in ran)]))
    if any(one.capture.truth.get("cut") for one in ran):
        lines.append("* only the first packets of the capture, as many as the column says")
    if any(one.data_costs for one in ran):
        heads = ("after the handshakes", "CPU ns/packet", "aiomos' CPU / this one's")
        lines += ["", columns([heads, *(_data_row(contest, one) for one in ran)])]
    lines += [f"skipped {name}: {reason}" for name, reason in contest.skipped.items()]
    return "\n".join(lines)


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return asdict(spread) if spread else None


def _outcome(contest: Contest, one: Outcome) -> dict[str, object]:
    return {
        "capture": one.capture.truth,
        "runs": [asdict(run) for run in one.runs],
        "opening_runs": [asdict(run) for run in one.openings],
        "start_runs": [asdict(run) for run in one.starts],
        "cpu_ns_per_packet": _spread(Spread.of(one.costs)) if one.runs else None,
        "data_cpu_ns_per_packet": _spread(Spread.of(one.data_costs)) if one.data_costs else None,
        "ratio": _spread(contest.ratio(one)),
        "data_ratio": _spread(contest.data_ratio(one)),
        "required": one.program.required,
        "problem": one.problem,
    }


def _contest(contest: Contest) -> dict[str, object]:
    programs = {one.program.name: _outcome(contest, one) for one in contest.outcomes}
    return {
        "title": contest.title,
        "capture": contest.capture.truth,
        "programs": programs,
        "skipped": contest.skipped,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def circumstances() -> dict[str, object]:
    """Where and when: what a reader needs to judge absolute figures."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "versions": _versions(),
    }


def write_json(path: Path, before: dict[str, object], contests: Sequence[Contest]) -> None:
    """Everything that was measured; ``before`` are the circumstances at the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**before, "contests": [_contest(one) for one in contests]}
    path.write_text(json.dumps(content, indent=1) + "\n")
