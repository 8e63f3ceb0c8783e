"""Statistics of a run, worker by worker, and of all together. They add up (WorkerStats)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from aiomos._summary import Summary

if TYPE_CHECKING:
    from aiomos._runner import Engine


@attrs.frozen(kw_only=True)
class WorkerStats:
    """What became of the frames that were meant for one worker, up to one moment.

    ``received`` is the sum of what was dropped in front of the engine (``dropped_*``), of
    ``filtered``, ``processed``, ``left`` and ``handed_over``, of ``waiting`` and of ``lost``.

    Attributes:
        number: of the worker, from 0.
        pid: of its process.
        received: frames that device or kernel had for it, those from other workers included.
        dropped_nic: lost in the device.
        dropped_kernel: lost in the kernel's ring, which was full.
        dropped_ring: lost in the ring of the receive pump, or of the distributor.
        filtered: did not pass ``-f``.
        processed: went through the engine.
        left: of a file that every worker reads: taken by others.
        handed_over: of flows that are other workers': ``wrong_core``.
        waiting: taken from the source, and not processed yet.
        lost: taken by a process that was killed, which did not say any more what became of them.
        dropped_pool: frames that somebody wanted to keep, for which there was no memory.
        cut: of ``received``: frames larger than a slot of the kernel's ring, for whose copy there
            was no memory; they were taken as far as they went.
        flows: open now.
        handlers: at work now.
        handler_errors: functions of the app that raised.
        memory: bytes by use.
        counters: everything that the engine counted.
    """

    number: int = 0
    pid: int = 0
    received: int = 0
    dropped_nic: int = 0
    dropped_kernel: int = 0
    dropped_ring: int = 0
    filtered: int = 0
    processed: int = 0
    left: int = 0
    handed_over: int = 0
    waiting: int = 0
    lost: int = 0
    dropped_pool: int = 0
    cut: int = 0
    flows: int = 0
    handlers: int = 0
    handler_errors: int = 0
    memory: Mapping[str, int] = attrs.field(factory=dict)
    counters: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def dropped(self) -> int:
        """Frames lost in front of the engine."""
        return self.dropped_nic + self.dropped_kernel + self.dropped_ring

    @property
    def unaccounted(self) -> int:
        """Frames of which nobody knows: 0, or the statistics are wrong."""
        known = self.filtered + self.processed + self.left + self.handed_over
        return self.received - self.dropped - known - self.waiting - self.lost


_NAMES = ("number", "pid", "memory", "counters")
#: Fields that are numbers to be summed.
SUMMED = tuple(f.name for f in attrs.fields(WorkerStats) if f.name not in _NAMES)


def worker_stats(engine: Engine) -> WorkerStats:
    """Of an engine that serves."""
    source = engine.source.stats()
    counters = engine.core.counters()
    usage = engine.core.usage()
    pump = engine.pump
    taken = {
        "filtered": pump.filtered if pump else 0,
        "processed": counters["frames"],
        "left": counters["other_workers"],
        "handed_over": counters["wrong_core"],
    }
    dropped = source.dropped_nic + source.dropped_kernel + source.dropped_ring
    return WorkerStats(
        number=engine.number,
        pid=os.getpid(),
        received=source.frames + source.queued + dropped,
        dropped_nic=source.dropped_nic,
        dropped_kernel=source.dropped_kernel,
        dropped_ring=source.dropped_ring,
        waiting=source.frames + source.queued - sum(taken.values()),
        dropped_pool=source.dropped_pool,
        cut=source.cut,
        flows=usage["flows"] - usage["lingering"],
        handlers=len(engine.flow_tasks()),
        handler_errors=pump.handler_errors if pump else 0,
        memory={name: usage[name] for name in usage if name.endswith("_bytes")},
        counters=counters,
        **taken,
    )


def summary_of(stats: WorkerStats) -> Summary:
    """What a process came to that did not live to say so: what was lost with it was dropped."""
    return Summary(
        received=stats.processed + stats.lost,
        filtered=stats.filtered,
        processed=stats.processed,
        dropped=stats.dropped + stats.lost + stats.dropped_pool,
        counters=stats.counters,
        handler_errors=stats.handler_errors,
        cut=stats.cut,
    )


def sum_of(parts: Iterable[WorkerStats]) -> WorkerStats:
    """Of all workers together."""
    parts = list(parts)
    return WorkerStats(
        number=-1,
        **{name: sum(getattr(part, name) for part in parts) for name in SUMMED},
        memory=_sums(part.memory for part in parts),
        counters=_sums(part.counters for part in parts),
    )


def _sums(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for table in tables:
        for name, value in table.items():
            found[name] = found.get(name, 0) + value
    return found
