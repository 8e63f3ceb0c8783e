"""Community ID: one name for a connection in the logs of different tools.

The published specification, version 1: https://github.com/corelight/community-id-spec
"""

from __future__ import annotations

import base64
import struct

_VERSION = "1:"


def community_id(
    source: bytes, destination: bytes, sport: int, dport: int, protocol: int, seed: int = 0
) -> str:
    """The ID of a TCP or UDP flow; the same for both directions.

    Addresses are packed (4 or 16 bytes), ``protocol`` is the number of IP. ``seed`` (16 bits)
    keeps apart networks that use the same addresses.
    """
    import hashlib  # brings OpenSSL, which most programs never need

    low, high = sorted([(source, sport), (destination, dport)])
    hashed = hashlib.sha1(
        struct.pack("!H", seed)
        + low[0]
        + high[0]
        + struct.pack("!BBHH", protocol, 0, low[1], high[1]),
        usedforsecurity=False,
    )
    return _VERSION + base64.b64encode(hashed.digest()).decode()
