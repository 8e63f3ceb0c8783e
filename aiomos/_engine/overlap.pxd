"""Which copy of a byte a receiver keeps while it waits for bytes in front of it.

The models are those of Novak and Sturges (Target-Based TCP Stream Reassembly, 2007): what each
stack did with a segment [s, e) that met a queued one [ls, le), borders as they were sent. The
names of systems stand for their stacks of that time; OVERLAP_LINUX holds for current kernels
too (docs/decisions/0010-*). A byte goes by the segment that owns it at that time.
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt

# OverlapPolicy; names.OVERLAPS has the same list for people, and _options.py the other names.
cdef enum:
    OVERLAP_FIRST = 0         # the queued byte stays, always (Vista)
    OVERLAP_LAST = 1          # the new one wins, always
    OVERLAP_BSD = 2           # macOS, Windows
    OVERLAP_LINUX = 3
    OVERLAP_OLD_LINUX = 4
    OVERLAP_SOLARIS = 5       # HP-UX 11
    OVERLAPS = 6
    # Beside a policy: bytes are handed out when the receiver has acknowledged them.
    DELIVER_ACKED = 8
    POLICY_BITS = 4           # of both together
    POLICY_MASK = 15
    OVERLAP_MASK = 7          # the OverlapPolicy alone

cdef inline bint overlap_by_borders(uint8_t policy) noexcept nogil:
    """Whether it matters which segment brought a byte; if not, segments may be joined."""
    return policy > OVERLAP_LAST

cdef inline bint overlap_new_wins(uint8_t policy, uint32_t s, uint32_t e, uint32_t ls,
                                  uint32_t le) noexcept nogil:
    if policy == OVERLAP_FIRST:
        return False
    if policy == OVERLAP_LAST:
        return True
    if policy == OVERLAP_SOLARIS:
        return (seq_le(s, ls) and seq_ge(e, le)) or (seq_gt(s, ls) and seq_gt(e, le))
    if seq_lt(s, ls):
        return True
    if s != ls or policy == OVERLAP_BSD:
        return False
    return seq_gt(e, le) or (policy == OVERLAP_OLD_LINUX and e == le)
