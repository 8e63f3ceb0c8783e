from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

from .source import Source

_Direction: TypeAlias = Literal["both", "in", "out"]

class InterfaceStats(NamedTuple):
    frames: int
    bytes: int
    dropped_kernel: int
    dropped_nic: int
    cut: int
    recovered: int
    readers: int
    link_losses: int
    link_up: bool
    reader: int

class InterfaceSource(Source):
    warnings: tuple[str, ...]
    def interface_stats(self) -> InterfaceStats: ...

def open_interface(
    name: str,
    *,
    ring_bytes: int = 0,
    snap_len: int = 0,
    direction: _Direction = "both",
    promiscuous: bool = True,
    transmit: bool = False,
    retain_budget: int = 0,
) -> InterfaceSource: ...
def attach_interface(
    fd: int, state_fd: int, *, name: str = "", retain_budget: int = 0, settled: bool = False
) -> InterfaceSource: ...

class XdpSource(Source):
    warnings: tuple[str, ...]
    @property
    def link_up(self) -> bool: ...
    @property
    def link_losses(self) -> int: ...
    @property
    def generic(self) -> bool: ...

def open_xdp(
    name: str,
    *,
    queue: int = 0,
    force: bool = False,
    generic: bool = False,
    ring_bytes: int = 0,
    retain_budget: int = 0,
) -> XdpSource: ...

class InterfaceGroup:
    name: str
    def __init__(
        self,
        name: str,
        workers: int,
        *,
        ring_bytes: int = 0,
        snap_len: int = 0,
        direction: _Direction = "both",
        promiscuous: bool = True,
        transmit: bool = False,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __len__(self) -> int: ...
    def close(self) -> None: ...
    def filenos(self, index: int) -> tuple[int, int]: ...
    def settle(self, index: int) -> InterfaceStats: ...
    def stats(self) -> list[InterfaceStats]: ...
    def stats_of(self, index: int) -> InterfaceStats: ...
