"""What a process that was killed had counted, and what it had taken besides.

It could not say any more what it had done since it was asked last. But its ledger lies in memory
that outlives it, and rings and sockets know what it took (_tallies.py): a kill costs the frames of
one burst, which are ``lost``, and the row adds up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from aiomos._metrics import WorkerStats

if TYPE_CHECKING:
    from aiomos._engine.ledger import Noted


def stats_of_dead(
    told: WorkerStats,
    noted: Noted | None,
    *,
    taken: int | None,
    given: int = 0,
    untold: Mapping[str, int] = MappingProxyType({}),
) -> WorkerStats:
    """The statistics of a process that was killed.

    What it had seen to wait in a ring may wait there still: that is its successor's.

    Args:
        told: what it said last, up to a second ago.
        noted: its ledger; None: it had no burst.
        taken: frames that it took, as those know who gave them; None: it had opened its source by
            itself, and took what it said.
        given: frames that it gave to workers, by what they know.
        untold: what only a device knows of it, by fields of WorkerStats.
    """
    dead = _as_noted(told, noted)
    most = {name: max(count, getattr(dead, name)) for name, count in untold.items()}
    dead = attrs.evolve(dead, handed_over=max(given, dead.handed_over), **most)
    known = dead.filtered + dead.processed + dead.left + dead.handed_over
    taken = max(told.received - told.dropped if taken is None else taken, known)
    received, lost = taken + dead.dropped, taken - known
    return attrs.evolve(dead, received=received, lost=lost, waiting=0, flows=0, handlers=0)


def _as_noted(told: WorkerStats, noted: Noted | None) -> WorkerStats:
    """What it said last, brought up to its last burst."""
    if noted is None:
        return told
    return attrs.evolve(
        told,
        filtered=noted.filtered,
        processed=noted.counters["frames"],
        left=noted.counters["other_workers"],
        handed_over=noted.distributed or noted.counters["wrong_core"],
        handler_errors=noted.handler_errors,
        counters=noted.counters,
    )
