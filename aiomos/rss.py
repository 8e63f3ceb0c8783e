"""Which worker gets a flow: the hash that ports, kernel sockets and workers share traffic out by.

The Toeplitz hash of receive-side scaling with the 16-bit key 0x6d5a repeated, which makes it the
same for both directions (Woo and Park, 2012), over the innermost addresses and ports; then a table
of 128 entries, filled with the workers in turn, as NICs have one.

>>> import aiomos
>>> aiomos.rss.flow_hash("192.0.2.1", 40000, "198.51.100.7", 443) == aiomos.rss.flow_hash(
...     "198.51.100.7", 443, "192.0.2.1", 40000)
True
>>> aiomos.rss.worker_of(("192.0.2.1", 40000, "198.51.100.7", 443), workers=4) in range(4)
True
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from aiomos._flow import FlowKey

__all__ = ["KEY", "TABLE", "flow_hash", "toeplitz", "worker_of"]

#: The key of 40 bytes, as NICs take it.
KEY = bytes((0x6D, 0x5A)) * 20
#: Entries of the table from hash to worker.
TABLE = 128

#: Address and port of the one end, address and port of the other.
Ends: TypeAlias = tuple[str, int, str, int]


def toeplitz(data: bytes, key: bytes = KEY) -> int:
    """The 32-bit Toeplitz hash of some bytes.

    Raises:
        ValueError: the key is not at least 4 bytes longer than the data.
    """
    if len(key) < len(data) + 4:
        raise ValueError(f"a key of {len(key)} bytes is too short for {len(data)} bytes of data")
    bits = 8 * len(key)
    window = int.from_bytes(key, "big")
    found = 0
    for number in range(8 * len(data)):
        if data[number // 8] >> (7 - number % 8) & 1:
            found ^= window >> (bits - 32 - number) & 0xFFFFFFFF
    return found


def flow_hash(address: str, port: int, other: str, other_port: int) -> int:
    """The hash of a TCP or UDP flow, 32 bits; the same whichever end is named first.

    Raises:
        ValueError: what is no address, or two of different IP versions.
    """
    ends = ipaddress.ip_address(address), ipaddress.ip_address(other)
    if ends[0].version != ends[1].version:
        raise ValueError(f"{address} and {other}: one flow has addresses of one IP version")
    return toeplitz(ends[0].packed + ends[1].packed + struct.pack("!HH", port, other_port))


def worker_of(key: FlowKey | Ends, workers: int) -> int:
    """The number of the worker, from 0, that a flow belongs to among so many.

    Raises:
        ValueError: there are not 1 to 128 workers, or the key is none of a flow.
    """
    if not 1 <= workers <= TABLE:
        raise ValueError(f"{workers} workers: there are 1 to {TABLE}")
    if not isinstance(key, tuple):
        key = key.client, key.client_port, key.server, key.server_port
    return flow_hash(*key) % TABLE % workers
