"""What a handler holds in its hands: a view of a flow, with views of its two ends.

A view names the engine's entry and pins it; its two ends each own a cursor into the bytes
of that side. Several handlers on one flow have a view each. The chain Flow.views holds a
reference to every view whose handler still runs; nothing else in the engine knows Python.
"""
from libc.stdint cimport uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.endpoint cimport EndpointBase
from aiomos._engine.flow cimport Flow
from aiomos._engine.handler cimport Handler
from aiomos._engine.task cimport Parking
from aiomos._engine.taskqueue cimport TaskQueue


cdef class FlowBase:
    cdef Core core
    cdef Flow *fl
    cdef TaskQueue queue
    cdef EndpointBase end0              # as Flow.h; which is the client, the flow says
    cdef EndpointBase end1
    cdef readonly Handler handler
    cdef FlowBase next_view             # chain of views of one flow
    cdef object task
    cdef Parking either                 # of who waits for both sides
    cdef list waiters                   # parkings of established() and closed()
    cdef bint linked                    # in the chain of its flow
    cdef public object context          # the user's own

    cdef EndpointBase end_of(self, int role)
    # The ends changed roles: its handler, which reads one of them, is to read the other too.
    cdef void read_other(self, int side, uint64_t position, uint64_t missing) noexcept
    cdef void link(self) noexcept
    cdef void wake_waiters(self) noexcept
    cdef object datagram(self)


cdef FlowBase flow_view_new(object cls, object endpoint_class, Core core, Flow *f,
                            TaskQueue queue, Handler handler)
