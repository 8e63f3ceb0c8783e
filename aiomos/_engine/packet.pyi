"""Engine side of a packet."""

class PacketBase:
    time_ns: int
    wire_len: int
    cap_len: int
    link_type: int
    ip_version: int
    protocol: int
    tcp_flags: int
    sport: int
    dport: int
    seq: int
    ack: int
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def source(self) -> str: ...
    @property
    def destination(self) -> str: ...
