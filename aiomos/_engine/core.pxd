"""Core: frames and times in; records and hook calls out. No clock, no socket, no loop.

core_prepare() decodes a burst and fetches its flows' memory; core_input() then takes the
frames one by one with the engine's time; core_tick() moves time without a frame. Records
pile up until core_end_burst(). A capture file, a fuzzer, a test and a port drive the same
functions (DESIGN.md section 1).
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.flowtable cimport FlowName
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport WIRE_ELSEWHERE, Packet
from aiomos._engine.workers cimport Workers, hand_end_fn, hand_fn

cdef class Core:
    cdef CoreState *state
    cdef Packet *packets      # AIO_BURST_MAX of them: the present burst
    cdef object keep          # what hook and match contexts point into
    cdef object events        # the event bridge, for views to subscribe through; None: no run

    # Before traffic, instead of share(): others' frames are handed to them (workers.pxd).
    cdef int hand_over(self, hand_fn function, hand_end_fn burst_over, void *context, int mine,
                       int count) except -1
    cdef Workers *_share(self, int mine, int count) except? NULL
    # Before traffic: how handler number so-and-so wants bytes kept (targets.pxd); what of urgent
    # ones, as UrgentPolicy + 1, or 0: as the option says.
    cdef void ask(self, int handler, uint8_t policy, bint by_prefix) noexcept
    # Decodes frames [first, end) of a burst, and brings near what their flows need: as many as
    # stay near until they are taken.
    cdef void prepare(self, const aio_frame *frames, unsigned first, unsigned end) noexcept nogil
    # Frame i of the prepared burst is another worker's: it may be passed over, and counted.
    cdef inline bint is_elsewhere(self, unsigned i) noexcept nogil:
        return self.packets[i].status == WIRE_ELSEWHERE
    # Takes frame i of the prepared burst at engine time now.
    cdef void take(self, unsigned i, int64_t now) noexcept nogil
    # Lets engine timers fire up to now; False: the record buffer is full, call again after
    # core_end_burst().
    cdef bint advance(self, int64_t now) noexcept nogil
    cdef void end_burst(self) noexcept nogil
    # Before a burst: gives up what can be spared while memory is short.
    cdef void relieve(self) noexcept nogil
    # Ends open flows with this reason, in order of their birth; False: not all yet (record
    # buffer full).
    cdef bint close_flows(self, uint8_t reason) noexcept nogil
    cdef FlowName *closing    # close_flows: those to end, ...
    cdef uint32_t n_closing
    cdef uint32_t sweep       # ... and where it stands
