"""Rings of frames between threads and processes, and sources made of other sources."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from .source import HeldFrame, Source

class RingStats(NamedTuple):
    size: int
    used: int
    pushed: int
    pushed_bytes: int
    dropped: int
    dropped_bytes: int
    taken: int
    released: int
    abandoned: int
    ended: bool

class Ring:
    @staticmethod
    def create(size: int, *, shared: bool = True) -> Ring: ...
    @staticmethod
    def attach(fd: int, bell: int) -> Ring: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    @property
    def bell(self) -> int: ...
    def stats(self) -> RingStats: ...
    def settle(self) -> int: ...

class RingWriter:
    def __init__(self, ring: Ring) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def push(
        self,
        data: bytes | bytearray | memoryview,
        time_ns: int = 0,
        *,
        link_type: int = 1,
        wire_len: int = 0,
        direction: int = 0,
        csum_ip: int = 0,
        csum_l4: int = 0,
        vlan: Sequence[int] = (),
        port: int = 0,
        hash: int = 0,
    ) -> bool: ...
    def push_held(self, held: HeldFrame) -> bool: ...
    def publish(self) -> None: ...
    def end(self) -> None: ...
    def close(self) -> None: ...

def ring_source(
    ring: Ring,
    *,
    end: bool = False,
    captured: bool = False,
    settled: bool = False,
    retain_budget: int = 0,
    name: str = "ring",
) -> Source: ...
def join_sources(
    sources: Iterable[Source], *, ports: Iterable[int] | None = None, name: str | None = None
) -> Source: ...
def pump_source(source: Source, *, ring_bytes: int = 0, retain_budget: int = 0) -> Source: ...
