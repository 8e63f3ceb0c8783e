"""The bytes of one direction, as the receiver got them, kept until every reader has them.

Three numberings meet here. *Sequence numbers* are TCP's. *Offsets* are 64-bit and count
every byte from the first, gaps included: what users see. *Positions* count only bytes
that were delivered: where in the buffer something is. Gaps stand between positions, and
offset = position + bytes missing before it.

A stream belongs to a flow and its views together; it holds no Python object.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.pool cimport Pool
from aiomos._engine.shim cimport aio_frame

cdef enum:
    STREAM_EOF = 1            # the FIN of this side was received in order
    STREAM_OVERRUN = 2        # what is next overran the window: taken when it is acknowledged
    STREAM_STOPPED = 4        # never read again: bytes are counted, not kept
    STREAM_UNREAD = 64        # filled up before anybody read it: what follows is one gap
    STREAM_TOLD = 8           # the bridge has a record about it in this burst
    STREAM_ENDED = 32         # the flow is over, with or without a FIN of this side
    STREAM_URGENT_SEEN = 0x4000   # the urgent byte was in a segment that came
    STREAM_CRAMPED = 128      # the list of gaps is full: room for one more comes before any byte

# Bytes of a frame: contiguous at data, or (data NULL) somewhere in its chain.
cdef struct Span:
    const uint8_t *data
    const aio_frame *frame
    uint32_t offset
    uint32_t length

cdef struct GapMark:
    uint64_t position         # in front of the byte that stands here
    uint64_t offset           # of the first missing byte
    uint64_t length
    uint32_t cause            # GAP_*

# When bytes from this position on were delivered: capture stamp, and after how many frames. The
# latter orders the bytes of both directions, whatever the capture's clock did.
cdef struct Stamp:
    uint64_t position
    int64_t time_ns
    uint64_t order

cdef enum:
    STAMPS_INLINE = 2

# Bytes that came early: sequence numbers [seq, seq + length). Or a FIN, which is one number.
cdef struct Piece:
    uint8_t *data             # a block; NULL: a FIN
    uint32_t seq
    uint32_t length
    uint32_t room             # size of the block
    uint32_t skip             # bytes of the block in front of the first
    uint32_t begin            # borders of the segment that brought them, as it was sent
    uint32_t end

# How far one reader has come. Lives in its Python object.
cdef struct Cursor:
    Cursor *next
    Stream *stream            # NULL: not attached
    uint64_t position
    uint64_t skipped          # bytes in gaps passed: offset = position + skipped
    uint64_t gaps_passed      # number of the next gap mark to meet
    uint64_t limit            # bytes kept for it while it does not read
    GapMark own               # bytes that this reader alone lost; length 0: none

cdef struct Stream:
    Pool *pool
    uint8_t *buffer
    Cursor *cursors
    Piece *pieces             # out-of-order store, by sequence number
    GapMark *marks
    GapMark first_mark        # the list of a stream with one gap: needs no memory
    Stamp *stamps             # NULL: the few in first_stamps
    Stamp first_stamps[STAMPS_INLINE]
    int64_t now_ns            # capture stamp of what is being delivered; set by the caller
    uint64_t now_order        # and the number of the frame that delivers it
    uint64_t base             # position of the first byte in the buffer
    uint64_t marks_gone       # gap marks that every reader has passed
    uint64_t missing          # bytes in gaps so far
    int64_t grace_due         # when the hole at nxt becomes a gap; 0: no time set
    uint32_t grace_ack        # up to which sequence number
    uint32_t size             # of the buffer block
    uint32_t start            # first byte kept
    uint32_t fill             # bytes kept
    uint32_t pieces_size      # of the block, in bytes
    uint32_t marks_size
    uint16_t n_pieces
    uint16_t fins             # FINs among the pieces
    uint32_t early            # bytes in pieces
    uint32_t n_stamps         # those before stamps_gone are of bytes that every reader has
    uint32_t stamps_gone
    uint32_t stamps_size
    uint16_t n_marks
    uint16_t flags            # STREAM_*
    uint32_t references       # flow and views
    uint32_t full             # a fill that ends the burst, so that readers get their turn
    uint32_t ready            # with DELIVER_ACKED: end of what is in order, handed out or not
    uint32_t history          # delivered bytes kept though every reader has them; 0: none
    uint32_t kept             # of these, how many lie in front of `start`
    uint8_t policy            # OverlapPolicy, DELIVER_ACKED, UrgentPolicy (overlap.pxd)
    uint16_t urgent_bytes     # taken out of line so far, 65535 at most
    uint32_t urgent           # number of the last urgent byte announced (urgent.pyx)

# A stream whose first byte has this offset; one reference; NULL when memory is refused.
cdef Stream *stream_new(Pool *pool, uint64_t offset) noexcept nogil
cdef void stream_drop(Stream *s) noexcept nogil       # gives one reference back
cdef uint64_t stream_end(const Stream *s) noexcept nogil   # position behind the last byte
# Delivers bytes. False when memory was refused: nothing was taken, the caller makes a gap.
cdef bint stream_append(Stream *s, const Span *span) noexcept nogil
cdef bint stream_append_bytes(Stream *s, const uint8_t *data, uint32_t length) noexcept nogil
cdef void stream_gap(Stream *s, uint64_t length, uint32_t cause) noexcept nogil
# History: the last `history` bytes delivered since the last gap, read or not. So whether an old
# byte is known does not depend on when readers took it. First offset kept, and bytes from there.
cdef uint64_t stream_behind_from(const Stream *s) noexcept nogil
cdef const uint8_t *stream_behind(const Stream *s, uint64_t offset) noexcept nogil
# Throws away delivered bytes from position on: one slow_reader gap. Their number.
cdef uint64_t stream_cut(Stream *s, uint64_t position) noexcept nogil

# Gives back history, and room that bytes no reader has taken do not need. Bytes given back.
cdef uint32_t stream_forget(Stream *s) noexcept nogil
# Throws away what no reader has taken: one `memory` gap, its buffer given back. Their number.
cdef uint64_t stream_shed(Stream *s) noexcept nogil

# Begins to read at a position; missing is the number of bytes in gaps before it.
cdef void cursor_attach(Cursor *c, Stream *s, uint64_t position, uint64_t missing) noexcept nogil
cdef void cursor_detach(Cursor *c) noexcept nogil
# If nobody reads it: from here on its bytes are counted, not kept.
cdef void stream_unread(Stream *s) noexcept nogil
# When the byte n bytes behind the cursor was delivered; only for bytes at hand.
cdef int64_t cursor_time(const Cursor *c, uint64_t n) noexcept nogil
# How many bytes from the cursor on, n at most, were delivered together, and when; only for bytes
# at hand.
cdef uint64_t cursor_run(const Cursor *c, uint64_t n, Stamp *when) noexcept nogil
# Whether the reader has met every gap so far: all bytes kept lie in front of it.
cdef inline bint cursor_clear(const Cursor *c) noexcept nogil:
    return c.own.length == 0 and c.gaps_passed == c.stream.marks_gone + c.stream.n_marks

# Bytes that can be read before the next gap or the end.
cdef uint64_t cursor_available(const Cursor *c) noexcept nogil
cdef const uint8_t *cursor_data(const Cursor *c) noexcept nogil
cdef void cursor_consume(Cursor *c, uint64_t n) noexcept nogil
# The gap that stands right at the cursor, or NULL.
cdef const GapMark *cursor_gap(const Cursor *c) noexcept nogil
cdef void cursor_pass_gap(Cursor *c) noexcept nogil
# Gives up what this reader has not read and others have, but for its limit; the bytes lost.
cdef uint64_t cursor_catch_up(Cursor *c) noexcept nogil

cdef inline void span_cut_front(Span *s, uint32_t n) noexcept nogil:
    s.offset += n
    s.length -= n
    if s.data != NULL:
        s.data += n

cdef void span_copy(const Span *s, uint32_t at, uint32_t n, uint8_t *out) noexcept nogil
