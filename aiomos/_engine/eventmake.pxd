"""Python objects of C events: the classes come from above, the engine knows only numbers."""
from libc.stdint cimport int64_t, uint64_t

from aiomos._engine.events cimport EVENTS, Event

# Kinds that the core does not know, behind its own.
cdef enum:
    EVENT_TIMER = EVENTS              # TimerFired
    EVENT_LOST = EVENTS + 1           # EventsLost
    EVENT_KINDS = EVENTS + 2


cdef class EventClass:
    cdef object cls
    cdef tuple slots                    # descriptors of its fields: own ones, then common ones

    cdef object make(self, tuple own, double time, str side, str hook)


cdef class EventMaker:
    cdef list classes                   # EventClass by kind
    cdef tuple states                   # what StateChange calls TCP_*
    cdef tuple reasons                  # what ConnectionEnd calls CLOSE_*

    cdef object make(self, const Event *e)
    cdef object timer(self, object value, int64_t time_ns)
    cdef object lost(self, uint64_t count, int64_t time_ns)
    cdef tuple fields(self, const Event *e)
    cdef tuple rarer_fields(self, const Event *e)
