"""Which overlap policy, which delivery, and what of urgent bytes, the two sides of a new flow get.

A policy is that of the end that *receives* the bytes of a side: of the client's bytes, the
server's. A handler names one, or leaves it to a table of prefixes in which the receiver's
address is looked up, the longest prefix first. Several handlers read from one buffer: the
first that was declared decides for a flow, and one that asked for something else is counted.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.limits cimport MAX_HANDLERS
from aiomos._engine.overlap cimport OVERLAP_LINUX, OVERLAP_MASK, POLICY_BITS

cdef struct TargetPrefix:
    uint8_t address[16]       # IPv4 in the first four bytes
    uint8_t ip_version
    uint8_t bits
    uint8_t policy            # OverlapPolicy

cdef struct Targets:
    uint64_t asking           # handlers that ask for anything but the usual
    uint64_t by_prefix        # of these, those that leave the policy to the table
    uint8_t asked[MAX_HANDLERS]   # OverlapPolicy, DELIVER_ACKED, UrgentPolicy
    uint8_t usual             # the same, of flows for which nobody asks for another
    TargetPrefix *prefixes    # longest first; the Core's
    uint32_t n_prefixes

# What the readers of a side (mask) get; *conflicts: how many of them asked for something else.
cdef uint8_t targets_choose(const Targets *t, const Flow *f, int side, uint64_t readers,
                            uint32_t *conflicts) noexcept nogil

cdef inline bint target_linux(const Flow *f, int side) noexcept nogil:
    """Whether the end that receives the bytes of this side is known for a Linux."""
    return f.policies >> POLICY_BITS * side & OVERLAP_MASK == OVERLAP_LINUX
