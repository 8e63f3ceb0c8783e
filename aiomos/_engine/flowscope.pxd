"""Which network a packet is in, for flow keys that tell equal addresses in two networks apart.

Off by default (docs/decisions/0016): on a mirror port the two directions of one connection often
come with different tags, labels and tunnel numbers.
"""
from libc.stdint cimport uint8_t, uint64_t

from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.wire cimport Packet

cdef enum:
    SCOPE_VLAN = 1
    SCOPE_TUNNEL = 2

# A seeded digest, the same for both directions; 0: no tag and no tunnel. what: SCOPE_*.
cdef uint64_t flow_scope(const Packet *p, const KeySeed *seed, uint8_t what) noexcept nogil
