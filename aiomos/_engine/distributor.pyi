"""Frames of one source to the workers whose flows they are of."""

from collections.abc import Sequence

from aiomos._engine._dpdk import Fan
from aiomos._engine.ledger import Ledger
from aiomos._engine.rings import Ring
from aiomos._engine.source import Source

class Distributor:
    source: Source
    distributed: int
    ledger: Ledger | None
    patient: bool
    blocked: bool
    def __init__(
        self, source: Source, rings: Sequence[Ring], decoders: int | None = None
    ) -> None: ...
    def turn(self) -> int: ...
    def forget(self, worker: int) -> None: ...

class FanDistributor(Distributor):
    def __init__(
        self, source: Source, fan: Fan, workers: int, decoders: int | None = None
    ) -> None: ...
