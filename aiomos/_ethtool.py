"""What ``ethtool`` would show of an interface, by the same requests (SIOCETHTOOL)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator

import attrs

_SIOCETHTOOL = 0x8946
_GSET, _GDRVINFO, _GTSO, _GGSO, _GFLAGS = 0x01, 0x03, 0x1E, 0x23, 0x25
_GRXFH, _GGRO, _GCHANNELS, _GRSSH = 0x29, 0x2B, 0x3C, 0x46
_LRO = 1 << 15
_SPEED_UNKNOWN = 0xFFFFFFFF
_TCP4, _UDP4 = 0x01, 0x02
_PORTS = 1 << 6 | 1 << 7  # RXH_L4_B_0_1, RXH_L4_B_2_3
_TOEPLITZ = 1
_SYMMETRIC_KEY = b"\x6d\x5a"
#: struct ethtool_rxfh: command, context, table's and key's size, function, transformation
_RSS = struct.Struct("=IIIIBB6x")


@attrs.frozen
class Offloads:
    """Which offloads are on."""

    gro: bool = False
    lro: bool = False
    tso: bool = False
    gso: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are on, as ethtool calls them."""
        return tuple(name for name, on in attrs.asdict(self).items() if on)


@attrs.frozen
class Rss:
    """How an interface spreads its packets over its queues."""

    table: int  # entries of the indirection table
    key: int  # length of the hash's key, bytes; 0: it cannot be set
    symmetric: bool  # both directions of a connection get one hash, certainly
    tcp_ports: bool  # ports of TCP over IPv4 are in the hash
    udp_ports: bool


@attrs.frozen
class Hardware:
    """What the driver of an interface tells."""

    driver: str = ""
    bus: str = ""  # 0000:03:00.0
    speed: int | None = None  # Mbit/s
    queues: int | None = None  # receive queues in use
    queues_max: int | None = None
    combined: bool = True  # a queue receives and sends; else those for receiving stand apart
    offloads: Offloads = Offloads()
    rss: Rss | None = None


@contextlib.contextmanager
def asking() -> Iterator[socket.socket]:
    """The socket over which questions go, in this thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as opened:
        yield opened


def read_hardware(asked: socket.socket, name: str) -> Hardware:
    """Everything of one interface; what its driver does not tell is left at its default."""
    driver, bus = _driver(asked, name)
    queues, most, combined = _channels(asked, name)
    return Hardware(
        driver=driver,
        bus=bus,
        speed=_speed(asked, name),
        queues=queues,
        queues_max=most,
        combined=combined,
        offloads=Offloads(
            gro=_flag(asked, name, _GGRO),
            lro=_value(asked, name, _GFLAGS) & _LRO != 0,
            tso=_flag(asked, name, _GTSO),
            gso=_flag(asked, name, _GGSO),
        ),
        rss=_rss(asked, name),
    )


def _request(asked: socket.socket, name: str, data: bytes) -> bytes | None:
    """What the kernel made of a request; None when it refused."""
    buffer = ctypes.create_string_buffer(data, len(data))
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(buffer))
    try:
        fcntl.ioctl(asked, _SIOCETHTOOL, request)
    except OSError:
        return None
    return buffer.raw


def _value(asked: socket.socket, name: str, command: int) -> int:
    answer = _request(asked, name, struct.pack("=II", command, 0))
    return struct.unpack("=II", answer)[1] if answer else 0


def _flag(asked: socket.socket, name: str, command: int) -> bool:
    return _value(asked, name, command) != 0


def _driver(asked: socket.socket, name: str) -> tuple[str, str]:
    answer = _request(asked, name, struct.pack("=I192x", _GDRVINFO))
    if answer is None:
        return "", ""
    driver, bus = answer[4:36], answer[100:132]
    return driver.split(b"\0")[0].decode(), bus.split(b"\0")[0].decode()


def _speed(asked: socket.socket, name: str) -> int | None:
    answer = _request(asked, name, struct.pack("=I40x", _GSET))
    if answer is None:
        return None
    low, high = struct.unpack_from("=H", answer, 12)[0], struct.unpack_from("=H", answer, 28)[0]
    speed = high << 16 | low
    return None if speed in (0, 0xFFFF, _SPEED_UNKNOWN) else speed


def _channels(asked: socket.socket, name: str) -> tuple[int | None, int | None, bool]:
    """Receive queues: in use, and at most. Combined ones and those for receiving alone add up."""
    answer = _request(asked, name, struct.pack("=I32x", _GCHANNELS))
    if answer is None:
        return None, None, True
    _, max_rx, _, _, max_both, rx, _, _, both = struct.unpack("=9I", answer)
    return rx + both, max_rx + max_both, max_both > 0


def _rss(asked: socket.socket, name: str) -> Rss | None:
    sizes = _request(asked, name, _RSS.pack(_GRSSH, 0, 0, 0, 0, 0))
    if sizes is None:
        return None
    _, _, table, key, _, _ = _RSS.unpack_from(sizes)
    if not table and not key:
        return None
    full = _request(asked, name, _RSS.pack(_GRSSH, 0, table, key, 0, 0) + bytes(4 * table + key))
    if full is None:
        return None
    function, transformed = _RSS.unpack_from(full)[4:6]
    return Rss(
        table=table,
        key=key,
        symmetric=transformed != 0  # the hash of the addresses' and ports' XOR
        or (function == _TOEPLITZ and _is_symmetric(full[_RSS.size + 4 * table :])),
        tcp_ports=_hashes_ports(asked, name, _TCP4),
        udp_ports=_hashes_ports(asked, name, _UDP4),
    )


def _is_symmetric(key: bytes) -> bool:
    """0x6d5a over and over gives both directions one Toeplitz hash."""
    return bool(key) and key == (_SYMMETRIC_KEY * len(key))[: len(key)]


def _hashes_ports(asked: socket.socket, name: str, flow: int) -> bool:
    answer = _request(asked, name, struct.pack("=IIQ176x", _GRXFH, flow, 0))
    return answer is not None and struct.unpack_from("=Q", answer, 8)[0] & _PORTS == _PORTS
