"""What a handler holds of one end: what is known of it, and a cursor into the bytes it sent."""
from libc.stdint cimport int64_t, uint8_t, uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.facts cimport EndFacts
from aiomos._engine.flow cimport Flow
from aiomos._engine.handler cimport Handler
from aiomos._engine.stream cimport Cursor, GapMark
from aiomos._engine.taskqueue cimport TaskQueue


cdef class EndpointBase(EndFacts):
    cdef Cursor cursor
    cdef TaskQueue queue
    cdef uint64_t want                  # bytes that whoever waits needs
    cdef readonly uint64_t low_water    # bytes that must be at hand for read() to return
    cdef int64_t time_ns                # stamp of the last byte given
    cdef readonly uint64_t limit
    cdef uint8_t on_gap
    cdef uint8_t on_full
    cdef uint8_t touched                # somebody read, peeked or iterated
    cdef uint8_t wanted                 # kept for this reader at some time, or to be kept
    cdef uint8_t refused                # wanted, but no memory was left to keep it
    cdef uint8_t listed                 # on the pump's list of sides that are full

    cdef void attach(self, uint64_t position, uint64_t missing) noexcept
    cdef void detach(self) noexcept
    cdef bint readable(self) except -1
    cdef void share_limit(self) noexcept
    cdef bint satisfied(self) noexcept
    cdef bint gap_ahead(self) noexcept
    cdef bint changed(self) noexcept    # something came; True: it is over its limit
    cdef int make_parking(self) except -1
    cdef uint64_t skip_gap(self, const GapMark *mark, uint64_t n) noexcept
    cdef bint enough(self, uint64_t here, uint64_t n) noexcept
    cdef object cut(self, uint64_t n)
    cdef object last_block(self, list blocks, uint64_t here)
    cdef object end_of_stream(self)
    cdef bint pass_gap(self) except -1
    cdef bint pass_gaps(self, uint64_t *here) except -1


cdef EndpointBase endpoint_new(object cls, Core core, Flow *f, TaskQueue queue, int side,
                               Handler handler)
