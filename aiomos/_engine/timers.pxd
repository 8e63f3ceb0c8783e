"""A hierarchical timer wheel over the flows of a slab. No clock inside: time is an argument.

Four levels of 256 slots, one tick 2**20 ns (1.05 ms). A flow is in it at most once, at
the earliest time at which somebody must look at it; who looks decides whether anything
is due and arms it again. So a packet only writes a time stamp and never moves a timer.
"""
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.flow cimport Flow

cdef enum:
    TICK_SHIFT = 20
    WHEEL_LEVELS = 4
    WHEEL_SLOTS = 256
    SLOT_FIRING = WHEEL_LEVELS * WHEEL_SLOTS  # those whose tick has come

cdef struct Wheel:
    Flow *flows                  # base of the slab; index 0 is never used
    uint64_t tick                # all earlier ticks are done
    uint64_t next_tick           # nothing is due before it (a lower bound)
    int64_t next_ns              # the same in ns: what a packet's time is compared with
    uint32_t armed               # flows in the wheel
    uint64_t looks               # flows popped so far: what expiry costs
    uint32_t head[WHEEL_LEVELS * WHEEL_SLOTS + 1]
    uint64_t busy[WHEEL_LEVELS][4]  # bit map of slots that are not empty

cdef void wheel_init(Wheel *w, Flow *flows) noexcept nogil
# Sets an empty wheel to the time at which the engine begins.
cdef void wheel_start(Wheel *w, int64_t now_ns) noexcept nogil
# Looks at flow no later than at due_ns (and up to one tick after it).
cdef void wheel_arm(Wheel *w, Flow *f, int64_t due_ns) noexcept nogil
cdef void wheel_disarm(Wheel *w, Flow *f) noexcept nogil
# The next flow whose time has come by now_ns, taken out of the wheel; NULL: none left.
cdef Flow *wheel_pop(Wheel *w, int64_t now_ns) noexcept nogil

# The tick of the flow popped last, in ns.
cdef inline int64_t wheel_time(const Wheel *w) noexcept nogil:
    return <int64_t>(w.tick << TICK_SHIFT)
