from collections.abc import Iterable, Sequence
from typing import Literal

class FilterSet:
    filters: list[tuple[str, tuple[str, ...]]]
    bits: list[int]
    never: list[int]
    def __init__(self, bits: Iterable[int] = ...) -> None: ...
    def __len__(self) -> int: ...
    def add(self, protocol: Literal["tcp", "udp"], *expressions: str | None) -> int: ...
    def matches(
        self,
        protocol: int,
        src: bytes,
        sport: int,
        dst: bytes,
        dport: int,
        *,
        src_mac: bytes = ...,
        dst_mac: bytes = ...,
        vlan: Sequence[int] = (),
    ) -> int: ...

def probe_frame(
    protocol: int,
    src: bytes,
    sport: int,
    dst: bytes,
    dport: int,
    *,
    src_mac: bytes = ...,
    dst_mac: bytes = ...,
    vlan: Sequence[int] = (),
    with_vlan: bool = True,
) -> bytes: ...
