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


@attrs.frozen
class Untold:
    """What a process that died may not have told.

    Attributes:
        device: what only its device knows of it, by fields of WorkerStats.
        rings: frames that the rings to it had no room for, where it had a ring of its own, too,
            that of its receive pump: these drops are told together. None: it had none.
    """

    device: Mapping[str, int] = MappingProxyType({})
    rings: int | None = None


def stats_of_dead(
    told: WorkerStats,
    noted: Noted | None,
    *,
    taken: int | None,
    given: int = 0,
    untold: Untold = Untold(),
) -> WorkerStats:
    """The statistics of a process that was killed.

    What it had seen to wait in a ring may wait there still: that is its successor's.

    Args:
        told: what it said last, up to a second ago.
        noted: its ledger; None: it had no burst.
        taken: frames that it took, as those know who gave them; None: it had opened its source by
            itself, and took what it said.
        given: frames that it gave to workers, by what they know.
        untold: what it may not have said.
    """
    dead = _as_noted(told, noted)
    most = {name: max(count, getattr(dead, name)) for name, count in untold.device.items()}
    dead = attrs.evolve(dead, handed_over=max(given, dead.handed_over), **most)
    if untold.rings is not None:  # what its own ring dropped, it had taken
        own = max(dead.dropped_ring - untold.rings, 0)
        dead = attrs.evolve(dead, dropped_ring=own + untold.rings)
        taken = None if taken is None else taken - own
    known = dead.filtered + dead.processed + dead.left + dead.handed_over
    taken = max(told.received - told.dropped if taken is None else taken, known)
    received, lost = taken + dead.dropped, taken - known
    return attrs.evolve(dead, received=received, lost=lost, waiting=0, flows=0, handlers=0)


def _as_noted(told: WorkerStats, noted: Noted | None) -> WorkerStats:
    """What it said last, brought up to its last burst; it may have been asked after noting that."""
    if noted is None:
        return told
    later = {
        "filtered": noted.filtered,
        "processed": noted.counters["frames"],
        "left": noted.counters["other_workers"],
        "handed_over": noted.distributed or noted.counters["wrong_core"],
        "handler_errors": noted.handler_errors,
    }
    counters = {name: max(n, told.counters.get(name, 0)) for name, n in noted.counters.items()}
    most = {name: max(count, getattr(told, name)) for name, count in later.items()}
    return attrs.evolve(told, counters=counters, **most)
