"""What functions of an app raised: reported and counted, or an exit to leave the run with."""
from libc.stdint cimport uint64_t

from aiomos._engine.core cimport Core


cdef class Faults:
    cdef Core core
    cdef object on_failure              # (flow or None, exception, name of the function)
    cdef readonly uint64_t errors
    cdef object leaving                 # what a function inside packet processing exits with

    # A function failed; its flow (or None) goes on without it.
    cdef int failed(self, object flow, object error, object function) except -1
    # A function inside packet processing raised: an exit waits until the packet is done with.
    cdef int raised(self, object flow, object error, object function) except -1
    # After the packet: an exit leaves now.
    cdef int leave(self) except -1
