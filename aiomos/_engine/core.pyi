"""The sans-io engine of one core."""

from collections.abc import Sequence
from typing import Any

#: Engine options and their defaults: times in seconds, memory in bytes.
DEFAULTS: dict[str, Any]

class Core:
    def __init__(
        self,
        *,
        embryonic: float = ...,
        established: float = ...,
        closing: float = ...,
        linger: float = ...,
        udp_idle: float = ...,
        reorder_grace: float = ...,
        one_sided_grace: float = ...,
        max_flows: int = ...,
        memory: int = ...,
        history: int = ...,
        pickup: bool = ...,
        vlan_in_key: bool = ...,
        seed: bytes | None = ...,
    ) -> None: ...
    def set_prefixes(self, prefixes: Sequence[tuple[bytes, int, int]]) -> None: ...
    @property
    def now(self) -> float: ...
    def counters(self) -> dict[str, int]: ...
    def usage(self) -> dict[str, int]: ...
