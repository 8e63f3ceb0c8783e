"""What is known of a process that was killed: what it noted, and what was taken and lost meanwhile.

It could not say any more what it had counted since it was asked last. But its ledger lies in memory
that outlives it, and so do the counters of sockets, rings and queues: a kill costs the frames of
one burst, which are ``lost``, and the row adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from aiomos._metrics import WorkerStats

if TYPE_CHECKING:
    from aiomos._engine.ledger import Noted


@attrs.frozen(kw_only=True)
class Remains:
    """What sockets, rings and queues tell of a place when its process is gone.

    Attributes:
        taken: frames that all processes there have taken so far.
        dropped_nic, dropped_kernel, dropped_ring, cut: as in WorkerStats, of the last one alone.
    """

    taken: int = 0
    dropped_nic: int = 0
    dropped_kernel: int = 0
    dropped_ring: int = 0
    cut: int = 0

    @property
    def dropped(self) -> int:
        return self.dropped_nic + self.dropped_kernel + self.dropped_ring


def sum_of_remains(parts: Sequence[Remains]) -> Remains:
    """Of a place to which frames come in several ways."""
    names = [field.name for field in attrs.fields(Remains)]
    return Remains(**{name: sum(getattr(part, name) for part in parts) for name in names})


def stats_of_dead(
    told: WorkerStats, noted: Noted | None, remains: Remains | None, before: WorkerStats
) -> WorkerStats:
    """The statistics of a process that was killed.

    Args:
        told: what it said last, up to a second ago.
        noted: its ledger; None: it had no burst.
        remains: None: what it took went with it, as it had opened its source by itself.
        before: of the processes that stood there before.
    """
    dead = attrs.evolve(told, waiting=0, flows=0, handlers=0)
    if noted is not None:
        dead = attrs.evolve(
            dead,
            filtered=noted.filtered,
            processed=noted.counters["frames"],
            left=noted.counters["other_workers"],
            handed_over=noted.distributed or noted.counters["wrong_core"],
            handler_errors=noted.handler_errors,
            counters=noted.counters,
        )
    known = dead.filtered + dead.processed + dead.left + dead.handed_over
    if remains is None:
        taken = told.received - told.dropped
        remains = Remains(**{name: getattr(told, name) for name in _LOSSES})
    else:  # a receive pump's own drops went with it: what it took, and nobody saw, is lost
        taken = remains.taken - (before.received - before.dropped)
    lost = max(taken - known, 0)
    losses = {name: getattr(remains, name) for name in _LOSSES}
    return attrs.evolve(dead, received=known + lost + remains.dropped, lost=lost, **losses)


_LOSSES = ("dropped_nic", "dropped_kernel", "dropped_ring", "cut")
