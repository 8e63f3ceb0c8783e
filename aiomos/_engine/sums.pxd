"""Whether the checksums of a packet are right, and of whom that is asked at all.

What the device said is believed first. What cannot be judged counts as right: packets of which
the capture cut something off, IPv6 with a routing header that is still to be followed (its
pseudo-header has another destination), IPv4 without a length (segmentation offload).

An address of which the first 64 segments are all wrong is one of the capturing host, whose
device fills its checksums in later: it is not judged any more (semantics.md 9).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.wire cimport Packet

cdef enum:
    JUDGED_SLOTS = 1 << 12    # addresses remembered
    JUDGED_FIRST = 64         # segments by which an address is judged

# SumResult
cdef enum:
    SUM_RIGHT = 0             # or not to be judged
    SUM_WRONG_IP = 1
    SUM_WRONG_TRANSPORT = 2

# How the first segments of an address came out. Another address of the same slot takes its
# place, but not that of one given up: at most JUDGED_SLOTS addresses are.
cdef struct Judged:
    uint64_t address[2]
    uint8_t version           # 0: empty
    uint8_t wrong             # so far; JUDGED_FIRST: given up
    uint8_t sound             # one was right: judged for good

cdef struct Sums:
    Judged *judged            # NULL: not asked for
    uint32_t given_up         # addresses that are not judged
    uint8_t not_own           # frames that this host sent are trusted
    KeySeed seed

cdef int sums_init(Sums *s) noexcept nogil
cdef void sums_free(Sums *s) noexcept nogil
# A SumResult for a packet with WIRE_TCP, WIRE_UDP, WIRE_OTHER or WIRE_FRAGMENT.
cdef int sums_judge(Sums *s, const Packet *p) noexcept nogil
