"""Who wants which events: one declaration of @app.on, or one subscription of a flow."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.eventqueue cimport EventQueue
from aiomos._engine.events cimport Event
from aiomos._engine.faults cimport Faults
from aiomos._engine.filters cimport FrameFilter
from aiomos._engine.flow cimport Flow
from aiomos._engine.flowfilters cimport FilterSet
from aiomos._engine.flowview cimport FlowBase


cdef enum:
    EVENTS_QUEUED = 1024                # of one flow for one coroutine, unless it says otherwise

cdef enum:
    TO_FUNCTION = 0                     # called in place
    TO_RUNNER = 1                       # a coroutine function, in a task after the burst
    TO_QUEUE = 2                        # flow.events() and flow.wait()


cdef class Subscription:
    cdef uint32_t kinds                 # bit mask of EventKind; 0: taken back
    cdef uint8_t hooks                  # bit mask of HOOK_*
    cdef uint8_t how                    # TO_*
    cdef object function
    cdef EventQueue queue               # TO_QUEUE
    cdef FlowBase view                  # of a flow: whose; None: the app's
    cdef FrameFilter frame_filter       # None: everything
    cdef FilterSet flow_filter          # the same for events without a packet; None: nothing

    cdef bint wants(self, const Event *e)
    cdef bint passes(self, const Event *e)


# What is subscribed on one flow: from the first need to the flow's end (FLOW_EVENTS).
cdef class FlowEvents:
    cdef FlowBase view                  # what functions of the app are given; made when needed
    cdef tuple subscriptions            # replaced, never changed: it may be being told from
    cdef uint32_t kinds                 # union of theirs
    cdef dict runners                   # Subscription -> EventRunner
    cdef dict timers                    # entries of flow.after() by number

    cdef void recount(self) noexcept


# The coroutine function of one subscription on one flow: a queue, and a task while it has any.
cdef class EventRunner:
    cdef readonly object function
    cdef readonly object flow
    cdef EventQueue queue
    cdef Faults faults
    cdef bint running


cdef Subscription subscription_new(uint32_t kinds, uint8_t hooks, object function, uint8_t how)
cdef EventRunner event_runner_new(object function, object flow, EventQueue queue, Faults faults)
