"""What a process that was killed had counted: told a second ago, or noted after its last burst."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from aiomos._metrics import WorkerStats

if TYPE_CHECKING:
    from aiomos._engine.ledger import Noted


def as_noted(told: WorkerStats, noted: Noted | None) -> WorkerStats:
    """What it said last, brought up to its last burst by its ledger (None: it had no burst)."""
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
