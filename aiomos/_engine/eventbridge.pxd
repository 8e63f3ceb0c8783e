"""Events of the engine to whoever asked for them: plain functions in place, coroutines later.

The core calls event_trampoline() with a C event, for the kinds in CoreState.wanted. That is
the union of what the app's functions (@app.on) and the flows' subscriptions ask for; a kind
that nobody wants never gets here. Python objects are made for those who want an event only.

    app's functions, in order of declaration
    -> the flow's subscriptions, in order of subscription
       (packets from the server: all of them in reverse, semantics.md 6)
       plain function: called now, with the borrowed packet
       coroutine function: queued, a task takes events one by one after the burst
       flow.events(), flow.wait(): queued, the reader is woken after the burst
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.eventmake cimport EVENT_KINDS, EventMaker
from aiomos._engine.events cimport Event
from aiomos._engine.faults cimport Faults
from aiomos._engine.flow cimport Flow
from aiomos._engine.packet cimport PacketBase
from aiomos._engine.subscription cimport EventRunner, FlowEvents, Subscription
from aiomos._engine.taskqueue cimport TaskQueue
from aiomos._engine.flowview cimport FlowBase
from aiomos._engine.handler cimport Handler


# One event that is being told: what was made for it so far.
cdef class Telling:
    cdef Event e
    cdef object event                   # None: nobody wanted it yet
    cdef PacketBase packet


cdef class EventBridge:
    cdef Core core
    cdef TaskQueue queue
    cdef Faults faults
    cdef EventMaker maker
    cdef object spawn                   # makes a task other than a flow task; None: flow tasks
    cdef readonly object clock          # the pump: now_ns(), call_at() and cancel_call()
    cdef object flow_class
    cdef object endpoint_class
    cdef object packet_class
    cdef Handler handler                # of the views that functions are given: reads no side
    cdef tuple rules                    # Subscriptions of the app
    cdef uint32_t app_kinds
    cdef uint64_t subscribed[EVENT_KINDS]   # subscriptions of flows, by kind
    cdef FlowEvents unowned             # runners for events without a flow
    cdef dict flows                     # FlowEvents by index of the flow, where FLOW_EVENTS is set
    cdef bint telling
    cdef list behind                    # Tellings caused by the one that is being told

    # The flow is over and its records are being consumed: readers meet the end.
    cdef int flow_over(self, Flow *f) except -1

    cdef int hear(self, const Event *e) except -1
    cdef int tell(self, Telling t) except -1
    cdef int tell_all(self, Telling t) except -1
    cdef tuple chain(self, const Event *e)
    cdef int tell_one(self, Subscription s, FlowEvents fe, Telling t) except -1
    cdef int call(self, Subscription s, FlowBase view, Telling t) except -1
    cdef int to_runner(self, Subscription s, FlowEvents fe, Telling t) except -1
    cdef int start(self, EventRunner runner) except -1
    cdef FlowEvents events_of(self, Flow *f)
    cdef FlowBase view_of(self, Flow *f)
    cdef int count(self, uint32_t kinds, int by) except -1
    cdef void want(self) noexcept
    cdef int add(self, FlowBase view, Subscription s) except -1
    cdef int take_back(self, Subscription s, uint32_t kinds) except -1
