"""Programs run in turn on one capture, round after round, so that noise falls on all alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import generate
from benchmarks.generate import Capture
from benchmarks.measure import ProgramFailed, Run, run
from benchmarks.programs import Program
from benchmarks.spread import Spread, ratios

_STARTS = 3


@dataclass
class Outcome:
    """All runs of one program on its capture.

    ``openings`` are runs on the handshakes alone, one beside each of ``runs``; ``starts`` are runs
    on a capture without packets.
    """

    program: Program
    capture: Capture
    opening: Capture | None = None
    runs: list[Run] = field(default_factory=list)
    openings: list[Run] = field(default_factory=list)
    starts: list[Run] = field(default_factory=list)
    problem: str | None = None

    @property
    def costs(self) -> list[float]:
        """CPU nanoseconds a packet over the whole capture, round by round."""
        return [one.cpu / self.capture.packets * 1e9 for one in self.runs]

    @property
    def data_costs(self) -> list[float]:
        """CPU nanoseconds a packet after the handshakes, round by round."""
        if self.opening is None:
            return []
        packets = self.capture.packets - self.opening.packets
        pairs = zip(self.runs, self.openings, strict=False)
        return [(whole.cpu - before.cpu) / packets * 1e9 for whole, before in pairs]

    @property
    def packets_per_second(self) -> float:
        """By the wall clock, median."""
        return self.capture.packets / Spread.of(one.wall for one in self.runs).median

    @property
    def start_seconds(self) -> float:
        """CPU seconds to start and stop, median."""
        return Spread.of(one.cpu for one in self.starts).median

    def check_bytes(self) -> None:
        """Note a problem if a run counted other bytes than the generator did."""
        if not self.program.counts_bytes:
            return
        true = self.capture.number("payload_bytes")
        wrong = {one.result["bytes"] for one in self.runs} - {true}
        if wrong:
            self.problem = f"counted {sorted(wrong)} bytes where the capture has {true}"


@dataclass
class Contest:
    """What was compared on one capture; the first outcome is aiomos' unless it was skipped."""

    title: str
    capture: Capture
    outcomes: list[Outcome]
    skipped: dict[str, str]

    @property
    def ours(self) -> Outcome | None:
        """The outcome of aiomos, if it ran."""
        found = [one for one in self.outcomes if one.program.name == "aiomos" and one.runs]
        return found[0] if found else None

    def ratio(self, theirs: Outcome) -> Spread | None:
        """CPU time a packet of aiomos over that of ``theirs``, whole capture."""
        ours = self.ours
        return ratios(ours.costs, theirs.costs) if ours and ours is not theirs else None

    def data_ratio(self, theirs: Outcome) -> Spread | None:
        """The same for the packets after the handshakes."""
        ours = self.ours
        return ratios(ours.data_costs, theirs.data_costs) if ours and ours is not theirs else None

    @property
    def problems(self) -> Iterator[str]:
        """What makes the whole comparison suspect, one line each."""
        for one in self.outcomes:
            if one.problem:
                yield f"{self.title}: {one.program.name}: {one.problem}"


def _turn(outcome: Outcome, live: int) -> None:
    """One round of one program; a failure is noted and ends its part in the contest."""

    def measured(capture: Capture) -> Run:
        return run(outcome.program.command(capture.path, live))

    try:
        if len(outcome.starts) < _STARTS:
            outcome.starts.append(measured(generate.empty()))
        if outcome.opening:
            outcome.openings.append(measured(outcome.opening))
        outcome.runs.append(measured(outcome.capture))
    except ProgramFailed as failure:
        outcome.problem = str(failure)


def compete(
    title: str,
    programs: Sequence[Program],
    capture: Capture,
    rounds: int,
    opening: Capture | None = None,
) -> Contest:
    """Run ``rounds`` rounds of all programs that are there."""
    reasons = {one.name: one.missing() for one in programs}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    outcomes = [
        Outcome(one, generate.beginning(capture, one.packets or capture.packets), opening)
        for one in programs
        if one.name not in skipped
    ]
    for number in range(rounds):
        print(f"{title}: round {number + 1} of {rounds}", file=sys.stderr)
        for outcome in outcomes:
            if outcome.problem is None and number < (outcome.program.rounds or rounds):
                _turn(outcome, capture.number("peak_live"))
    for outcome in outcomes:
        if outcome.problem is None:
            outcome.check_bytes()
    return Contest(title, capture, outcomes, skipped)
