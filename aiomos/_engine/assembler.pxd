"""The out-of-order store of one direction: bytes that came before those in front of them.

Sorted by sequence number, never overlapping, first copy kept. Finding a place is a binary
search; making one moves at most OOO_MAX_RANGES small entries; so any input is handled in
linear time. Neighbours grow together while their block has room, and are packed when the
list is full.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.stream cimport Span, Stream

# What asm_add() says, or-ed together.
cdef enum:
    ASM_NEW = 1               # some bytes were not known yet
    ASM_DUPLICATE = 2         # some were
    ASM_DIFFERS = 4           # and some of these were others
    ASM_LIMIT = 8             # the store is full: the hole in front must become a gap

# Keeps a span whose first byte has this sequence number; nxt is the first one missing.
cdef int asm_add(Stream *s, const Span *span, uint32_t seq) noexcept nogil
# Delivers what follows nxt without a hole; the new nxt. *failed: memory refused.
cdef uint32_t asm_drain(Stream *s, uint32_t nxt, bint *failed) noexcept nogil
# Forgets everything from seq on.
cdef void asm_truncate(Stream *s, uint32_t seq) noexcept nogil

cdef inline uint32_t asm_first(const Stream *s) noexcept nogil:
    """Sequence number of the first early byte; only where n_pieces is not 0."""
    return s.pieces[0].seq
