"""The sans-io engine of one core."""

from collections.abc import Iterable, Sequence

class Core:
    def __init__(
        self,
        *,
        embryonic: float = ...,
        established: float = ...,
        one_sided: float = ...,
        half_closed: float = ...,
        closing: float = ...,
        time_wait: float = ...,
        udp_idle: float = ...,
        idle: float = ...,
        reorder_grace: float = ...,
        one_sided_grace: float = ...,
        max_flows: int = ...,
        max_embryonic: int = ...,
        evict_idle: float = ...,
        on_flows_full: str = ...,
        on_embryonic_full: str = ...,
        on_memory_full: str = ...,
        statistics: bool = ...,
        community_id_seed: int = ...,
        memory: int = ...,
        history: int = ...,
        midstream: str = ...,
        urgent: str = ...,
        oob_limit: int = ...,
        min_ttl: int = ...,
        vlan_in_key: bool = ...,
        decode: Iterable[str] = ...,
        fragments: str = ...,
        fragment_timeout: float = ...,
        fragment_timeout6: float = ...,
        fragment_memory: int = ...,
        fragment_datagrams: int = ...,
        checksums: str = ...,
        dedup: bool = ...,
        dedup_window: float = ...,
        tunnel_in_key: bool = ...,
        seed: bytes | None = ...,
    ) -> None: ...
    def set_prefixes(self, prefixes: Sequence[tuple[bytes, int, int]]) -> None: ...
    @property
    def now(self) -> float: ...
    def share(self, mine: int, count: int) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def keep_statistics(self) -> None: ...
    def unverified(self) -> list[str]: ...
    def usage(self) -> dict[str, int]: ...
