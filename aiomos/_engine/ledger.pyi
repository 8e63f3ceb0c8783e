"""What a worker has counted, in memory that outlives it."""

from typing import NamedTuple

class Noted(NamedTuple):
    filtered: int
    handler_errors: int
    distributed: int
    counters: dict[str, int]

class Ledger:
    fd: int
    @staticmethod
    def create() -> Ledger: ...
    @staticmethod
    def attach(fd: int) -> Ledger: ...
    def read(self) -> Noted | None: ...
    def clear(self) -> None: ...
    def close(self) -> None: ...
