"""Writers of captures, as Python objects."""

import os
from types import TracebackType
from typing import Literal, Protocol, Self, SupportsBytes, TypeAlias

from aiomos._engine.source import HeldFrame

_Path: TypeAlias = str | bytes | os.PathLike[str]
_Data: TypeAlias = bytes | bytearray | memoryview | SupportsBytes
_Format: TypeAlias = Literal["pcap", "pcap-ns", "pcapng"]

class _FrameLike(Protocol):
    @property
    def data(self) -> _Data: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def wire_len(self) -> int: ...
    @property
    def link_type(self) -> int: ...

class Writer:
    name: str
    def __init__(
        self, path: _Path, format: _Format = "pcapng", snap_len: int = 0, link_type: int = 1
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    @property
    def message(self) -> str: ...
    def write(self, frame: HeldFrame | _FrameLike | tuple[_Data, int]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
