"""Hook of the test suite onto streams and their assembler (only with -Dtesting_hooks=true)."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from aiomos._engine import names
from aiomos._engine._testframes cimport FrameBox
from aiomos._engine._teststorage cimport pool_counts
from aiomos._engine.assembler cimport Arrival, asm_add, asm_drain, asm_fin, asm_moved, asm_truncate
from aiomos._engine.pool cimport Pool, pool_clear, pool_init
from aiomos._engine.stream cimport (Cursor, GapMark, Piece, Span, Stream,
                                    cursor_attach, cursor_available, cursor_consume, cursor_data,
                                    cursor_detach, cursor_gap, cursor_pass_gap, stream_append,
                                    stream_behind_from, stream_cut, stream_drop, stream_end,
                                    stream_forget, stream_gap, stream_new)

ASM_NEW, ASM_DUPLICATE, ASM_DIFFERS, ASM_LIMIT = 1, 2, 4, 8
STREAM_SIZE = sizeof(Stream)


cdef class CursorBox:
    cdef Cursor cursor


cdef list read_all(Cursor *c, list into, uint64_t most):
    """Reads up to most bytes; gaps as (offset, length, cause); neighbouring bytes as one."""
    cdef const GapMark *mark
    cdef uint64_t n
    while c.stream != NULL and most:
        n = min(cursor_available(c), most)
        if n:
            data = PyBytes_FromStringAndSize(<const char *>cursor_data(c), n)
            cursor_consume(c, n)
            if into and isinstance(into[len(into) - 1], bytes):
                data = into.pop() + data
            into.append(data)
            most -= n
            continue
        mark = cursor_gap(c)
        if mark == NULL:
            break
        into.append((mark.offset, mark.length, names.GAP_CAUSES[mark.cause]))
        cursor_pass_gap(c)
    return into


cdef symbols_of(const Piece *p):
    """Its bytes; None: a FIN."""
    if p.data == NULL:
        return None
    return PyBytes_FromStringAndSize(<const char *>p.data + p.skip, p.length)


@cython.no_gc
cdef class StreamHook:
    """A Stream with its own pool, its assembler and numbered readers."""
    cdef Pool pool
    cdef Stream *stream
    cdef dict cursors
    cdef int last

    def __cinit__(self, uint64_t offset=0, uint64_t budget=1 << 30, policy="first"):
        pool_init(&self.pool, budget)
        self.stream = stream_new(&self.pool, offset)
        self.cursors = {}
        if self.stream == NULL:
            raise MemoryError
        self.stream.policy = names.OVERLAPS.index(policy)

    def __dealloc__(self):
        self.drop()
        pool_clear(&self.pool)

    def drop(self):
        """Readers go, then the flow's reference: nothing may be left in the pool."""
        for box in self.cursors.values():
            cursor_detach(&(<CursorBox>box).cursor)
        self.cursors.clear()
        if self.stream != NULL:
            stream_drop(self.stream)
            self.stream = NULL

    # -- delivery --

    def append(self, data, cuts=()):
        """False when memory was refused; with cuts the bytes lie in several segments."""
        cdef Span span
        cdef FrameBox box = FrameBox(data, cuts=cuts)
        span_of(&span, box, bool(cuts))
        return stream_append(self.stream, &span)

    def gap(self, uint64_t length, cause="lost"):
        stream_gap(self.stream, length, names.GAP_CAUSES.index(cause))

    def cut(self, uint64_t position):
        return stream_cut(self.stream, position)

    def keep(self, uint32_t history):
        """So many bytes stay behind readers."""
        self.stream.history = history

    def forget(self):
        return stream_forget(self.stream)

    @property
    def behind(self):
        """First offset at which an old byte is known."""
        return stream_behind_from(self.stream)

    def flag(self, uint16_t flags):
        self.stream.flags |= flags

    @property
    def end(self):
        return stream_end(self.stream)

    @property
    def missing(self):
        return self.stream.missing

    @property
    def held(self):
        """(bytes in the buffer, gap marks)"""
        return self.stream.fill, self.stream.n_marks

    def counts(self):
        return pool_counts(&self.pool)

    # -- reading --

    def attach(self, position=None, missing=None):
        """A reader, by default at the end; its number."""
        box = CursorBox()
        cursor_attach(&box.cursor, self.stream,
                      stream_end(self.stream) if position is None else position,
                      self.stream.missing if missing is None else missing)
        self.last += 1
        self.cursors[self.last] = box
        return self.last

    def detach(self, number):
        cursor_detach(&(<CursorBox>self.cursors.pop(number)).cursor)

    def read(self, number, uint64_t most=1 << 62):
        return read_all(&(<CursorBox>self.cursors[number]).cursor, [], most)

    def available(self, number):
        return cursor_available(&(<CursorBox>self.cursors[number]).cursor)

    def offset(self, number):
        cdef Cursor *c = &(<CursorBox>self.cursors[number]).cursor
        return c.position + c.skipped

    # -- out-of-order store --

    @property
    def moved(self):
        """Bytes of entries moved so far, in all stores."""
        return asm_moved

    def add(self, uint32_t seq, data, cuts=()):
        cdef Arrival a
        cdef FrameBox box = FrameBox(data, cuts=cuts)
        span_of(&a.span, box, bool(cuts))
        a.seq = seq
        a.begin = seq
        a.end = seq + a.span.length
        return asm_add(self.stream, &a)

    def add_fin(self, uint32_t seq, begin=None):
        return asm_fin(self.stream, seq, seq if begin is None else begin)

    def drain(self, uint32_t nxt, upto=None):
        """(new nxt, whether memory was refused)"""
        cdef bint failed = False
        nxt = asm_drain(self.stream, nxt, nxt + (1 << 30) if upto is None else upto, &failed)
        return nxt, failed

    def truncate(self, uint32_t seq):
        asm_truncate(self.stream, seq)

    def pieces(self):
        """[(seq, bytes)], in the order of the store; of a FIN, None."""
        cdef Stream *s = self.stream
        return [(s.pieces[i].seq, symbols_of(&s.pieces[i])) for i in range(s.n_pieces)]

    @property
    def early(self):
        """(bytes, pieces)"""
        return self.stream.early, self.stream.n_pieces


cdef void span_of(Span *span, FrameBox box, bint chained):
    span.frame = &box.frame
    span.data = NULL
    if not chained:
        span.data = box.frame.data
    span.offset = 0
    span.length = box.frame.cap_len
