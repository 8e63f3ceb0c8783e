"""Tells of bytes that come again: Retransmission, and Overlap where they are others.

Called before the segment enters any buffer, only where somebody wants such events: old and
new bytes are both at hand.
"""
from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.assembler cimport Arrival
from aiomos._engine.events cimport EVENT_OVERLAP, EVENT_RETRANSMISSION
from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState

cdef enum:
    REPEATS_WANTED = 1 << EVENT_RETRANSMISSION | 1 << EVENT_OVERLAP

# The first n bytes of the segment by its header were handed out before.
cdef void repeats_delivered(CoreState *cs, Flow *f, int s, const Arrival *a,
                            uint32_t n) noexcept nogil
# What the store has of the segment: a range for each stretch with one outcome.
cdef void repeats_queued(CoreState *cs, Flow *f, int s, const Arrival *a) noexcept nogil

cdef inline uint64_t offset_of(const Flow *f, int s, uint32_t seq) noexcept nogil:
    """Stream offset of a sequence number at nxt or behind it."""
    return f.h[s].offset + <uint32_t>(seq - f.h[s].nxt)
