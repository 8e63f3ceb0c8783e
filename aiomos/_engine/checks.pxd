"""What a receiver checks before it takes a segment: timestamps, acknowledgement, window.

Each returns whether the segment goes on to the next step; what is refused has been counted
and told. `s` is the end that sent the segment (CLIENT or SERVER). docs/tcp.md has the rules
in words, with their sections.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

from aiomos._engine.be cimport be32
from aiomos._engine.flow cimport FLOW_LEARNING, FLOW_PAWS, HALF_ACKING, Flow, Half
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.signatures cimport signature_check
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

cdef enum:
    SMALL_SEGMENT = 8         # bytes: data segments under this are small ...
    SMALL_SEGMENTS = 128      # ... and so many in flight one after the other are an anomaly
    ALIGNED_TIMESTAMP = 0x0101080A   # NOP, NOP, kind 8, length 10 (RFC 7323 appendix A)

# ---- timestamps: RFC 7323 section 5 (PAWS) --------------------------------------------------

# A segment whose option stands elsewhere, or that has none.
cdef bint timestamp_elsewhere(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# A timestamp of a flow that is not known to use them, or one before ts_recent.
cdef bint timestamp_odd(CoreState *cs, Flow *f, const Packet *p, int s,
                        uint32_t value) noexcept nogil
# Both SYNs are known as far as they will be: whether timestamps are used.
cdef void timestamps_settle(Flow *f) noexcept nogil

# Its peer echoed a timestamp newer than ts_recent: believed if the tap has seen it go by.
cdef void timestamp_echoed(Flow *f, int side, uint32_t echo) noexcept nogil

cdef inline bint timestamp_newer(CoreState *cs, Flow *f, const Packet *p, int s,
                                 uint32_t value, uint32_t echo) noexcept nogil:
    """R1 and R3 of RFC 7323 section 5.3: older ones are refused, those in order remembered.

    What was in order for the receiver, only the receiver says, by what it echoes: a segment
    may pass the tap behind a newer one that it overtakes on its way. One tick of difference is let
    pass, as Linux does.
    """
    cdef int32_t age = <int32_t>(value - f.h[s].ts_recent)
    if unlikely(age < -1 or not f.flags & FLOW_PAWS or timestamp_stale(cs, f)):
        return timestamp_odd(cs, f, p, s, value)
    if age > 0 and age > f.ts_ahead[s]:
        f.ts_ahead[s] = <uint16_t>min(age, 65535)
    if <int32_t>(echo - f.h[1 - s].ts_recent) > 0:
        timestamp_echoed(f, 1 - s, echo)
    return True

cdef inline bint timestamp_stale(const CoreState *cs, const Flow *f) noexcept nogil:
    """After 24 days of silence a timestamp says nothing (RFC 7323 section 5.5)."""
    return cs.now - f.last_ns > <int64_t>24 * 86400 * 1000000000

cdef inline bint timestamp_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Only for flows with FLOW_PAWS or FLOW_LEARNING; before last_ns moves."""
    if unlikely(p.l4_len != 32 or be32(p.l4 + 20) != ALIGNED_TIMESTAMP):
        return timestamp_elsewhere(cs, f, p, s)
    return timestamp_newer(cs, f, p, s, be32(p.l4 + 24), be32(p.l4 + 28))

# ---- options: timestamps where they are used, and signatures ---------------------------------

cdef inline bint options_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    if f.flags & (FLOW_PAWS | FLOW_LEARNING):
        return timestamp_check(cs, f, p, s)
    return likely(p.l4_len == 20) or signature_check(cs, f, p, s)

# ---- acknowledgement: RFC 5961 section 5 ----------------------------------------------------

# Whether what s acknowledges beyond all that was received in order can be; FIN included.
cdef bint ack_ahead(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# Whether an acknowledgement below the highest one is not too old.
cdef bint ack_behind(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# The first acknowledgement of an end, which answers the peer's SYN or a picked-up segment.
cdef bint ack_first(const Flow *f, const Packet *p, int s) noexcept nogil

# ---- sequence number and window: RFC 9293 section 3.10.7.4, first check ---------------------

# A segment that begins beyond the window: False, unless both ends went on from there.
cdef bint beyond_window(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# No payload and no new acknowledgement: window updates, keep-alives, probes.
cdef void same_ack(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# The window closes, or opens again.
cdef void window_closed(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# A data segment under SMALL_SEGMENT; False: a keep-alive, not text.
cdef bint small_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
