"""Urgent data: the byte that is announced is taken out of the stream, as the policy says."""
from libc.stdint cimport uint16_t, uint32_t

from aiomos._engine.be cimport be16
from aiomos._engine.delivery cimport (delivery_done, delivery_drain, delivery_due,
                                      delivery_make_gap)
from aiomos._engine.events cimport ANOMALY_URGENT
from aiomos._engine.flow cimport FLOW_OPEN, HALF_URGENT
from aiomos._engine.limits cimport GAP_URGENT, URG, URGENT_DROP, URGENT_INLINE
from aiomos._engine.overlap cimport urgent_policy
from aiomos._engine.receive cimport TEXT_FIN, TEXT_PLAIN, receive_text
from aiomos._engine.seq cimport seq_gt, seq_lt
from aiomos._engine.state cimport C_TCP_URGENT, anomaly
from aiomos._engine.stream cimport STREAM_URGENT_SEEN, Stream


cdef void urgent_text(CoreState *cs, Flow *f, Packet *p, int s, int how) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef int policy = URGENT_INLINE if st == NULL else urgent_policy(st.policy)
    if policy == URGENT_INLINE and not f.h[s].flags & HALF_URGENT:
        if p.payload_len or how:
            receive_text(cs, f, p, s, p.seq, how)
        return
    if p.flags & URG and policy == URGENT_DROP:
        drop_text(cs, f, p, s)
        if how:
            bare_fin(cs, f, p, s)
        return
    if p.flags & URG and policy != URGENT_INLINE:   # which it may be from here on, not from before
        announced(f, urgent_number(p), s)
    if p.payload_len or how:
        place(cs, f, p, s, how)
        if f.h[s].flags & HALF_URGENT:
            delivery_drain(cs, f, s, delivery_due(f, s))
            delivery_done(cs, f, s)


cdef inline uint32_t urgent_number(const Packet *p) noexcept nogil:
    """The byte in front of the pointer; of a pointer of 0, Linux takes the segment's first."""
    cdef uint32_t pointer = be16(p.l4 + 18)
    return p.seq + pointer - 1 if pointer else p.seq


cdef void announced(Flow *f, uint32_t number, int s) noexcept nogil:
    """Only one that is new counts: neither received before, nor before the last announced."""
    cdef Stream *st = f.stream[s]
    if seq_lt(number, f.h[s].nxt) or f.h[s].flags & HALF_URGENT and not seq_gt(number, st.urgent):
        return
    st.urgent = number
    st.flags &= ~<uint16_t>STREAM_URGENT_SEEN
    f.h[s].flags |= HALF_URGENT
    f.flags &= ~<uint32_t>FLOW_OPEN      # until it is passed, the fast path does not look for it


cdef void place(CoreState *cs, Flow *f, Packet *p, int s, int how) noexcept nogil:
    """The text before the urgent byte and the text behind it, each as a segment of its own."""
    cdef Stream *st = f.stream[s]
    cdef Packet part
    cdef uint32_t before = st.urgent - p.seq
    if not f.h[s].flags & HALF_URGENT or before >= p.payload_len:
        receive_text(cs, f, p, s, p.seq, how)
        return
    st.flags |= STREAM_URGENT_SEEN
    part = p[0]
    if before:
        part.payload_len = before
        part.payload_cap = min(p.payload_cap, before)
        receive_text(cs, f, &part, s, p.seq, TEXT_PLAIN)
    part.payload_len = p.payload_len - before - 1
    if part.payload_len:
        part.payload_off = p.payload_off + before + 1
        part.payload_cap = p.payload_cap - before - 1 if p.payload_cap > before else 0
        delivery_drain(cs, f, s, delivery_due(f, s))
        receive_text(cs, f, &part, s, p.seq + before + 1, how)
    elif how:
        delivery_drain(cs, f, s, delivery_due(f, s))
        bare_fin(cs, f, p, s)


cdef void bare_fin(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """The FIN of a segment whose text was placed already."""
    cdef Packet part = p[0]
    part.payload_len = 0
    part.payload_cap = 0
    receive_text(cs, f, &part, s, p.seq + p.payload_len, TEXT_FIN)


cdef void drop_text(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """What an inline engine would have dropped: what of it is next becomes a gap."""
    cdef uint32_t end = p.seq + p.payload_len
    anomaly(cs, f, s, ANOMALY_URGENT, C_TCP_URGENT, p.payload_len)
    if seq_gt(end, f.h[s].top):
        f.h[s].top = end
    if not seq_gt(p.seq, f.h[s].nxt):
        delivery_make_gap(cs, f, s, end, GAP_URGENT)
