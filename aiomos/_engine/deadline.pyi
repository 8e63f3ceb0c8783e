"""The end of a wait."""

from types import TracebackType
from typing import Any, TypeVar

from aiomos._engine.task import Parking

P = TypeVar("P", bound=Parking)

class Deadline:
    def __init__(self, clock: Any, seconds: float) -> None: ...
    def __enter__(self) -> Deadline: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def of(self, parking: P) -> P: ...
    def pass_by(self) -> None: ...
