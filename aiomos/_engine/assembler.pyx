"""Adds early segments piece by piece into the holes between what is there."""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy, memmove

from aiomos._engine.intrinsics cimport unlikely
from aiomos._engine.limits cimport OOO_MAX_BYTES, OOO_MAX_RANGES
from aiomos._engine.pool cimport pool_get_early as pool_get
from aiomos._engine.pool cimport pool_put_early as pool_put
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.stream cimport Piece, span_copy, stream_append_bytes

cdef enum:
    COMPARE_AT_ONCE = 256     # bytes of a second copy that is spread over segments


cdef inline uint32_t piece_end(const Piece *p) noexcept nogil:
    return p.seq + p.length


cdef uint32_t find(const Stream *s, uint32_t seq) noexcept nogil:
    """The first piece that ends behind seq. Most segments belong at the end: look there first."""
    cdef uint32_t low = 0, high = s.n_pieces, middle
    if high and seq_ge(seq, piece_end(&s.pieces[high - 1])):
        return high
    while low < high:
        middle = (low + high) >> 1
        if seq_gt(piece_end(&s.pieces[middle]), seq):
            high = middle
        else:
            low = middle + 1
    return low


cdef bint same_bytes(const Piece *p, uint32_t at, const Span *span, uint32_t span_at,
                     uint32_t n) noexcept nogil:
    cdef uint8_t copy[COMPARE_AT_ONCE]
    cdef uint32_t done = 0, step
    if span.data != NULL:
        return memcmp(p.data + at, span.data + span_at, n) == 0
    while done < n:
        step = min(n - done, <uint32_t>COMPARE_AT_ONCE)
        span_copy(span, span_at + done, step, copy)
        if memcmp(p.data + at + done, copy, step):
            return False
        done += step
    return True


cdef int asm_add(Stream *s, const Span *span, uint32_t seq) noexcept nogil:
    cdef uint32_t end = seq + span.length, cur = seq, stop
    cdef uint32_t i = find(s, seq)
    cdef int result = 0
    while seq_lt(cur, end):
        if i < s.n_pieces and seq_le(s.pieces[i].seq, cur):
            stop = piece_end(&s.pieces[i])
            if seq_gt(stop, end):
                stop = end
            result |= ASM_DUPLICATE
            if not same_bytes(&s.pieces[i], cur - s.pieces[i].seq, span, cur - seq, stop - cur):
                result |= ASM_DIFFERS
            i += 1
        else:
            stop = end
            if i < s.n_pieces and seq_lt(s.pieces[i].seq, end):
                stop = s.pieces[i].seq
            if not keep(s, &i, span, cur - seq, stop - cur, cur):
                return result | ASM_LIMIT
            result |= ASM_NEW
        cur = stop
    if s.early > OOO_MAX_BYTES or s.n_pieces > OOO_MAX_RANGES:
        if s.early > OOO_MAX_BYTES or not pack(s):
            result |= ASM_LIMIT
    return result


cdef bint keep(Stream *s, uint32_t *i, const Span *span, uint32_t at, uint32_t n,
               uint32_t seq) noexcept nogil:
    """Bytes [at, at + n) of the span, before piece *i; *i is then the piece behind them."""
    cdef Piece *left = &s.pieces[i[0] - 1] if i[0] else NULL
    cdef Piece *p
    if left != NULL and piece_end(left) == seq and left.length + n <= left.room:
        span_copy(span, at, n, left.data + left.length)
        left.length += n
        s.early += n
        return True
    if unlikely(not room_for_piece(s)):
        return False
    p = &s.pieces[i[0]]
    memmove(p + 1, p, (s.n_pieces - i[0]) * sizeof(Piece))
    p.data = <uint8_t *>pool_get(s.pool, n, &p.room)
    if unlikely(p.data == NULL):
        memmove(p, p + 1, (s.n_pieces - i[0]) * sizeof(Piece))
        return False
    span_copy(span, at, n, p.data)
    p.seq = seq
    p.length = n
    s.n_pieces += 1
    s.early += n
    i[0] += 1
    return True


cdef bint room_for_piece(Stream *s) noexcept nogil:
    cdef uint32_t got = 0
    cdef Piece *block
    if s.pieces != NULL and (s.n_pieces + 1) * sizeof(Piece) <= s.pieces_size:
        return True
    block = <Piece *>pool_get(s.pool, (s.n_pieces + 1) * sizeof(Piece), &got)
    if block == NULL:
        return False
    if s.pieces != NULL:
        memcpy(block, s.pieces, s.n_pieces * sizeof(Piece))
        pool_put(s.pool, s.pieces, s.pieces_size)
    s.pieces = block
    s.pieces_size = got
    return True


cdef bint pack(Stream *s) noexcept nogil:
    """Joins neighbours that touch; True if that halved the list, so that the work of doing
    it is paid for by the pieces that came since the last time."""
    cdef uint32_t before = s.n_pieces, kept = 0, i = 0, j
    while i < before:
        j = i + 1
        while j < before and piece_end(&s.pieces[j - 1]) == s.pieces[j].seq:
            j += 1
        s.pieces[kept] = s.pieces[i]
        if j > i + 1:
            join(s, kept, i, j)
        kept += 1
        i = j
    s.n_pieces = kept
    return kept <= before // 2


cdef void join(Stream *s, uint32_t into, uint32_t first, uint32_t behind) noexcept nogil:
    """Pieces [first, behind) as one at index into. Without memory the tail of them is
    forgotten: it is sent again, or becomes a gap."""
    cdef uint32_t total = 0, got = 0, i, at = 0
    cdef uint8_t *block
    for i in range(first, behind):
        total += s.pieces[i].length
    block = <uint8_t *>pool_get(s.pool, total, &got)
    for i in range(first, behind):
        if block != NULL:
            memcpy(block + at, s.pieces[i].data, s.pieces[i].length)
            at += s.pieces[i].length
        if block != NULL or i > first:
            pool_put(s.pool, s.pieces[i].data, s.pieces[i].room)
    if block == NULL:
        s.early -= total - s.pieces[first].length
        return
    s.pieces[into].seq = s.pieces[first].seq
    s.pieces[into].data = block
    s.pieces[into].length = total
    s.pieces[into].room = got


cdef void drop_front(Stream *s, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        s.early -= s.pieces[i].length
        pool_put(s.pool, s.pieces[i].data, s.pieces[i].room)
    s.n_pieces -= n
    if s.n_pieces:
        memmove(s.pieces, s.pieces + n, s.n_pieces * sizeof(Piece))
    else:
        pool_put(s.pool, s.pieces, s.pieces_size)
        s.pieces = NULL
        s.pieces_size = 0


cdef uint32_t asm_drain(Stream *s, uint32_t nxt, bint *failed) noexcept nogil:
    cdef uint32_t n = 0
    cdef Piece *p
    cdef uint32_t skip
    failed[0] = False
    while n < s.n_pieces and seq_le(s.pieces[n].seq, nxt):
        p = &s.pieces[n]
        skip = nxt - p.seq       # delivered meanwhile by a segment that filled the hole
        if skip < p.length:
            if not stream_append_bytes(s, p.data + skip, p.length - skip):
                failed[0] = True
                break
            nxt += p.length - skip
        n += 1
    if n:
        drop_front(s, n)
    return nxt


cdef void asm_truncate(Stream *s, uint32_t seq) noexcept nogil:
    cdef Piece *last
    while s.n_pieces:
        last = &s.pieces[s.n_pieces - 1]
        if seq_le(piece_end(last), seq):
            return
        if seq_lt(last.seq, seq):
            s.early -= piece_end(last) - seq
            last.length = seq - last.seq
            return
        s.early -= last.length
        pool_put(s.pool, last.data, last.room)
        s.n_pieces -= 1
