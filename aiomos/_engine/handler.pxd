"""One declaration of an app, compiled: who, for which flows, and how it reads."""
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    ON_GAP_RAISE = 0
    ON_GAP_YIELD = 1
    ON_GAP_SKIP = 2

cdef enum:
    ON_FULL_GAP = 0
    ON_FULL_STOP = 1
    ON_FULL_DETACH = 2


cdef class Handler:
    cdef readonly object function
    cdef readonly str name
    cdef readonly uint8_t protocol
    cdef readonly uint8_t start         # StartPoint
    cdef readonly uint8_t sides         # bit mask
    cdef readonly uint8_t on_gap
    cdef readonly uint8_t on_full
    cdef readonly uint64_t limit
    cdef readonly uint8_t policy        # as Core.ask() takes it
    cdef readonly bint by_prefix        # the overlap policy is that of the receiver's prefix
    cdef public uint64_t started
    cdef public uint64_t failed
    cdef readonly uint64_t open         # its tasks that have not ended
