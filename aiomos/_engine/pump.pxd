"""The pump: one core's engine and its coroutines on one thread, in the order of semantics.md 1.

    cycle = judge full sides (their handlers had their turn)
          -> frames, until a task's timer is due, a reader is full or the burst is done
          -> records to views, tasks runnable -> frames released -> runnable tasks stepped

Whoever owns the loop calls it from loop callbacks only: the replay loop through advance()
(the CaptureDriver protocol of aiomos/_replay_loop.py), any other loop through turn().
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.eventbridge cimport EventBridge
from aiomos._engine.faults cimport Faults
from aiomos._engine.feed cimport Feed
from aiomos._engine.filters cimport FrameFilter
from aiomos._engine.flow cimport Flow
from aiomos._engine.overlimit cimport OverLimit
from aiomos._engine.packethooks cimport PacketHooks
from aiomos._engine.ledger cimport Ledger
from aiomos._engine.roster cimport Roster
from aiomos._engine.source cimport Source
from aiomos._engine.writer cimport Writer
from aiomos._engine.state cimport Record
from aiomos._engine.taskqueue cimport TaskQueue
from aiomos._engine.flowview cimport FlowBase

# What a cycle came to.
cpdef enum Cycle:
    CYCLE_WORKED = 0
    CYCLE_DUE = 1             # nothing before the due time; the clock stands there
    CYCLE_EMPTY = 2           # a live source has nothing now
    CYCLE_END = 3             # the source has ended


cdef class Pump:
    cdef readonly Core core
    cdef readonly TaskQueue queue
    cdef readonly Source source
    cdef object loop
    cdef Feed feed                      # frames, with their times
    cdef Faults faults                  # what the app's functions raised
    cdef PacketHooks packets            # functions of @app.packet
    cdef EventBridge events             # functions of @app.on, and what flows subscribe to
    cdef readonly Roster roster         # whose bit of the mask is whose
    cdef list handlers                  # its list: Handler by bit
    cdef object flow_class
    cdef object endpoint_class
    cdef object spawn                   # makes a task other than a flow task; None: flow tasks
    cdef object on_done                 # what ended tasks are told to (bound once)
    cdef OverLimit over_limit           # sides that their handlers leave unread
    cdef list timers                    # heap of (due_ns, number, callable)
    cdef bint live                      # between its frames, time is the machine's
    cdef public object on_call          # told of calls asked for between two cycles; None: nobody
    cdef uint64_t timer_number
    cdef Py_ssize_t cancelled           # entries of it that were, about
    cdef int64_t due_ns                 # no frame of this burst is at or after it
    cdef bint closed                    # open flows were closed
    cdef bint told                      # a record was for somebody's flow (turns())
    cdef public Ledger ledger           # for a supervisor; None: there is none
    cdef public bint finishing          # the source is over where it has nothing
    cdef readonly uint64_t budget_spent # turns in which the step budget ran out
    cdef readonly uint64_t flow_endings # handlers that ended with the exception of their flow's end
    cdef Py_ssize_t budget

    cdef int cycle(self, int64_t due_ns) except -1
    cdef int turn_before(self, int64_t limit_ns) except -1
    cdef int64_t next_call_ns(self) except? -1
    cdef int64_t earliest(self, object limit_ns) except? -1
    cdef int take_frames(self) except -1
    cdef int idle_to(self, int64_t due_ns) except -1
    cdef int settle(self) except -1
    cdef void keep_ledger(self) noexcept
    cdef int consume_records(self) except -1
    cdef int consume(self, Record *r) except -1
    cdef int start_handlers(self, Record *r) except -1
    cdef int start_handler(self, Record *r, uint32_t bit) except -1
    cdef void ends_flipped(self, const Record *r) noexcept
    cdef void side_changed(self, Flow *f, int side) noexcept
    cdef int flow_ended(self, Flow *f) except -1
    cdef int handler_failed(self, FlowBase view, object error) except -1
    cdef int forget_view(self, FlowBase view) except -1
    cdef int fire_timers(self) except -1
    cdef bint at_end(self) except -1
    cdef int finish(self, uint8_t reason) except -1
