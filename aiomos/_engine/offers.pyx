"""Of several ISNs of one end, the one that its peer acknowledges; see offers.pxd."""
from libc.stdint cimport uint16_t

from aiomos._engine.flow cimport (FLOW_ESTABLISHED, FLOW_OFFER_LOST, FLOW_OTHER_ISN, HALF_INFERRED,
                                  HALF_SCALING, HALF_SIGNED, HALF_SYN, HALF_SYNCED,
                                  HALF_TIMESTAMPS)
from aiomos._engine.receive cimport receive_held

cdef enum:
    OPTIONS = HALF_SCALING | HALF_TIMESTAMPS | HALF_SIGNED


cdef uint8_t offer_in(const TcpOptions *o, uint8_t signatures) noexcept nogil:
    cdef uint8_t offer = o.window_scale
    if o.has_window_scale:
        offer |= OFFER_SCALING
    if o.has_timestamp:
        offer |= OFFER_TIMESTAMPS
    if o.signature & signatures:
        offer |= OFFER_SIGNED
    return offer


cdef uint8_t offer_of(const Half *h) noexcept nogil:
    cdef uint8_t offer = h.scale
    if h.flags & HALF_SCALING:
        offer |= OFFER_SCALING
    if h.flags & HALF_TIMESTAMPS:
        offer |= OFFER_TIMESTAMPS
    if h.flags & HALF_SIGNED:
        offer |= OFFER_SIGNED
    return offer


cdef void offer_take(Half *h, uint8_t offer) noexcept nogil:
    h.flags &= ~<uint16_t>OPTIONS
    h.scale = offer & OFFER_SCALE
    if offer & OFFER_SCALING:
        h.flags |= HALF_SCALING
    if offer & OFFER_SIGNED:
        h.flags |= HALF_SIGNED
    if offer & OFFER_TIMESTAMPS:
        h.flags |= HALF_TIMESTAMPS
        h.ts_recent = 0              # not remembered: the next one is believed (checks.pyx)


# ---- several -----------------------------------------------------------------------------

cdef inline bint remembered(const Flow *f, int side, uint32_t isn) noexcept nogil:
    return f.flags & FLOW_OTHER_ISN << side and f.other_isn == isn


cdef void offer_leave(Flow *f, int side, uint32_t next_isn) noexcept nogil:
    if f.flags & FLOW_OTHER_ISN * 3 and not remembered(f, side, next_isn):
        f.flags |= FLOW_OFFER_LOST
    remember(f, side, f.isn[side], offer_of(&f.h[side]))


cdef void offer_note(Flow *f, int side, uint32_t isn, uint8_t offer) noexcept nogil:
    if f.flags & FLOW_OTHER_ISN * 3 and not remembered(f, side, isn):
        f.flags |= FLOW_OFFER_LOST
    remember(f, side, isn, offer)


cdef inline void remember(Flow *f, int side, uint32_t isn, uint8_t offer) noexcept nogil:
    f.flags = (f.flags & ~<uint32_t>(FLOW_OTHER_ISN * 3)) | FLOW_OTHER_ISN << side
    f.other_isn = isn
    f.other_offer = offer


# ---- one of them counts ------------------------------------------------------------------

cdef bint offer_chosen(Flow *f, int side, uint32_t ack) noexcept nogil:
    cdef Half *h = &f.h[side]
    cdef uint32_t isn = f.other_isn
    cdef uint8_t offer = f.other_offer
    if f.flags & FLOW_ESTABLISHED or not remembered(f, side, ack - 1):
        return False
    receive_held(f, side, f.isn[side] + 1)     # data on the SYN that was not taken
    remember(f, side, f.isn[side], offer_of(h))
    offer_take(h, offer)
    f.mss[side] = 0
    begin(f, side, isn)
    return True


cdef bint offer_recalled(Flow *f, int side, uint32_t ack) noexcept nogil:
    if f.flags & FLOW_ESTABLISHED or not f.flags & FLOW_OFFER_LOST:
        return False
    receive_held(f, side, f.isn[side] + 1)
    f.h[side].flags &= ~<uint16_t>(OPTIONS | HALF_SYN)      # as if it had not been seen
    f.mss[side] = 0
    offer_infer(f, side, ack)
    return True


cdef void offer_infer(Flow *f, int side, uint32_t ack) noexcept nogil:
    begin(f, side, ack - 1)
    f.h[side].scale = assumed_scale()
    f.h[side].flags |= HALF_SYNCED | HALF_INFERRED


cdef inline void begin(Flow *f, int side, uint32_t isn) noexcept nogil:
    f.isn[side] = isn
    f.h[side].nxt = isn + 1
    f.h[side].top = isn + 1
