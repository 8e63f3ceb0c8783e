"""``timeout=`` of a call that waits for the engine: served by the pump's timers.

Nobody is cancelled. What waits is woken and finds, if nothing else came with it, that its time is
over; so bytes that arrive at the last moment are never lost, and both kinds of task are alike.
"""
from libc.stdint cimport int64_t

from aiomos._engine.task cimport Parking


cdef class Deadline:
    cdef object clock                   # the pump: now_ns(), call_at() and cancel_call(); or None
    cdef int64_t wait_ns
    cdef object entry                   # in the clock's timers
    cdef Parking parking                # what waits under it now
    cdef bint over
