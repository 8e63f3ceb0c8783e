"""Sources of frames, as Python objects."""

import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, SupportsBytes, TypeAlias

NO_TIME: int
BURST_MAX: int

_Path: TypeAlias = str | bytes | os.PathLike[str]
_Data: TypeAlias = bytes | bytearray | memoryview | SupportsBytes

class SourceStats(NamedTuple):
    frames: int
    bytes: int
    dropped_nic: int
    dropped_kernel: int
    dropped_ring: int
    dropped_pool: int
    cut: int
    transmitted: int
    outstanding: int
    queued: int
    input_pos: int
    input_size: int

class RawFrame(NamedTuple):
    data: bytes
    time_ns: int
    wire_len: int
    link_type: int
    port: int = 0
    direction: int = 0

class Source:
    name: str
    result: int
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def close(self) -> None: ...
    def stats(self) -> SourceStats: ...
    @property
    def closed(self) -> bool: ...
    @property
    def live(self) -> bool: ...
    @property
    def ring(self) -> bool: ...
    @property
    def time_precision(self) -> int: ...
    @property
    def message(self) -> str: ...
    def fileno(self) -> int: ...
    def take(self, n: int = ...) -> list[HeldFrame]: ...
    def transmit(self, port: int, frames: Sequence[HeldFrame]) -> int: ...

class HeldFrame:
    @property
    def data(self) -> bytes: ...
    @property
    def raw(self) -> RawFrame: ...
    @property
    def device(self) -> tuple[int, tuple[int, ...], int, int]: ...
    @property
    def pieces(self) -> list[int]: ...
    @property
    def vlan(self) -> tuple[int, ...]: ...
    @property
    def checksums(self) -> tuple[int, int]: ...
    def retain(self) -> HeldFrame: ...
    def release(self) -> None: ...

def open_files(
    paths: _Path | Iterable[_Path], *, window_size: int = 0, retain_budget: int = 0
) -> Source: ...
def read_all(source: Source, *, burst: int = ..., check: bool = True) -> list[RawFrame]: ...

class MemorySource(Source):
    def __init__(
        self,
        frames: Iterable[_Data | tuple[Any, ...] | RawFrame] | None = None,
        *,
        link_type: int = 1,
        segment_seed: int = 0,
        ring: bool = False,
        retain_budget: int = 0,
    ) -> None: ...
    def push(
        self,
        data: _Data,
        time_ns: int = 0,
        *,
        link_type: int | None = None,
        wire_len: int = 0,
        direction: int = 0,
        csum_ip: int = 0,
        csum_l4: int = 0,
        vlan: Sequence[int] = (),
        port: int = 0,
        hash: int = 0,
    ) -> None: ...
    def finish(self) -> None: ...
    def rewind(self) -> None: ...
    def sent(self) -> list[tuple[int, bytes]]: ...
