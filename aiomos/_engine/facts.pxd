"""What is known of one end of a flow: address, state, counts. Never of its bytes."""
from libc.stdint cimport uint8_t

from aiomos._engine.core cimport Core
from aiomos._engine.flow cimport Flow
from aiomos._engine.reading cimport Reader


cdef class EndFacts(Reader):
    cdef Core core
    cdef Flow *fl                       # pinned
    cdef uint8_t side
