"""Segment arrives: sequence, RST, SYN, ACK, text, FIN, in the order of RFC 9293.

Names: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's. "nxt" is
always the next byte of that half which the *other* end has not received in order.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.closing cimport close_if_done, fin_acked, fin_arrives, rst_arrives
from aiomos._engine.delivery cimport delivery_acked
from aiomos._engine.events cimport ORPHAN_CLOSED
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_OPEN, HALF_ACKING, HALF_FIN,
                                  HALF_FIN_DONE, HALF_SEEN, HALF_SYN, HALF_SYNCED, Half)
from aiomos._engine.handshake cimport (TCP_DONE, TCP_REOPEN, bad_flags, establish, first_ack,
                                       pick_up, syn_arrives, synack_arrives)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.limits cimport ACK, FIN, RST, SYN
from aiomos._engine.receive cimport receive_text
from aiomos._engine.seq cimport seq_gt
from aiomos._engine.state cimport (C_LATE, C_TCP_BAD_FLAGS, C_TCP_NO_ACK, C_TCP_OUTSIDE_WINDOW)
from aiomos._engine.strays cimport stray

# ---- a segment arrives -------------------------------------------------------------------

cdef int tcp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    if likely(f.flags & FLOW_OPEN and p.flags & (FIN | SYN | RST | ACK) == ACK):
        f.h[s].packets += 1
        f.last_ns = cs.now
        if unlikely(not sequence_check(cs, f, p, s)):
            return TCP_DONE
        ack_arrives(cs, f, p, s)
        if p.payload_len:
            text_arrives(cs, f, p, s, p.seq)
        return TCP_DONE
    return arrives_slow(cs, f, p, s)


cdef int arrives_slow(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Everything but ACK and data on an open connection."""
    if f.flags & FLOW_CLOSED:
        return late_arrives(cs, f, p, s)
    # Late packets neither prolong a closed flow nor count for it: what is told of a flow at
    # its end must not depend on how frames were cut into bursts (semantics.md 1).
    f.h[s].packets += 1
    f.last_ns = cs.now
    f.h[s].flags |= HALF_SEEN
    if bad_flags(p.flags):
        cs.counters[C_TCP_BAD_FLAGS] += 1
        return TCP_DONE
    if p.flags & RST:
        rst_arrives(cs, f, p, s)
        return TCP_DONE
    if p.flags & SYN:
        return synack_arrives(cs, f, p, s) if p.flags & ACK else syn_arrives(cs, f, p, s)
    if not p.flags & ACK:
        cs.counters[C_TCP_NO_ACK] += 1
        return TCP_DONE
    if not f.h[s].flags & HALF_SYNCED:
        pick_up(f, p, s)
    if not sequence_check(cs, f, p, s) or not ack_arrives(cs, f, p, s):
        return TCP_DONE
    if p.payload_len:
        text_arrives(cs, f, p, s, p.seq)
    if p.flags & FIN:
        fin_arrives(cs, f, p, s)
    close_if_done(cs, f)
    return TCP_DONE


cdef inline bint sequence_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """First check, right edge: what begins beyond the receiver's window is not looked at.

    What lies left of it is a retransmission; its acknowledgement is old and does no harm.
    """
    cdef const Half *rcv = &f.h[1 - s]
    if unlikely(seq_gt(p.seq, rcv.edge) and rcv.flags & HALF_ACKING):
        cs.counters[C_TCP_OUTSIDE_WINDOW] += 1
        return False
    return True


cdef int late_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """A segment for a closed flow: a new connection if it is a SYN with another ISN."""
    cs.counters[C_LATE] += 1
    if not bad_flags(p.flags) and p.flags & (SYN | ACK | RST) == SYN and (
            not f.h[s].flags & HALF_SYN or p.seq != f.isn[s]):
        return TCP_REOPEN
    stray(cs, ORPHAN_CLOSED)
    return TCP_DONE


cdef inline bint ack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """False: the acknowledgement is impossible, the segment is dropped."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    cdef uint32_t edge
    if unlikely(not snd.flags & HALF_ACKING):
        if not first_ack(cs, f, p, s):
            return False
        if seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN:
            acked_more(cs, f, 1 - s, p.ack)
        return True
    if seq_gt(p.ack, snd.ack):
        snd.ack = p.ack
        if unlikely(seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN):
            acked_more(cs, f, 1 - s, p.ack)
    edge = p.ack + (<uint32_t>p.window << snd.scale)
    if seq_gt(edge, snd.edge):
        snd.edge = edge
    return True


cdef void acked_more(CoreState *cs, Flow *f, int side, uint32_t ack) noexcept nogil:
    """The peer of `side` acknowledges more than was seen, or the end of the stream."""
    cdef Half *h = &f.h[side]
    if not f.flags & FLOW_ESTABLISHED and seq_gt(ack, f.isn[side] + 1):
        establish(cs, f)                 # the same: data acknowledged in front of that ACK
    if seq_gt(ack, h.top):
        h.top = ack
    if seq_gt(ack, h.nxt) and not h.flags & HALF_FIN_DONE:
        delivery_acked(cs, f, side, ack)
    if h.flags & HALF_FIN and seq_gt(ack, f.fin[side]):
        fin_acked(cs, f, side)


cdef inline void text_arrives(CoreState *cs, Flow *f, Packet *p, int s,
                              uint32_t seq) noexcept nogil:
    if unlikely(not f.flags & FLOW_ESTABLISHED):
        # One side visible (semantics.md 5); or the handshake's last ACK was lost or is late: who
        # sends data has seen it.
        establish(cs, f)
    receive_text(cs, f, p, s, seq, False)
