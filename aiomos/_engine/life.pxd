"""Birth, start and end of a flow: what TCP and UDP have in common."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_DOUBT, FLOW_ESTABLISHED, FLOW_OPEN, HALF_FIN,
                                  HALF_SIGNED, HALF_URGENT, Flow)
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# A flow for a keyed packet whose sender is end `sender` (CLIENT or SERVER); NULL: table full.
cdef Flow *flow_open(CoreState *cs, Packet *p, int sender) noexcept nogil
# Both SYNs are acknowledged, or it was picked up: no handshake any more.
cdef void flow_established(CoreState *cs, Flow *f) noexcept nogil
# Lets the handlers begin that wait for this point (StartPoint).
cdef void flow_start(CoreState *cs, Flow *f, int point) noexcept nogil
# These handlers (mask) are to read the flow: which sides are kept for them, and how; a side
# that is kept already stays as it is.
cdef void flow_readers(CoreState *cs, Flow *f, uint64_t readers) noexcept nogil
# Keeps bytes for these handlers from here on, and leaves them a record (START or FLIP) of where.
cdef void flow_keep_for(CoreState *cs, Flow *f, uint64_t mask, uint8_t kind) noexcept nogil
# Keeps the bytes of a side from here on, if its handlers want them.
cdef void flow_keep(CoreState *cs, Flow *f, int side) noexcept nogil
# Something for readers of a side: told once a burst.
cdef void flow_tell(CoreState *cs, Flow *f, int side) noexcept nogil
# Ends a flow. Its entry lingers for late packets.
cdef void flow_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil
# Takes the entry out of table and wheel; freed after the burst, and after its last view.
cdef void flow_forget(CoreState *cs, Flow *f) noexcept nogil
# Engine time at which a flow expires, should no packet of it come before.
cdef int64_t flow_expiry(const CoreState *cs, const Flow *f) noexcept nogil
# The fast path again, if nothing stands against it.
cdef inline void flow_reopen(Flow *f) noexcept nogil:
    cdef uint16_t either = f.h[0].flags | f.h[1].flags
    if (f.flags & (FLOW_ESTABLISHED | FLOW_CLOSED) == FLOW_ESTABLISHED
            and not f.flags & FLOW_DOUBT * 3
            and not either & (HALF_FIN | HALF_URGENT | HALF_SIGNED)):
        f.flags |= FLOW_OPEN

# Flow.since: milliseconds gone by, and the packets of the other end at that time.
cdef inline uint32_t flow_since(const CoreState *cs, const Flow *f) noexcept nogil:
    return (<uint32_t>(cs.now / 1000000) - f.since) & 0xFFFFFF

cdef inline uint32_t since_now(const CoreState *cs, uint32_t packets) noexcept nogil:
    return (<uint32_t>(cs.now / 1000000) & 0xFFFFFF) | packets << 24

# Tells the end of a flow, last: flow_close() does, unless PacketSeen is still to come.
cdef void flow_tell_end(CoreState *cs, Flow *f) noexcept nogil
# Whether a doubtful RST (FLOW_DOUBT) counts by now.
cdef bint flow_doubt_ripe(const CoreState *cs, const Flow *f) noexcept nogil
# The wheel looks at the flow when it expires, or when its state has come to expire earlier.
cdef void flow_watch(CoreState *cs, Flow *f) noexcept nogil
cdef void flow_arm(CoreState *cs, Flow *f, int64_t due_ns) noexcept nogil
# A timer looks at a flow: tells Idle, once, if no packet came for long enough.
cdef void flow_idle(CoreState *cs, Flow *f) noexcept nogil
# Gives entries back whose records have been consumed.
cdef void flow_bury(CoreState *cs) noexcept nogil
# Nobody looks at a flow any more: its bytes are counted from here on, not kept.
cdef void flow_unviewed(CoreState *cs, Flow *f) noexcept nogil
# A Python object that named the entry (Flow.pins) is gone.
cdef void flow_unpin(CoreState *cs, Flow *f) noexcept nogil
