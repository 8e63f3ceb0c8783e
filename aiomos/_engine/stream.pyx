"""Delivered bytes of one direction: append at the end, read through cursors, trim behind
the slowest of them."""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.limits cimport GAP_MEMORY, GAP_SLOW_READER
from aiomos._engine.pool cimport pool_get, pool_put, pool_put_early
from aiomos._engine.shim cimport aio_frame_copy

cdef enum:
    FIRST_BUFFER = 2048
    FULL = 65536              # until its readers say otherwise: the default limit
    MOST_MARKS = 65535
    HALF = 2                  # one in so many gaps of the list has been passed by all
    FEW = 8


cdef void span_copy(const Span *s, uint32_t at, uint32_t n, uint8_t *out) noexcept nogil:
    if likely(s.data != NULL):
        memcpy(out, s.data + at, n)
    else:
        aio_frame_copy(s.frame, s.offset + at, n, out)


# ---- birth and end -----------------------------------------------------------------------

cdef Stream *stream_new(Pool *pool, uint64_t offset) noexcept nogil:
    cdef uint32_t got = 0
    cdef Stream *s = <Stream *>pool_get(pool, sizeof(Stream), &got)
    if s == NULL:
        return NULL
    memset(s, 0, sizeof(Stream))
    s.pool = pool
    s.marks = &s.first_mark
    s.marks_size = sizeof(GapMark)
    s.base = offset
    s.full = FULL
    s.references = 1
    return s


cdef void stream_drop(Stream *s) noexcept nogil:
    cdef uint32_t i
    s.references -= 1
    if s.references:
        return
    drop_buffer(s)
    for i in range(s.n_pieces):
        if s.pieces[i].data != NULL:
            pool_put_early(s.pool, s.pieces[i].data, s.pieces[i].room)
    if s.pieces != NULL:
        pool_put_early(s.pool, s.pieces, s.pieces_size)
    if s.marks != &s.first_mark:
        pool_put(s.pool, s.marks, s.marks_size)
    pool_put(s.pool, s, block_size(sizeof(Stream)))


cdef inline uint32_t block_size(uint32_t size) noexcept nogil:
    """What pool_get() gives for size."""
    cdef uint32_t block = 64
    while block < size:
        block <<= 1
    return block


cdef inline void drop_buffer(Stream *s) noexcept nogil:
    if s.buffer != NULL:
        pool_put(s.pool, s.buffer, s.size)
        s.buffer = NULL
    forget_stamps(s)
    s.size = 0
    s.start = 0
    s.fill = 0
    s.kept = 0


cdef uint64_t stream_end(const Stream *s) noexcept nogil:
    return s.base + s.fill


# ---- delivery ----------------------------------------------------------------------------

cdef bint make_room(Stream *s, uint32_t length) noexcept nogil:
    """Room for length bytes behind the last one, by moving up or by a larger block."""
    cdef uint8_t *block
    cdef uint32_t got = 0, kept = min(s.kept, s.history), held = kept + s.fill
    if s.buffer != NULL and held + length <= s.size and s.start - kept >= held:
        memcpy(s.buffer, s.buffer + s.start - kept, held)  # cheap: at most half of the block
        s.start = kept
        s.kept = kept
        return True
    block = <uint8_t *>pool_get(s.pool, max(<uint64_t>FIRST_BUFFER,
                                            (<uint64_t>held + length) * 5 // 4), &got)
    if block == NULL:
        return False
    if held:
        memcpy(block, s.buffer + s.start - kept, held)
    if s.buffer != NULL:
        pool_put(s.pool, s.buffer, s.size)
    s.buffer = block
    s.size = got
    s.start = kept
    s.kept = kept
    return True


cdef inline uint8_t *room_for(Stream *s, uint32_t length) noexcept nogil:
    if unlikely(s.start + s.fill + length > s.size) and not make_room(s, length):
        return NULL
    return s.buffer + s.start + s.fill


cdef bint stream_append(Stream *s, const Span *span) noexcept nogil:
    cdef uint8_t *out
    if unlikely(s.flags & (STREAM_STOPPED | STREAM_UNREAD | STREAM_CRAMPED)):
        if s.flags & STREAM_UNREAD:
            stream_gap(s, span.length, GAP_SLOW_READER)
            return True
        if s.flags & STREAM_STOPPED:
            s.base += span.length
            return True
        if not room_for_mark(s):     # a gap behind these bytes could not be told
            return False
        s.flags &= ~<uint16_t>STREAM_CRAMPED
    out = room_for(s, span.length)
    if unlikely(out == NULL):
        return False
    span_copy(span, 0, span.length, out)
    stamp(s)
    s.fill += span.length
    return True


cdef inline const Stamp *stamps_of(const Stream *s) noexcept nogil:
    if s.stamps == NULL:
        return &s.first_stamps[0]
    return s.stamps


cdef inline void stamp(Stream *s) noexcept nogil:
    """Notes when the bytes about to be appended came, unless that is as for the last ones."""
    cdef Stamp *at = &s.first_stamps[0] if s.stamps == NULL else s.stamps
    cdef uint32_t n = s.n_stamps
    if n and at[n - 1].time_ns == s.now_ns and at[n - 1].order == s.now_order:
        return
    if unlikely(n == (STAMPS_INLINE if s.stamps == NULL else s.stamps_size // sizeof(Stamp))):
        at = more_stamps(s)
        if at == NULL:
            return                   # without memory, times are those of earlier bytes
        n = s.n_stamps
    at[n].position = s.base + s.fill
    at[n].time_ns = s.now_ns
    at[n].order = s.now_order
    s.n_stamps += 1


cdef Stamp *more_stamps(Stream *s) noexcept nogil:
    """Room for one more at least; those of bytes that every reader has are thrown away."""
    cdef uint32_t got = 0
    cdef Stamp *block
    if s.stamps_gone > s.n_stamps // 2:
        return pack_stamps(s)
    pack_stamps(s)
    block = <Stamp *>pool_get(s.pool, (s.n_stamps + 1) * sizeof(Stamp), &got)
    if block == NULL:
        return NULL
    memcpy(block, stamps_of(s), s.n_stamps * sizeof(Stamp))
    drop_stamps(s)
    s.stamps = block
    s.stamps_size = got
    return block


cdef inline void forget_stamps(Stream *s) noexcept nogil:
    drop_stamps(s)
    s.n_stamps = 0
    s.stamps_gone = 0


cdef inline void drop_stamps(Stream *s) noexcept nogil:
    if s.stamps != NULL:
        pool_put(s.pool, s.stamps, s.stamps_size)
        s.stamps = NULL


cdef Stamp *pack_stamps(Stream *s) noexcept nogil:
    cdef Stamp *at = &s.first_stamps[0] if s.stamps == NULL else s.stamps
    s.n_stamps -= s.stamps_gone
    memmove(at, at + s.stamps_gone, s.n_stamps * sizeof(Stamp))
    s.stamps_gone = 0
    return at


cdef uint32_t stamp_at(const Stream *s, uint64_t position) noexcept nogil:
    """Which stamp is that of the byte at a position: halving, for many may wait for one reader."""
    cdef const Stamp *at = stamps_of(s)
    cdef uint32_t low = s.stamps_gone, high = s.n_stamps, middle
    while low + 1 < high:
        middle = low + (high - low) // 2
        if at[middle].position <= position:
            low = middle
        else:
            high = middle
    return low


cdef int64_t cursor_time(const Cursor *c, uint64_t n) noexcept nogil:
    cdef const Stream *s = c.stream
    if unlikely(s.n_stamps == 0):
        return s.now_ns
    return stamps_of(s)[stamp_at(s, c.position + n)].time_ns


cdef uint64_t cursor_run(const Cursor *c, uint64_t n, Stamp *when) noexcept nogil:
    cdef const Stream *s = c.stream
    cdef uint32_t i
    if unlikely(s.n_stamps == 0):               # no memory was left for one
        when.time_ns = s.now_ns
        when.order = s.now_order
        return n
    i = stamp_at(s, c.position)
    when[0] = stamps_of(s)[i]
    if i + 1 == s.n_stamps:
        return n
    return min(n, stamps_of(s)[i + 1].position - c.position)


cdef inline void trim_stamps(Stream *s) noexcept nogil:
    """Forgets the stamps of bytes that every reader has."""
    cdef const Stamp *at = stamps_of(s)
    while s.stamps_gone + 1 < s.n_stamps and at[s.stamps_gone + 1].position <= s.base:
        s.stamps_gone += 1


cdef bint stream_append_bytes(Stream *s, const uint8_t *data, uint32_t length) noexcept nogil:
    cdef Span span
    span.data = data
    span.frame = NULL
    span.offset = 0
    span.length = length
    return stream_append(s, &span)


# ---- gaps --------------------------------------------------------------------------------

cdef inline bint marks_full(const Stream *s) noexcept nogil:
    return s.n_marks == MOST_MARKS or (s.n_marks + 1) * sizeof(GapMark) > s.marks_size


cdef bint room_for_mark(Stream *s) noexcept nogil:
    cdef uint32_t got = 0
    cdef GapMark *block
    if not marks_full(s):
        return True
    if s.cursors != NULL and drop_marks(s, FEW):    # else its reader may be on its way
        return True
    if s.n_marks == MOST_MARKS:
        return False
    block = <GapMark *>pool_get(s.pool, (s.n_marks + 1) * sizeof(GapMark), &got)
    if block == NULL:
        return False
    memcpy(block, s.marks, s.n_marks * sizeof(GapMark))
    if s.marks != &s.first_mark:
        pool_put(s.pool, s.marks, s.marks_size)
    s.marks = block
    s.marks_size = got
    return True


cdef void see_again(Stream *s, const GapMark *last) noexcept nogil:
    """Readers that have passed the last gap meet it once more: it grows where they stand."""
    cdef Cursor *c = s.cursors
    while c != NULL:
        if c.gaps_passed == s.marks_gone + s.n_marks:
            c.gaps_passed -= 1
            c.skipped -= last.length
        c = c.next


cdef bint somebody_passed(const Stream *s) noexcept nogil:
    cdef const Cursor *c = s.cursors
    while c != NULL:
        if c.gaps_passed == s.marks_gone + s.n_marks:
            return True
        c = c.next
    return False


cdef void stream_gap(Stream *s, uint64_t length, uint32_t cause) noexcept nogil:
    """A gap behind the last byte. What slow readers lose in one place is one gap; others stay
    apart, for whether their reader has met the first of two depends on the burst. Where memory
    for the list is refused, adjacent ones are one. No gap is ever forgotten: bytes are only taken
    behind one (stream_append) when there is room for the next."""
    cdef GapMark *last
    cdef uint64_t position = stream_end(s)
    cdef uint64_t offset = position + s.missing
    if length == 0:
        return
    s.missing += length
    if s.flags & STREAM_STOPPED:
        return
    last = &s.marks[s.n_marks - 1] if s.n_marks else NULL
    if last != NULL and last.position == position:
        if cause == GAP_SLOW_READER == last.cause and not somebody_passed(s):
            last.length += length
            return
        if not room_for_mark(s):
            see_again(s, last)
            last.length += length
            return
    if not room_for_mark(s):         # cannot be: stream_append() saw to it
        return
    last = &s.marks[s.n_marks]
    last.position = position
    last.offset = offset
    last.length = length
    last.cause = cause
    s.n_marks += 1
    if marks_full(s):
        s.flags |= STREAM_CRAMPED


cdef uint64_t stream_cut(Stream *s, uint64_t position) noexcept nogil:
    return cut(s, position, GAP_SLOW_READER)


cdef uint32_t stream_forget(Stream *s) noexcept nogil:
    cdef uint32_t size = s.size
    if s.fill:
        return shrink(s)
    if s.buffer != NULL:
        drop_buffer(s)
    return size


cdef uint32_t shrink(Stream *s) noexcept nogil:
    """Bytes that wait for their reader go into a smaller block, without the history in front of
    them. What is moved is never more than what is given back."""
    cdef uint8_t *block
    cdef uint32_t got = 0, freed
    if s.size <= FIRST_BUFFER or s.fill > s.size // 2:
        return 0
    block = <uint8_t *>pool_get(s.pool, max(s.fill, <uint32_t>FIRST_BUFFER), &got)
    if block == NULL:
        return 0
    memcpy(block, s.buffer + s.start, s.fill)
    pool_put(s.pool, s.buffer, s.size)
    freed = s.size - got
    s.buffer = block
    s.size = got
    s.start = 0
    s.kept = 0
    return freed


cdef uint64_t stream_shed(Stream *s) noexcept nogil:
    cdef const Cursor *c = s.cursors
    cdef uint64_t keep = s.base, lost
    while c != NULL:
        keep = max(keep, c.position)
        c = c.next
    lost = cut(s, keep, GAP_MEMORY)
    stream_forget(s)
    return lost


cdef uint64_t cut(Stream *s, uint64_t position, uint32_t cause) noexcept nogil:
    """Everything from position on becomes one gap; the number of bytes lost."""
    cdef uint64_t lost, gone = 0
    cdef uint64_t end = stream_end(s)
    if position >= end:
        return 0
    lost = end - position
    while s.n_marks and s.marks[s.n_marks - 1].position > position:
        s.n_marks -= 1
        gone += s.marks[s.n_marks].length
    s.fill -= <uint32_t>lost
    while (s.n_stamps > s.stamps_gone + 1
           and stamps_of(s)[s.n_stamps - 1].position >= position):
        s.n_stamps -= 1
    s.missing -= gone
    stream_gap(s, lost + gone, cause)
    return lost


cdef uint64_t stream_behind_from(const Stream *s) noexcept nogil:
    cdef uint64_t end = stream_end(s), first = s.base - s.kept
    if s.n_marks:
        first = max(first, s.marks[s.n_marks - 1].position)
    return max(first, end - min(end, <uint64_t>s.history)) + s.missing


cdef const uint8_t *stream_behind(const Stream *s, uint64_t offset) noexcept nogil:
    return s.buffer + s.start + <int64_t>(offset - s.missing - s.base)


# ---- cursors -----------------------------------------------------------------------------

cdef void cursor_attach(Cursor *c, Stream *s, uint64_t position, uint64_t missing) noexcept nogil:
    cdef const GapMark *grown
    c.stream = s
    if s.flags & STREAM_STOPPED:     # its last reader had gone: what came since is counted only
        s.flags &= ~<uint16_t>STREAM_STOPPED
        missing = s.missing
        position = s.base
    # Its place may have been noted before the side was kept (a role it has since, short memory).
    c.position = max(position, s.base)
    c.skipped = missing
    c.gaps_passed = s.marks_gone
    c.next = s.cursors
    s.cursors = c
    s.references += 1
    while cursor_gap_behind(c):
        c.gaps_passed += 1
    # A gap that grew since the reader's place was noted: it is met as a whole.
    if c.gaps_passed < s.marks_gone + s.n_marks:
        grown = &s.marks[c.gaps_passed - s.marks_gone]
        if grown.offset < c.position + c.skipped:
            c.skipped = grown.offset - c.position


cdef inline bint cursor_gap_behind(const Cursor *c) noexcept nogil:
    """A gap that lies before the place where this reader began."""
    cdef const Stream *s = c.stream
    cdef uint64_t i = c.gaps_passed - s.marks_gone
    return i < s.n_marks and s.marks[i].offset + s.marks[i].length <= c.position + c.skipped


cdef void cursor_detach(Cursor *c) noexcept nogil:
    cdef Stream *s = c.stream
    cdef Cursor **link
    if s == NULL:
        return
    link = &s.cursors
    while link[0] != c:
        link = &link[0].next
    link[0] = c.next
    c.stream = NULL
    if s.cursors != NULL and s.references > 1:
        trim(s)
    stream_unread(s)
    stream_drop(s)


cdef void stream_unread(Stream *s) noexcept nogil:
    if s.cursors != NULL:
        return
    s.flags |= STREAM_STOPPED
    s.base += s.fill
    s.marks_gone += s.n_marks
    s.n_marks = 0
    drop_buffer(s)


cdef inline uint64_t next_mark(const Cursor *c) noexcept nogil:
    """Position of the next gap, or of the end."""
    cdef const Stream *s = c.stream
    cdef uint64_t i = c.gaps_passed - s.marks_gone
    if unlikely(i < s.n_marks):
        return s.marks[i].position
    return s.base + s.fill


cdef uint64_t cursor_available(const Cursor *c) noexcept nogil:
    if unlikely(c.own.length):
        return 0
    return next_mark(c) - c.position


cdef const uint8_t *cursor_data(const Cursor *c) noexcept nogil:
    return c.stream.buffer + c.stream.start + (c.position - c.stream.base)


cdef const GapMark *cursor_gap(const Cursor *c) noexcept nogil:
    cdef const Stream *s = c.stream
    cdef uint64_t i = c.gaps_passed - s.marks_gone
    if c.own.length:
        return &c.own
    if i < s.n_marks and s.marks[i].position == c.position:
        return &s.marks[i]
    return NULL


cdef uint64_t cursor_catch_up(Cursor *c) noexcept nogil:
    cdef Stream *s = c.stream
    cdef uint64_t end = stream_end(s), lost, gone = 0, i
    if end - c.position <= c.limit:
        return 0
    lost = end - c.position - c.limit
    if not c.own.length:
        c.own.offset = c.position + c.skipped
        c.own.position = c.position
        c.own.cause = GAP_SLOW_READER
    c.position += lost
    i = c.gaps_passed - s.marks_gone
    while i < s.n_marks and s.marks[i].position < c.position:
        gone += s.marks[i].length
        c.gaps_passed += 1
        i += 1
    c.skipped += gone
    c.own.length += lost + gone
    trim(s)
    return lost


cdef void cursor_pass_gap(Cursor *c) noexcept nogil:
    if c.own.length:
        c.own.length = 0             # its bytes count as positions: nothing was skipped
        return
    c.skipped += c.stream.marks[c.gaps_passed - c.stream.marks_gone].length
    c.gaps_passed += 1
    trim_marks(c.stream)


cdef void cursor_consume(Cursor *c, uint64_t n) noexcept nogil:
    c.position += n
    if likely(c.stream.cursors.next == NULL):
        trim_to(c.stream, c.position)
    else:
        trim(c.stream)


cdef void trim(Stream *s) noexcept nogil:
    cdef uint64_t slowest = stream_end(s)
    cdef Cursor *c = s.cursors
    while c != NULL:
        slowest = min(slowest, c.position)
        c = c.next
    trim_to(s, slowest)
    trim_marks(s)


cdef inline void emptied(Stream *s) noexcept nogil:
    if likely(s.history == 0):
        drop_buffer(s)
        return
    forget_stamps(s)


cdef inline void trim_to(Stream *s, uint64_t position) noexcept nogil:
    cdef uint32_t n = <uint32_t>(position - s.base)
    s.base = position
    s.fill -= n
    s.start += n
    s.kept += n
    if s.fill == 0:
        emptied(s)
    elif s.n_stamps > s.stamps_gone + 1:
        trim_stamps(s)


cdef inline void trim_marks(Stream *s) noexcept nogil:
    drop_marks(s, HALF)


cdef bint drop_marks(Stream *s, uint32_t share) noexcept nogil:
    """Forgets the gaps that every reader has passed, if they are so large a share of the list
    that moving the others is paid for by them; whether it did."""
    cdef uint64_t slowest = s.marks_gone + s.n_marks
    cdef uint32_t n
    cdef Cursor *c = s.cursors
    while c != NULL:
        slowest = min(slowest, c.gaps_passed)
        c = c.next
    n = <uint32_t>(slowest - s.marks_gone)
    if n == 0 or n * share < s.n_marks:
        return False
    s.kept = min(s.kept, <uint32_t>(s.base - min(s.base, s.marks[n - 1].position)))
    memmove(s.marks, s.marks + n, (s.n_marks - n) * sizeof(GapMark))
    s.n_marks -= <uint16_t>n
    s.marks_gone = slowest
    return True
