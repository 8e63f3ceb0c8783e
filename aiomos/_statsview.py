"""Statistics of a run as other terminals see them: a report, and a table of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from aiomos._engine.errors import ConfigError
from aiomos._metrics import WorkerStats, sum_of
from aiomos._statsocket import Report, ask, running
from aiomos._summary import CUT

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Columns: what stands above them, and the field.
COLUMNS = (
    ("received", "received"),
    ("dropped", "dropped"),
    ("filtered", "filtered"),
    ("processed", "processed"),
    ("handed over", "handed_over"),
    ("waiting", "waiting"),
    ("flows", "flows"),
    ("handlers", "handlers"),
)
#: Counters that are told of in a line below, when they are not 0.
TOLD = {
    "wrong_core_lost": "handed over, but the other worker's ring was full",
    "midstream": "flows picked up in their middle",
    "gaps": "gaps in streams",
    "bad_checksum": "packets with a wrong checksum",
    "slow_reader_bytes": "bytes lost because a handler did not read them (limit=)",
    "table_full": "flows refused: table full",
    "events_lost": "events lost: coroutines did not take them",
}


def report_of(
    source: str, processes: Sequence[WorkerStats], workers: int = 1, restarts: int = 0
) -> Report:
    """What a run tells of itself, as plain values; behind the workers may come a distributor."""
    others = processes[workers:]
    return {
        "pid": os.getpid(),
        "source": source,
        "time": time.time(),
        "restarts": restarts,
        "workers": [attrs.asdict(worker) for worker in processes[:workers]],
        "distributor": attrs.asdict(others[0]) if others else None,
    }


def totals_of(report: Report) -> WorkerStats:
    """All workers of a report together."""
    return sum_of(_workers(report))


def table_of(report: Report) -> RenderableType:
    """For people."""
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("worker", justify="right", no_wrap=True)
    for heading, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    workers = _workers(report)
    total = totals_of(report)
    for worker in workers:
        table.add_row(str(worker.number), *_cells(worker))
    for distributor in _distributor(report):
        table.add_row("distributor", *_cells(distributor))
    if len(workers) > 1:
        table.add_section()
        table.add_row("all", *_cells(total), style="bold")
    return Group(_title(report), table, *_lines(report, total))


def _workers(report: Report) -> Sequence[WorkerStats]:
    return [WorkerStats(**values) for values in report["workers"]]


def _distributor(report: Report) -> Sequence[WorkerStats]:
    """What came before the workers, if anything did."""
    return [WorkerStats(**report["distributor"])] if report["distributor"] else []


def _cells(stats: WorkerStats) -> list[str]:
    return [f"{getattr(stats, field):,}" for _, field in COLUMNS]


def _title(report: Report) -> str:
    return f"aiomos {report['pid']} on {report['source']}"


def _lines(report: Report, total: WorkerStats) -> list[str]:
    drops = sum_of([*_workers(report), *_distributor(report)])
    lines = [f"{total.counters[name]:,} {text}" for name, text in TOLD.items()
             if total.counters.get(name)]  # fmt: skip
    said: dict[str, Any] = {
        "dropped by the device": drops.dropped_nic,
        "dropped by the kernel: its ring was full (-B)": drops.dropped_kernel,
        "dropped by a ring between processes or threads: it was full": drops.dropped_ring,
        f"cut short: {CUT}": drops.cut,
        "functions of the app failed": total.handler_errors,
        "workers started again": report["restarts"],
        "packets unaccounted for: please report this": drops.unaccounted,
    }
    return lines + [f"{number:,} {text}" for text, number in said.items() if number]


# ---- the command -----------------------------------------------------------------------------


def show(pid: int | None, as_json: bool, watch: float | None) -> None:
    """Prints the statistics of a run, once or every so many seconds.

    Raises:
        ConfigError: nothing runs, or several do and none was named.
    """
    from rich.console import Console

    console = Console(highlight=False)
    pid = _the_only_one() if pid is None else pid
    while True:
        report = ask(pid)
        if as_json:
            print(json.dumps(report), flush=True)
        else:
            if watch and console.is_terminal:
                console.clear()
            console.print(table_of(report))
        if not watch:
            return
        time.sleep(watch)


def _the_only_one() -> int:
    found = running()
    if not found:
        raise ConfigError(
            "no live run of aiomos of this user: start one with aiomos run APP -i IFACE"
        )
    if len(found) > 1:
        raise ConfigError(f"several runs: name one of {', '.join(map(str, found))}")
    return found[0]
