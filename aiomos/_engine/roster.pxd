"""The handlers of an engine, each with its bit in the masks of flows (Flow.waiting).

A reload gives new flows to other handlers. A flow needs the bit of a handler only until that has
begun with it: what goes on then is a view, which knows its handler. So a bit is anybody's again as
soon as no open flow waits with it, and an engine never runs out of them for good.
"""
from libc.stdint cimport uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.flowfilters cimport FilterSet


cdef class Roster:
    cdef Core core
    cdef readonly list by_bit           # Handler, or None
    cdef FilterSet filters              # gives new flows those bits
    cdef uint64_t started_before        # by handlers whose bits are others' now

    cdef int enter(self, int bit, object handler) except -1
    cdef uint64_t awaited(self) noexcept nogil
