"""The pump: one core's engine and its coroutines on one thread, in the order of semantics.md 1.

    cycle = judge full sides (their handlers had their turn)
          -> frames, until a task's timer is due, a reader is full or the burst is done
          -> records to views, tasks runnable -> frames released -> runnable tasks stepped

Whoever owns the loop calls it from loop callbacks only: the replay loop through advance()
(the CaptureDriver protocol of aiomos/_replay_loop.py), any other loop through turn().
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.clock cimport Clock
from aiomos._engine.core cimport Core
from aiomos._engine.filters cimport FrameFilter
from aiomos._engine.flowfilters cimport FilterSet
from aiomos._engine.flow cimport Flow
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame, aio_source
from aiomos._engine.source cimport Source, Writer
from aiomos._engine.state cimport Record
from aiomos._engine.taskqueue cimport TaskQueue
from aiomos._engine.view cimport EndpointBase, FlowBase
from aiomos._engine.wire cimport Packet

# What a cycle came to.
cpdef enum Cycle:
    CYCLE_WORKED = 0
    CYCLE_DUE = 1             # nothing before the due time; the clock stands there
    CYCLE_EMPTY = 2           # a live source has nothing now
    CYCLE_END = 3             # the source has ended


cdef struct Batch:
    aio_frame frames[AIO_BURST_MAX]
    uint32_t count


cdef class Pump:
    cdef readonly Core core
    cdef readonly TaskQueue queue
    cdef readonly Source source
    cdef readonly Writer writer
    cdef object loop
    cdef list handlers                  # Handler by bit of the mask
    cdef FilterSet filters
    cdef FrameFilter frame_filter       # -f EXPR; None: everything
    cdef object flow_class
    cdef object endpoint_class
    cdef object spawn                   # makes a task other than a flow task; None: flow tasks
    cdef object on_done                 # what ended tasks are told to (bound once)
    cdef object on_failure              # (flow, exception): a handler raised
    cdef list packet_hooks              # plain functions and makers of coroutines
    cdef object leaving                 # what a packet handler wants to leave the run with
    cdef list full_sides                # endpoints over their limit since the last judgement
    cdef list fresh_packets             # coroutines of async packet handlers, to be started
    cdef list timers                    # heap of (due_ns, number, callable)
    cdef uint64_t timer_number
    cdef Batch *now_batch
    cdef Batch *next_batch              # read ahead, when a stamp needs its successor
    cdef uint32_t head                  # first frame of now_batch not taken yet
    cdef uint32_t released
    cdef uint32_t burst_size
    cdef int64_t head_ns                # engine time of that frame
    cdef bint head_timed                # head_ns holds
    cdef bint ended                     # the source gave its last frame
    cdef bint closed                    # open flows were closed
    cdef readonly uint64_t received     # frames that passed -f
    cdef readonly uint64_t filtered     # frames that did not
    cdef uint64_t stop_after            # -c N; 0: never
    cdef readonly uint64_t budget_spent # turns in which the step budget ran out
    cdef readonly uint64_t handler_errors
    cdef readonly uint64_t flow_endings # handlers that ended with the exception of their flow's end
    cdef Py_ssize_t budget

    cdef int cycle(self, int64_t due_ns) except -1
    cdef int fill(self) except -1
    cdef int read_batch(self, Batch *batch) except -2
    cdef int read_ahead(self) except -2
    cdef void keep_wanted(self, Batch *batch) noexcept
    cdef int64_t time_of_head(self) except? -1
    cdef bint take_frames(self, int64_t due_ns) except -1
    cdef int idle_to(self, int64_t due_ns) except -1
    cdef void release(self) noexcept
    cdef int settle(self) except -1
    cdef int consume_records(self) except -1
    cdef int consume(self, Record *r) except -1
    cdef int start_handlers(self, Record *r) except -1
    cdef int start_handler(self, Record *r, uint32_t bit) except -1
    cdef void side_changed(self, Flow *f, int side) noexcept
    cdef int flow_ended(self, Flow *f) except -1
    cdef int handler_failed(self, FlowBase view, object error) except -1
    cdef int forget_view(self, FlowBase view) except -1
    cdef int judge_full_sides(self) except -1
    cdef int judge(self, EndpointBase e) except -1
    cdef int fire_timers(self) except -1
    cdef bint at_end(self) except -1
    cdef int call_packet_handlers(self, Packet *p) except -1
    cdef int finish(self, uint8_t reason) except -1
