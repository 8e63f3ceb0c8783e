"""What a handler holds in its hands: views of a flow and of its two ends.

A view names the engine's entry and pins it; its two ends each own a cursor into the bytes
of that side. Several handlers on one flow have a view each. The chain Flow.views holds a
reference to every view whose handler still runs; nothing else in the engine knows Python.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.flow cimport Flow
from aiomos._engine.reading cimport Reader
from aiomos._engine.stream cimport Cursor
from aiomos._engine.taskqueue cimport TaskQueue

cdef enum:
    ON_GAP_RAISE = 0
    ON_GAP_YIELD = 1
    ON_GAP_SKIP = 2

cdef enum:
    ON_FULL_GAP = 0
    ON_FULL_STOP = 1
    ON_FULL_DETACH = 2


cdef class Handler:
    # One declaration of an app, compiled: who, for which flows, and how it reads.
    cdef readonly object function
    cdef readonly str name
    cdef readonly uint8_t protocol
    cdef readonly uint8_t start         # StartPoint
    cdef readonly uint8_t sides         # bit mask
    cdef readonly uint8_t on_gap
    cdef readonly uint8_t on_full
    cdef readonly uint64_t limit
    cdef readonly uint8_t policy        # OverlapPolicy, and DELIVER_ACKED
    cdef readonly bint by_prefix        # the overlap policy is that of the receiver's prefix
    cdef public uint64_t started
    cdef public uint64_t failed


cdef class EndpointBase(Reader):
    cdef Cursor cursor
    cdef Core core
    cdef Flow *fl
    cdef TaskQueue queue
    cdef uint64_t want                  # bytes that whoever waits needs
    cdef int64_t time_ns                # stamp of the last byte given
    cdef readonly uint64_t limit
    cdef uint8_t side
    cdef uint8_t on_gap
    cdef uint8_t on_full
    cdef uint8_t touched                # somebody read, peeked or iterated
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
    cdef object cut(self, uint64_t n)
    cdef object last_block(self, list blocks, uint64_t here)
    cdef object end_of_stream(self)
    cdef bint pass_gap(self) except -1
    cdef bint pass_gaps(self, uint64_t *here) except -1


cdef class FlowBase:
    cdef Core core
    cdef Flow *fl
    cdef TaskQueue queue
    cdef readonly EndpointBase client
    cdef readonly EndpointBase server
    cdef readonly Handler handler
    cdef FlowBase next_view             # chain of views of one flow
    cdef object task
    cdef list waiters                   # parkings of established() and closed()
    cdef bint linked                    # in the chain of its flow
    cdef public object context          # the user's own

    cdef void link(self) noexcept
    cdef void wake_waiters(self) noexcept
    cdef object datagram(self)


cdef EndpointBase endpoint_new(object cls, Core core, Flow *f, TaskQueue queue, int side,
                               Handler handler)
cdef FlowBase flow_view_new(object cls, object endpoint_class, Core core, Flow *f,
                            TaskQueue queue, Handler handler)
