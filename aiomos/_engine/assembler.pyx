"""Adds early segments piece by piece into the holes between what is there, and over it where
the policy lets new bytes win."""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy, memmove

from aiomos._engine.intrinsics cimport unlikely
from aiomos._engine.limits cimport OOO_MAX_BYTES, OOO_MAX_RANGES
from aiomos._engine.overlap cimport (DELIVER_ACKED, OVERLAP_MASK, overlap_by_borders,
                                     overlap_new_wins)
from aiomos._engine.pool cimport pool_get_early as pool_get
from aiomos._engine.pool cimport pool_put_early as pool_put
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.stream cimport Piece, span_copy, stream_append_bytes

cdef enum:
    COMPARE_AT_ONCE = 256     # bytes of a second copy that is spread over segments

asm_moved = 0


cdef inline uint32_t piece_end(const Piece *p) noexcept nogil:
    return p.seq + p.length


cdef inline bint is_fin(const Piece *p) noexcept nogil:
    return p.data == NULL


cdef inline uint8_t *piece_data(const Piece *p) noexcept nogil:
    return p.data + p.skip


cdef inline uint8_t policy_of(const Stream *s) noexcept nogil:
    return s.policy & OVERLAP_MASK


cdef inline uint32_t arrival_end(const Arrival *a) noexcept nogil:
    return a.seq + a.span.length


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


cdef bint same_bytes(const Piece *p, const Arrival *a, uint32_t seq, uint32_t n) noexcept nogil:
    """Whether piece and segment agree in [seq, seq + n)."""
    cdef const uint8_t *old
    cdef uint8_t copy[COMPARE_AT_ONCE]
    cdef uint32_t at = seq - a.seq, done = 0, step
    if is_fin(p):
        return False
    old = piece_data(p) + (seq - p.seq)
    if a.span.data != NULL:
        return memcmp(old, a.span.data + at, n) == 0
    while done < n:
        step = min(n - done, <uint32_t>COMPARE_AT_ONCE)
        span_copy(&a.span, at + done, step, copy)
        if memcmp(old + done, copy, step):
            return False
        done += step
    return True


cdef inline bint new_wins(const Stream *s, const Arrival *a, const Piece *p) noexcept nogil:
    if is_fin(p) and not overlap_by_borders(policy_of(s)):
        return not fin_taken(s, p)
    return overlap_new_wins(policy_of(s), a.begin, a.end, p.begin, p.end)


cdef inline bint fin_taken(const Stream *s, const Piece *fin) noexcept nogil:
    """It waits for its acknowledgement alone: to its receiver the stream is over."""
    return s.policy & DELIVER_ACKED and s.ready == fin.seq + 1


# ---- what is there already ---------------------------------------------------------------

cdef bint asm_repeat(const Stream *s, const Arrival *a, uint32_t from_, Repeat *r) noexcept nogil:
    cdef uint32_t i = find(s, from_), stop, end = arrival_end(a)
    cdef const Piece *p
    r.length = 0
    r.differs = False
    while i < s.n_pieces and seq_lt(s.pieces[i].seq, end):
        p = &s.pieces[i]
        if is_fin(p):                # an end repeats no bytes
            if r.length:
                break
            i += 1
            continue
        if r.length == 0:
            r.seq = from_ if seq_gt(from_, p.seq) else p.seq
            r.new_wins = new_wins(s, a, p)
        elif p.seq != r.seq + r.length or new_wins(s, a, p) != r.new_wins:
            break
        stop = end if seq_gt(piece_end(p), end) else piece_end(p)
        if not r.differs and not same_bytes(p, a, r.seq + r.length, stop - r.seq - r.length):
            r.differs = True
        r.length = stop - r.seq
        i += 1
    return r.length != 0


cdef void asm_copy(const Stream *s, uint32_t seq, uint32_t n, uint8_t *out) noexcept nogil:
    cdef uint32_t i = find(s, seq), step
    cdef const Piece *p
    while n and i < s.n_pieces:
        p = &s.pieces[i]
        step = min(n, piece_end(p) - seq)
        memcpy(out, piece_data(p) + (seq - p.seq), step)
        out += step
        seq += step
        n -= step
        i += 1


cdef uint32_t asm_run(const Stream *s, uint32_t seq) noexcept nogil:
    cdef uint32_t i = find(s, seq)
    if i and is_fin(&s.pieces[i - 1]) and piece_end(&s.pieces[i - 1]) == seq:
        return seq                   # the FIN was met
    while i < s.n_pieces and seq_le(s.pieces[i].seq, seq):
        seq = piece_end(&s.pieces[i])
        if is_fin(&s.pieces[i]):
            break
        i += 1
    return seq


# ---- a segment ---------------------------------------------------------------------------

cdef int asm_add(Stream *s, const Arrival *a) noexcept nogil:
    cdef uint32_t end = arrival_end(a), cur = a.seq, stop
    cdef uint32_t i = find(s, cur)
    cdef int result = 0
    while seq_lt(cur, end):
        if i < s.n_pieces and seq_le(s.pieces[i].seq, cur):
            stop = piece_end(&s.pieces[i])
            if seq_gt(stop, end):
                stop = end
            result |= ASM_DUPLICATE
            if not same_bytes(&s.pieces[i], a, cur, stop - cur):
                result |= ASM_DIFFERS
            if new_wins(s, a, &s.pieces[i]) and not replace(s, &i, a, cur, stop - cur):
                return result | ASM_LIMIT
            if i < s.n_pieces and seq_le(piece_end(&s.pieces[i]), stop):
                i += 1
        else:
            stop = end
            if i < s.n_pieces and seq_lt(s.pieces[i].seq, end):
                stop = s.pieces[i].seq
            if not keep(s, &i, a, cur, stop - cur):
                return result | ASM_LIMIT
            result |= ASM_NEW
        cur = stop
    return result | judge_size(s)


cdef inline int judge_size(Stream *s) noexcept nogil:
    if s.early > OOO_MAX_BYTES or s.n_pieces > OOO_MAX_RANGES:
        if s.early > OOO_MAX_BYTES or not pack(s):
            return ASM_LIMIT
    return 0


cdef bint keep(Stream *s, uint32_t *i, const Arrival *a, uint32_t seq, uint32_t n) noexcept nogil:
    """Bytes [seq, seq + n) of the segment, before piece *i; *i is then the piece behind them."""
    cdef Piece *p
    if grow_left(s, i[0], a, seq, n) or grow_right(s, i[0], a, seq, n):
        return True
    if unlikely(not room_for_piece(s)):
        return False
    p = &s.pieces[i[0]]
    move(p + 1, p, s.n_pieces - i[0])
    p.data = <uint8_t *>pool_get(s.pool, n, &p.room)
    if unlikely(p.data == NULL):
        move(p, p + 1, s.n_pieces - i[0])
        return False
    p.skip = 0
    if i[0] < s.n_pieces and p[1].seq == seq + n and not overlap_by_borders(policy_of(s)):
        p.skip = p.room - n      # they come in reverse: room for those in front of it
    p.begin = a.begin
    p.end = a.end
    p.seq = seq
    p.length = n
    span_copy(&a.span, seq - a.seq, n, piece_data(p))
    s.n_pieces += 1
    s.early += n
    i[0] += 1
    return True


cdef inline void move(Piece *to, const Piece *pieces, uint32_t n) noexcept nogil:
    global asm_moved
    if n:
        memmove(to, pieces, n * sizeof(Piece))
        asm_moved += n * sizeof(Piece)


cdef inline bint alike(const Stream *s, const Piece *p, uint32_t begin,
                       uint32_t end) noexcept nogil:
    """Whether bytes of a segment with these borders may stand in one piece with p's."""
    return not overlap_by_borders(policy_of(s)) or (p.begin == begin and p.end == end)


cdef inline bint grow_left(Stream *s, uint32_t i, const Arrival *a, uint32_t seq,
                           uint32_t n) noexcept nogil:
    """Into the piece before, where that has room behind its last byte."""
    cdef Piece *p = &s.pieces[i - 1] if i else NULL
    if p == NULL or piece_end(p) != seq or p.skip + p.length + n > p.room:
        return False             # nor into a FIN, whose room is 0
    if not alike(s, p, a.begin, a.end):
        return False
    span_copy(&a.span, seq - a.seq, n, piece_data(p) + p.length)
    p.length += n
    s.early += n
    return True


cdef inline bint grow_right(Stream *s, uint32_t i, const Arrival *a, uint32_t seq,
                            uint32_t n) noexcept nogil:
    """Into the piece behind, where that has room in front of its first byte."""
    cdef Piece *p = &s.pieces[i] if i < s.n_pieces else NULL
    if p == NULL or p.seq != seq + n or p.skip < n:
        return False
    if not alike(s, p, a.begin, a.end):
        return False
    p.skip -= n
    p.seq -= n
    p.length += n
    s.early += n
    span_copy(&a.span, seq - a.seq, n, piece_data(p))
    return True


cdef bint replace(Stream *s, uint32_t *i, const Arrival *a, uint32_t seq,
                  uint32_t n) noexcept nogil:
    """The segment wins [seq, seq + n) of piece *i; *i is then the piece that holds or follows it.

    By the models it wins a piece as a whole, its beginning or its end. In between it wins only
    where borders do not count.
    """
    cdef Piece *p = &s.pieces[i[0]]
    if is_fin(p) and not fin_to_text(s, p):
        return False
    if n < p.length and overlap_by_borders(policy_of(s)):
        if seq == p.seq:
            return replace_front(s, i, a, n)
        return replace_back(s, i, a, seq, n)
    span_copy(&a.span, seq - a.seq, n, piece_data(p) + (seq - p.seq))
    p.begin = a.begin
    p.end = a.end
    return True


cdef bint replace_front(Stream *s, uint32_t *i, const Arrival *a, uint32_t n) noexcept nogil:
    cut_front(s, i[0], n)
    if not keep(s, i, a, s.pieces[i[0]].seq - n, n):
        cut_front(s, i[0], <uint32_t>-<int>n)
        return False
    return True


cdef bint replace_back(Stream *s, uint32_t *i, const Arrival *a, uint32_t seq,
                       uint32_t n) noexcept nogil:
    cdef uint32_t at = i[0] + 1
    s.pieces[i[0]].length -= n
    s.early -= n
    if not keep(s, &at, a, seq, n):
        s.pieces[i[0]].length += n
        s.early += n
        return False
    i[0] = at
    return True


cdef inline void cut_front(Stream *s, uint32_t i, uint32_t n) noexcept nogil:
    cdef Piece *p = &s.pieces[i]
    p.skip += n
    p.seq += n
    p.length -= n
    s.early -= n


# ---- FINs --------------------------------------------------------------------------------

cdef int asm_fin(Stream *s, uint32_t seq, uint32_t begin) noexcept nogil:
    cdef uint32_t i = find(s, seq)
    cdef Piece *p
    if unlikely(not room_for_piece(s)):
        return ASM_LIMIT
    p = &s.pieces[i]
    if i < s.n_pieces and seq_le(p.seq, seq):
        if not fin_wins(s, p, seq, begin):
            return ASM_DUPLICATE
        if is_fin(p):
            p.begin = begin
            return ASM_DUPLICATE
        i = clear_place(s, i, seq)
    insert_fin(s, i, seq, begin)
    return ASM_NEW | judge_size(s)


cdef inline bint fin_wins(const Stream *s, const Piece *p, uint32_t seq,
                          uint32_t begin) noexcept nogil:
    """Where borders do not count, a byte shows that the stream goes on: no FIN hides it."""
    return (overlap_by_borders(policy_of(s))
            and overlap_new_wins(policy_of(s), begin, seq + 1, p.begin, p.end))


cdef uint32_t clear_place(Stream *s, uint32_t i, uint32_t seq) noexcept nogil:
    """Takes the byte out of piece i; where the FIN is to stand in the list.

    What won has won the beginning of the piece or its end; behind a FIN nothing is read.
    """
    cdef Piece *p = &s.pieces[i]
    if seq == p.seq and p.length > 1:
        cut_front(s, i, 1)
        return i
    s.early -= piece_end(p) - seq
    p.length = seq - p.seq
    if p.length:
        return i + 1
    release(s, p)
    s.n_pieces -= 1
    move(p, p + 1, s.n_pieces - i)
    return i


cdef void insert_fin(Stream *s, uint32_t i, uint32_t seq, uint32_t begin) noexcept nogil:
    """Only where there is room for a piece."""
    cdef Piece *p = &s.pieces[i]
    move(p + 1, p, s.n_pieces - i)
    p.data = NULL
    p.seq = seq
    p.length = 1
    p.room = 0
    p.skip = 0
    p.begin = begin
    p.end = seq + 1
    s.n_pieces += 1
    s.early += 1
    s.fins += 1


cdef bint fin_to_text(Stream *s, Piece *p) noexcept nogil:
    """A byte takes its place: room for that."""
    p.data = <uint8_t *>pool_get(s.pool, 1, &p.room)
    if p.data == NULL:
        p.room = 0
        return False
    s.fins -= 1
    return True


cdef void asm_drop_first(Stream *s) noexcept nogil:
    drop_front(s, 1)


cdef inline void release(Stream *s, Piece *p) noexcept nogil:
    if is_fin(p):
        s.fins -= 1
    else:
        pool_put(s.pool, p.data, p.room)


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


# ---- packing -----------------------------------------------------------------------------

cdef bint pack(Stream *s) noexcept nogil:
    """Joins neighbours that touch; True if that halved the list, so that the work of doing
    it is paid for by the pieces that came since the last time."""
    cdef uint32_t before = s.n_pieces, kept = 0, i = 0, j
    while i < before:
        j = i + 1
        while j < before and may_join(s, j - 1):
            j += 1
        s.pieces[kept] = s.pieces[i]
        if j > i + 1:
            join(s, kept, i, j)
        kept += 1
        i = j
    s.n_pieces = kept
    return kept <= before // 2


cdef inline bint may_join(const Stream *s, uint32_t i) noexcept nogil:
    """Piece i and the one behind it."""
    cdef const Piece *p = &s.pieces[i]
    if is_fin(p) or is_fin(p + 1):
        return False
    return piece_end(p) == p[1].seq and alike(s, p, p[1].begin, p[1].end)


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
            memcpy(block + at, piece_data(&s.pieces[i]), s.pieces[i].length)
            at += s.pieces[i].length
        if block != NULL or i > first:
            pool_put(s.pool, s.pieces[i].data, s.pieces[i].room)
    if block == NULL:
        s.early -= total - s.pieces[first].length
        return
    s.pieces[into].seq = s.pieces[first].seq
    s.pieces[into].data = block
    s.pieces[into].skip = 0
    s.pieces[into].length = total
    s.pieces[into].room = got


# ---- out again ---------------------------------------------------------------------------

cdef void drop_front(Stream *s, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        s.early -= s.pieces[i].length
        release(s, &s.pieces[i])
    s.n_pieces -= n
    if s.n_pieces:
        move(s.pieces, s.pieces + n, s.n_pieces)
    else:
        pool_put(s.pool, s.pieces, s.pieces_size)
        s.pieces = NULL
        s.pieces_size = 0


cdef uint32_t asm_drain(Stream *s, uint32_t nxt, uint32_t upto, bint *failed) noexcept nogil:
    cdef uint32_t n = 0, stop
    cdef Piece *p
    failed[0] = False
    while n < s.n_pieces and seq_le(s.pieces[n].seq, nxt):
        p = &s.pieces[n]
        if is_fin(p) and p.seq == nxt:
            break
        stop = upto if seq_gt(piece_end(p), upto) else piece_end(p)
        if seq_gt(stop, nxt):    # else it was delivered meanwhile, or waits
            if not stream_append_bytes(s, piece_data(p) + (nxt - p.seq), stop - nxt):
                failed[0] = True
                break
            nxt = stop
        if seq_lt(nxt, piece_end(p)):
            cut_front(s, n, nxt - p.seq)
            break
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
        release(s, last)
        s.n_pieces -= 1
