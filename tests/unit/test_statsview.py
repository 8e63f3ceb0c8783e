"""Statistics as people read them: what was lost, where, and why."""

from __future__ import annotations

import pytest
from rich.console import Console

from aiomos._metrics import WorkerStats, summary_of
from aiomos._statsview import report_of, table_of
from aiomos._summary import Summary
from aiomos._supervisor import merged

LOST = {
    "dropped_nic": "3 dropped by the device",
    "dropped_kernel": "3 dropped by the kernel: its ring was full (-B)",
    "dropped_ring": "3 dropped by a ring between processes or threads: it was full",
    "cut": "3 cut short: there was no memory to copy it whole",
}


def shown(*processes, workers):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table_of(report_of("somewhere", processes, workers)))
    return captured.get().splitlines()


@pytest.mark.parametrize("field", LOST)
@pytest.mark.parametrize("where", ["workers", "distributor"])
def test_what_was_lost_is_told_with_its_reason_wherever_it_was(field, where):
    lost = [WorkerStats(**{field: n}, received=0 if field == "cut" else n) for n in (1, 2)]
    processes = [*lost, WorkerStats()] if where == "workers" else [WorkerStats(), *lost]
    lines = shown(*processes, workers=2)
    assert LOST[field] in lines
    assert not [line for line in lines if "unaccounted" in line]


def test_cut_frames_of_all_workers_are_in_the_summary_those_of_dead_ones_too():
    whole = merged([Summary(cut=1), summary_of(WorkerStats(cut=2))])
    assert whole.cut == 3
    assert "3 packets cut short: there was no memory to copy it whole" in whole.lines()
    assert not [line for line in Summary().lines() if "cut" in line]
