"""Frames of other workers' flows, on their way there."""

from collections.abc import Mapping

from aiomos._engine.core import Core
from aiomos._engine.rings import Ring

class HandOver:
    def __init__(self, core: Core, rings: Mapping[int, Ring], mine: int, count: int) -> None: ...
