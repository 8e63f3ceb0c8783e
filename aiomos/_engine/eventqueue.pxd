"""Events on their way to a coroutine: a bounded queue, and who waits at its end.

Beyond the limit the newest events are not kept; EventsLost stands in their place. The end of
a connection is always kept: it is the last event, so the bound grows by one.
"""
from libc.stdint cimport int64_t, uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.eventmake cimport EventMaker
from aiomos._engine.task cimport Parking
from aiomos._engine.taskqueue cimport TaskQueue


cdef class EventQueue:
    cdef Core core                      # counts what is lost
    cdef EventMaker maker
    cdef TaskQueue queue
    cdef Parking parking                # made when somebody first waits
    cdef object events                  # deque
    cdef Py_ssize_t limit
    cdef uint64_t n_lost                # since the last event that was kept
    cdef int64_t lost_ns                # when the first of them came
    cdef bint once                      # takes one event only
    cdef readonly bint ended            # nothing more will come

    cdef int put(self, object event, int64_t time_ns, bint last) except -1
    cpdef object take(self)
    cdef int tell_lost(self) except -1
    cdef void end(self) noexcept


cdef EventQueue event_queue_new(Core core, EventMaker maker, TaskQueue queue, Py_ssize_t limit,
                                bint once)
