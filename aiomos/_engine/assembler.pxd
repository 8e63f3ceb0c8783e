"""The out-of-order store of one direction: bytes that came before those in front of them, and,
where bytes are handed out when acknowledged, those that wait for that.

Sorted by sequence number, never overlapping; of two copies of a byte the stream's policy keeps
one (overlap.pxd). Finding a place is a binary search; making one moves at most OOO_MAX_RANGES
small entries; so any input is handled in linear time. Where the policy does not ask which
segment brought a byte, neighbours grow together while their block has room, and are packed
when the list is full.

A FIN has a sequence number like a byte, and lies in the store like one: the stream ends where
reading in order comes to it (docs/decisions/0038-*).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.stream cimport Span, Stream

# What asm_add() says, or-ed together.
cdef enum:
    ASM_NEW = 1               # some bytes were not known yet
    ASM_DUPLICATE = 2         # some were
    ASM_DIFFERS = 4           # and some of these were others
    ASM_LIMIT = 8             # the store is full: something must leave it

# A segment on its way into the store. Its borders as sent: the models ask for them.
cdef struct Arrival:
    Span span                 # the bytes to keep ...
    uint32_t seq              # ... and the number of the first
    uint32_t begin            # left border of the segment; seq, or before it
    uint32_t end              # right border, its FIN included

# A stretch of a segment that the store has already, all of it with one outcome.
cdef struct Repeat:
    uint32_t seq
    uint32_t length
    bint differs
    bint new_wins

cdef int asm_add(Stream *s, const Arrival *a) noexcept nogil
# The FIN of a segment that began at `begin`; what asm_add() says of a byte.
cdef int asm_fin(Stream *s, uint32_t seq, uint32_t begin) noexcept nogil
# Forgets the first piece: a FIN that was none, bytes that were not taken.
cdef void asm_drop_first(Stream *s) noexcept nogil
# The first such stretch that ends behind `from_`, before the segment is added; False: none.
cdef bint asm_repeat(const Stream *s, const Arrival *a, uint32_t from_, Repeat *r) noexcept nogil
# The n bytes from seq on, all of which the store has.
cdef void asm_copy(const Stream *s, uint32_t seq, uint32_t n, uint8_t *out) noexcept nogil
# Where the bytes that follow `seq` without a hole end, as far as the store has them; behind a FIN.
cdef uint32_t asm_run(const Stream *s, uint32_t seq) noexcept nogil
# Delivers what follows nxt without a hole, up to `upto` or a FIN; the new nxt. *failed: memory
# refused.
cdef uint32_t asm_drain(Stream *s, uint32_t nxt, uint32_t upto, bint *failed) noexcept nogil
# Forgets everything from seq on.
cdef void asm_truncate(Stream *s, uint32_t seq) noexcept nogil

# Bytes of entries moved to make or close a place, ever: what tests hold against linear time.
cdef uint64_t asm_moved

cdef inline uint32_t asm_first(const Stream *s) noexcept nogil:
    """Sequence number of the first early byte; only where n_pieces is not 0."""
    return s.pieces[0].seq

cdef inline bint asm_fin_first(const Stream *s) noexcept nogil:
    """Whether the first of the early symbols is a FIN."""
    return s.n_pieces != 0 and s.pieces[0].data == NULL

cdef inline uint32_t asm_end(const Stream *s) noexcept nogil:
    """Sequence number behind the last one; only where n_pieces is not 0."""
    return s.pieces[s.n_pieces - 1].seq + s.pieces[s.n_pieces - 1].length
