"""Reading one end: engine side of an endpoint; see endpoint.pxd. The readable rest is in Python
(aiomos/_endpoint.py)."""
cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine import names
from aiomos._engine.deadline cimport Deadline
from aiomos._engine.errors import AppError, FlowEvicted, FlowReset, FlowTimeout, GapError
from aiomos._engine.flow cimport FLOW_CLOSED
from aiomos._engine.handler cimport ON_GAP_SKIP, ON_GAP_YIELD
from aiomos._engine.intrinsics cimport likely
from aiomos._engine.limits cimport CLOSE_EVICTED, CLOSE_RESET, CLOSE_TIMEOUT, PROTO_UDP
from aiomos._engine.newobject cimport new_empty
from aiomos._engine.overlap cimport (DELIVER_ACKED, OVERLAP_MASK, POLICY_BITS, POLICY_MASK,
                                     URGENT_SHIFT)
from aiomos._engine.receive cimport receive_policy
from aiomos._engine.reading cimport Reading, reading_of
from aiomos._engine.stream cimport (STREAM_ENDED, STREAM_EOF, STREAM_UNREAD, GapMark,
                                    Stamp, Stream, cursor_attach, cursor_available, cursor_clear,
                                    cursor_consume, cursor_data,
                                    cursor_detach, cursor_gap, cursor_pass_gap, cursor_run,
                                    cursor_time, stream_end)
from aiomos._engine.task cimport Parking

cdef extern from "<string.h>":
    void *memmem(const void *where, size_t n, const void *what, size_t m) noexcept nogil


cdef EndpointBase endpoint_new(object cls, Core core, Flow *f, TaskQueue queue, int side,
                               Handler handler):
    cdef EndpointBase e = <EndpointBase>new_empty(cls, ())
    e.core = core
    e.fl = f
    f.pins += 1
    e.queue = queue
    e.side = side
    e.limit = handler.limit
    e.cursor.limit = handler.limit
    e.on_gap = handler.on_gap
    e.on_full = handler.on_full
    e.want = 1
    e.low_water = 1
    return e


@cython.no_gc_clear                         # as EndFacts
cdef class EndpointBase(EndFacts):
    """Engine side of an endpoint: its cursor, and what it gives to whoever reads."""

    def __dealloc__(self):
        if self.fl != NULL:
            cursor_detach(&self.cursor)

    cdef void attach(self, uint64_t position, uint64_t missing) noexcept:
        self.wanted = True
        self.refused = self.fl.stream[self.side] == NULL
        if not self.refused:
            cursor_attach(&self.cursor, self.fl.stream[self.side], position, missing)
            self.share_limit()

    cdef void detach(self) noexcept:
        cursor_detach(&self.cursor)
        if self._parking is not None:
            self._parking.wake()

    cdef void share_limit(self) noexcept:
        """The burst ends when the side holds what its most patient reader wants."""
        self.cursor.limit = max(self.limit, self.want)
        if self.cursor.stream.cursors == &self.cursor and self.cursor.next == NULL:
            self.cursor.stream.full = <uint32_t>min(self.cursor.limit, <uint64_t>1 << 30)
        elif self.cursor.limit > self.cursor.stream.full:
            self.cursor.stream.full = <uint32_t>min(self.cursor.limit, <uint64_t>1 << 30)

    # -- waiting --

    cdef bint satisfied(self) noexcept:
        """Whether a reader that wants `want` bytes has nothing more to wait for."""
        if cursor_available(&self.cursor) >= self.want:
            return True
        # A gap or the end behind these bytes: more of them will never come.
        return self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED) != 0 or self.gap_ahead()

    cdef bint gap_ahead(self) noexcept:
        return (self.cursor.own.length != 0 or self.cursor.gaps_passed
                < self.cursor.stream.marks_gone + self.cursor.stream.n_marks)

    cdef bint changed(self) noexcept:
        if self.cursor.stream == NULL:
            if self._parking is not None:
                self._parking.wake()
            return False
        if self._parking is not None and self._parking.waiter is not None and self.satisfied():
            self._parking.wake()
        return stream_end(self.cursor.stream) - self.cursor.position > self.limit

    cdef int make_parking(self) except -1:
        self._parking = Parking.__new__(Parking)
        self._parking.queue = self.queue
        return 0

    def _wait(self, uint64_t want=1):
        """Something to await until `want` bytes, a gap or the end are here."""
        if self._parking is None:
            self.make_parking()
        if self._parking.waiting():
            return self._parking        # awaiting it says what is wrong; the first stays as it is
        self.want = want
        self.touched = True
        if self.cursor.stream != NULL:
            self.share_limit()
        return self._parking

    cdef bint readable(self) except -1:
        """Whether there is a stream to look at. From here on the side counts as read."""
        self.touched = True
        if self.fl.protocol == PROTO_UDP:
            raise TypeError("a UDP flow gives datagrams: async for datagram in flow")
        if self.cursor.stream != NULL:
            return True
        if self.refused:
            raise FlowEvicted("no memory was left to keep this side")
        if not self.wanted:
            raise AppError("this side is not kept for its reader: declare the handler with "
                           'sides="both" (functions of @app.on read no side)')
        return False

    # -- bytes --

    def read(self, Py_ssize_t n=-1, *, timeout=None):
        """Read up to ``n`` bytes, or everything up to the end if ``n`` is negative.

        Waits until at least one byte is there; ``b""`` means the end. No result
        spans a gap: with ``n`` negative, a gap ends it as the end does.

        Raises:
            TimeoutError: no byte came within ``timeout`` seconds; with ``n`` negative, the end
                did not, and what had been read is lost, as in asyncio.
        """
        if timeout is not None:
            return self._read_within(n, timeout)
        return reading_of(self, n)

    def _deadline(self, timeout):
        """A context in which whoever waits for this side waits so many seconds at most."""
        events = self.core.events
        cdef Deadline deadline = Deadline(None if events is None else events.clock, timeout)
        if self._parking is None:
            self.make_parking()
        deadline.of(self._parking)
        return deadline

    def _take(self, uint64_t n):
        """Up to n bytes; b"" at the end; None when there is nothing yet: await _parking.

        Gaps as on_gap says.
        """
        return self.take(n)

    cdef object take(self, uint64_t n):
        cdef const Stream *s = self.cursor.stream
        cdef uint64_t here = 0
        self.want = self.low_water
        if likely(s != NULL and self.fl.protocol != PROTO_UDP and cursor_clear(&self.cursor)):
            self.touched = True
            here = s.base + s.fill - self.cursor.position
            if here and (here >= self.low_water or self.enough(here, n)):
                return self.cut(min(n, here))
        elif not self.pass_gaps(&here):
            return b""
        elif here and self.enough(here, n):
            return self.cut(min(n, here))
        if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED):
            return self.end_of_stream()
        if self.low_water > n:
            self.want = n
        if self._parking is None:
            self.make_parking()
        return None

    cdef bint enough(self, uint64_t here, uint64_t n) noexcept:
        """Whether a read need not wait for the low-water mark: it wants no more, or none come."""
        return (here >= n or here >= self.low_water or self.gap_ahead()
                or self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED) != 0)

    cdef bint pass_gaps(self, uint64_t *here) except -1:
        """Goes over the gaps right at the cursor; what can be read there. False: no stream."""
        if not self.readable():
            return False
        here[0] = cursor_available(&self.cursor)
        while not here[0] and cursor_gap(&self.cursor) != NULL:
            self.pass_gap()
            here[0] = cursor_available(&self.cursor)
        return True

    cdef object take_to_end(self, Reading r):
        """Everything up to the end, behind the blocks taken so far.

        Nobody is woken for less than a limit of bytes, a gap or the end.
        """
        cdef uint64_t here
        while self.readable():
            here = cursor_available(&self.cursor)
            if not self.gap_ahead():
                if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED):
                    return self.last_block(r.blocks, here)
                if here >= self.limit:
                    if r.blocks is None:
                        r.blocks = []
                    r.blocks.append(self.cut(here))
                break
            if here or r.blocks:             # no result spans a gap
                return self.last_block(r.blocks, here)
            self.pass_gap()
        if self.cursor.stream == NULL:
            return b"".join(r.blocks or ())
        self.want = self.limit
        if self._parking is None:
            self.make_parking()
        return None

    cdef object last_block(self, list blocks, uint64_t here):
        """What is at hand, behind the blocks; where there is nothing at all, the end itself."""
        if here:
            data = self.cut(here)
            if not blocks:
                return data
            blocks.append(data)
        return b"".join(blocks) if blocks else self.end_of_stream()

    cdef object cut(self, uint64_t n):
        """Takes n bytes that are there. UNREAD ends here: whoever reads now is late, not absent."""
        data = PyBytes_FromStringAndSize(<const char *>cursor_data(&self.cursor), n)
        self.time_ns = cursor_time(&self.cursor, n - 1)
        cursor_consume(&self.cursor, n)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        if self.cursor.limit != self.limit:
            self.want = self.low_water  # what raised the limit has been served
            self.share_limit()
        return data

    cdef object end_of_stream(self):
        """b"" where the end is one; the exception of the flow's end where it is not."""
        if self.cursor.stream.flags & STREAM_EOF:
            return b""
        if self.fl.close_reason == CLOSE_RESET:
            raise FlowReset("connection reset")
        if self.fl.close_reason == CLOSE_TIMEOUT:
            raise FlowTimeout("flow expired: no packet for its idle time")
        if self.fl.close_reason == CLOSE_EVICTED:
            raise FlowEvicted("flow evicted: memory budget used up")
        return b""

    cdef bint pass_gap(self) except -1:
        """Goes over the gap at the cursor; raises unless it is to be skipped."""
        cdef const GapMark *mark = cursor_gap(&self.cursor)
        cdef tuple gap = gap_tuple(mark)
        cursor_pass_gap(&self.cursor)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        if self.on_gap != ON_GAP_SKIP:
            raise GapError(*gap)
        return True

    def _pass_gap(self):
        """(offset, length, cause) of the gap at the cursor, now passed; None: there is none."""
        cdef const GapMark *mark
        if self.cursor.stream == NULL:
            return None
        mark = cursor_gap(&self.cursor)
        if mark == NULL:
            return None
        gap = gap_tuple(mark)
        cursor_pass_gap(&self.cursor)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        return gap

    def _here(self):
        """Bytes that can be taken before the next gap or the end."""
        return cursor_available(&self.cursor) if self.readable() else 0

    def _blocked(self):
        """What stands behind the bytes at hand: 0 more may come, 1 a gap, 2 the end."""
        if self.cursor.stream == NULL:
            return 2
        if self.gap_ahead():
            return 1
        return 2 if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED) else 0

    def _find(self, bytes separator, uint64_t start):
        """Where the separator begins in the bytes at hand, from start on; -1: nowhere."""
        cdef uint64_t here
        cdef const char *data
        cdef const char *found
        if self.cursor.stream == NULL:
            return -1
        here = cursor_available(&self.cursor)
        if start >= here:
            return -1
        data = <const char *>cursor_data(&self.cursor)
        found = <const char *>memmem(data + start, here - start, PyBytes_AsString(separator),
                                     PyBytes_GET_SIZE(separator))
        return -1 if found == NULL else found - data

    def _peek(self, uint64_t start, uint64_t n):
        """Up to n bytes at hand, from start bytes behind the cursor on, not consumed."""
        cdef uint64_t here
        if not self.readable():
            return b""
        here = cursor_available(&self.cursor)
        if start >= here:
            return b""
        return PyBytes_FromStringAndSize(<const char *>cursor_data(&self.cursor) + start,
                                         min(n, here - start))

    def _drop(self, uint64_t n):
        """Consumes up to n bytes at hand without making an object of them."""
        if self.readable():
            cursor_consume(&self.cursor, min(n, cursor_available(&self.cursor)))
            self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD

    def _take_chunk(self):
        """(data, offset, time) of bytes that came together; b"" at the end; None: nothing yet."""
        cdef Stamp when
        cdef uint64_t here = 0
        if not self.pass_gaps(&here):
            return b""
        if not here:
            return self.take(1)                 # the end, its exception, or nothing yet
        offset = self.cursor.position + self.cursor.skipped
        data = self.cut(cursor_run(&self.cursor, here, &when))
        return data, offset, when.time_ns / 1e9

    @property
    def _order(self):
        """After how many frames the next byte came, and None if none is at hand."""
        cdef Stamp when
        if self.cursor.stream == NULL or cursor_available(&self.cursor) == 0:
            return None
        cursor_run(&self.cursor, 1, &when)
        return when.order

    def _skip(self, uint64_t n):
        """Passes up to n bytes at hand, missing ones too; how many."""
        cdef uint64_t passed = 0, here
        cdef const GapMark *mark
        while passed < n and self.readable():
            here = cursor_available(&self.cursor)
            mark = cursor_gap(&self.cursor)
            if here:
                here = min(here, n - passed)
                cursor_consume(&self.cursor, here)
                passed += here
            elif mark != NULL:
                passed += self.skip_gap(mark, n - passed)
            else:
                break
            self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        return passed

    cdef uint64_t skip_gap(self, const GapMark *mark, uint64_t n) noexcept:
        """Passes n bytes of a gap, or all of it; what is left of it is still a gap."""
        cdef GapMark gap = mark[0]
        cursor_pass_gap(&self.cursor)
        if gap.length <= n:
            return gap.length
        gap.offset += n
        gap.length -= n
        self.cursor.own = gap
        return n

    def set_low_water(self, uint64_t n):
        """``read()`` waits until ``n`` bytes are at hand, or what it asked for, a gap or the end.

        1 at first. For those who would rather be woken less often.

        Raises:
            ValueError: ``n`` is 0, or over the limit of this side.
        """
        if not 0 < n <= self.limit:
            raise ValueError(f"set_low_water({n}): from 1 to the limit, {self.limit}")
        self.low_water = n

    def stop(self):
        """Reads no more of this side: what came and comes is counted, not kept."""
        self.detach()

    def _configure_policy(self, overlap, deliver, urgent):
        """The same, of what all readers of the side share: the last call holds."""
        cdef Flow *f = self.fl
        cdef int shift = POLICY_BITS * self.side
        cdef uint8_t policy = f.policies >> shift & POLICY_MASK
        if overlap is not None:
            policy = (policy & <uint8_t>~OVERLAP_MASK) | <uint8_t>overlap
        if deliver is not None:
            policy = (policy & <uint8_t>~DELIVER_ACKED) | <uint8_t>deliver
        if urgent is not None:
            policy = (policy & <uint8_t>~(3 << URGENT_SHIFT)) | <uint8_t>urgent << URGENT_SHIFT
        f.policies &= <uint16_t>~(POLICY_MASK << shift)
        f.policies |= <uint16_t>policy << shift
        if not f.flags & FLOW_CLOSED:
            receive_policy(self.core.state, f, self.side, policy)

    def _configure(self, limit, on_gap, on_full):
        """Numbers instead of names; None leaves a thing as it is."""
        if limit is not None:
            self.limit = limit
            if self.cursor.stream != NULL:
                self.share_limit()
        if on_gap is not None:
            self.on_gap = on_gap
        if on_full is not None:
            self.on_full = on_full

    @property
    def _stopped(self):
        """Whether this side is not read, or not any more."""
        return self.cursor.stream == NULL

    @property
    def skips_gaps(self):
        """Whether gaps are passed over, counted only (on_gap="skip")."""
        return self.on_gap == ON_GAP_SKIP

    @property
    def yields_gaps(self):
        """Whether iterating gives Gap objects (on_gap="yield")."""
        return self.on_gap == ON_GAP_YIELD

    # -- where reading stands --

    @property
    def offset(self):
        """64-bit stream offset of the next byte that a read would give, gaps counted."""
        return self.cursor.position + self.cursor.skipped if self.cursor.stream != NULL else 0

    @property
    def buffered(self):
        """Bytes received and not read yet."""
        if self.cursor.stream == NULL:
            return 0
        return stream_end(self.cursor.stream) - self.cursor.position

    @property
    def time(self):
        """Capture time at which the last byte that a read gave was received, seconds since the
        epoch; 0.0 before the first read."""
        return self.time_ns / 1e9


cdef tuple gap_tuple(const GapMark *mark):
    """Offset, length and the name of the cause."""
    return (mark.offset, mark.length, names.GAP_CAUSES[mark.cause])
