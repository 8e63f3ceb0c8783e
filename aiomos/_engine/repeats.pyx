"""Compares what comes again with what is kept, and tells."""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from aiomos._engine.assembler cimport Repeat, asm_copy, asm_repeat
from aiomos._engine.events cimport (DIFFERS_NO, DIFFERS_UNKNOWN, DIFFERS_YES, EVENT_OVERLAP,
                                    EVENT_RETRANSMISSION, HOOK_RECEIVER)
from aiomos._engine.pool cimport pool_get_early, pool_put_early
from aiomos._engine.state cimport event_raise, event_raise_bytes, event_wanted
from aiomos._engine.stream cimport Span, Stream, span_copy, stream_behind, stream_behind_from

# Bytes for the time of one event: where they lie, or a copy if they lie in several places.
cdef struct Loan:
    const uint8_t *data
    uint8_t *block
    uint32_t size


cdef void lend(CoreState *cs, Loan *loan, uint32_t n) noexcept nogil:
    """Room for a copy. Refused memory tells the event without these bytes."""
    loan.size = 0
    loan.block = <uint8_t *>pool_get_early(&cs.pool, n, &loan.size)
    loan.data = loan.block


cdef void give_back(CoreState *cs, Loan *loan) noexcept nogil:
    if loan.block != NULL:
        pool_put_early(&cs.pool, loan.block, loan.size)


cdef void lend_span(CoreState *cs, Loan *loan, const Span *span, uint32_t at,
                    uint32_t n) noexcept nogil:
    loan.block = NULL
    if span.data != NULL:
        loan.data = span.data + at
        return
    lend(cs, loan, n)
    if loan.block != NULL:
        span_copy(span, at, n, loan.block)


cdef void tell_overlap(CoreState *cs, Flow *f, int s, uint64_t offset, uint32_t n,
                       bint new_wins, const uint8_t *old, const uint8_t *new) noexcept nogil:
    event_raise_bytes(cs, f, EVENT_OVERLAP, s, HOOK_RECEIVER, offset, n, new_wins,
                      old, n if old != NULL else 0, new, n if new != NULL else 0)


# ---- handed out before -------------------------------------------------------------------

cdef void repeats_delivered(CoreState *cs, Flow *f, int s, const Arrival *a,
                            uint32_t n) noexcept nogil:
    """What lies before offset 0 (a pick-up in the middle) was never seen: it repeats nothing."""
    cdef uint32_t behind = f.h[s].nxt - a.seq, at = 0
    if behind > f.h[s].offset:
        at = behind - <uint32_t>f.h[s].offset
    if at < n:
        judge_delivered(cs, f, s, a, at, f.h[s].offset - (behind - at), n - at)


cdef void judge_delivered(CoreState *cs, Flow *f, int s, const Arrival *a, uint32_t at,
                          uint64_t offset, uint32_t n) noexcept nogil:
    """n bytes of the segment from its byte `at` on stand at this stream offset."""
    cdef const Stream *st = f.stream[s]
    cdef uint32_t unknown = n, known = 0
    cdef uint64_t first
    cdef int differs = DIFFERS_UNKNOWN
    cdef Loan new
    new.block = NULL
    new.data = NULL
    if st != NULL:
        first = stream_behind_from(st)
        unknown = 0 if first <= offset else <uint32_t>min(<uint64_t>n, first - offset)
        known = min(n, max(a.span.length, at) - at)      # the captured part of it ...
        known = known - unknown if known > unknown else 0      # ... that is still at hand
    if known:
        lend_span(cs, &new, &a.span, at + unknown, known)
        differs = compared(stream_behind(st, offset + unknown), new.data, known, known == n)
    event_raise(cs, f, EVENT_RETRANSMISSION, s, HOOK_RECEIVER, offset, n, differs)
    if differs == DIFFERS_YES and event_wanted(cs, EVENT_OVERLAP):
        tell_overlap(cs, f, s, offset + unknown, known, False,
                     stream_behind(st, offset + unknown), new.data)
    give_back(cs, &new)


cdef inline int compared(const uint8_t *old, const uint8_t *new, uint32_t n,
                         bint everything) noexcept nogil:
    """Of a range of which only a part is known, "no" cannot be said."""
    if new == NULL:
        return DIFFERS_UNKNOWN
    if memcmp(old, new, n):
        return DIFFERS_YES
    return DIFFERS_NO if everything else DIFFERS_UNKNOWN


# ---- waiting in the store ----------------------------------------------------------------

cdef void repeats_queued(CoreState *cs, Flow *f, int s, const Arrival *a) noexcept nogil:
    cdef Repeat r
    cdef uint32_t from_ = a.seq
    while asm_repeat(f.stream[s], a, from_, &r):
        event_raise(cs, f, EVENT_RETRANSMISSION, s, HOOK_RECEIVER, offset_of(f, s, r.seq),
                    r.length, DIFFERS_YES if r.differs else DIFFERS_NO)
        if r.differs and event_wanted(cs, EVENT_OVERLAP):
            overlap_queued(cs, f, s, a, &r)
        from_ = r.seq + r.length


cdef void overlap_queued(CoreState *cs, Flow *f, int s, const Arrival *a,
                         const Repeat *r) noexcept nogil:
    cdef Loan old, new
    lend(cs, &old, r.length)
    if old.block != NULL:
        asm_copy(f.stream[s], r.seq, r.length, old.block)
    lend_span(cs, &new, &a.span, r.seq - a.seq, r.length)
    tell_overlap(cs, f, s, offset_of(f, s, r.seq), r.length, r.new_wins, old.data, new.data)
    give_back(cs, &new)
    give_back(cs, &old)
