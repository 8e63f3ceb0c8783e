"""Segment arrives: timestamp, sequence, RST, SYN, ACK, text, FIN, in the order of RFC 9293.

Names: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's. "nxt" is
always the next byte of that half which the *other* end has not received in order; "top" is
what the half itself has shown.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.checks cimport (SMALL_SEGMENT, ack_ahead, ack_behind, beyond_window, same_ack,
                                    options_check, small_arrives, timestamp_check, window_closed)
from aiomos._engine.closing cimport (close_if_done, fin_acked, fin_received, fin_sent,
                                     rst_arrives, rst_disproved)
from aiomos._engine.delivery cimport delivery_acked, delivery_shown
from aiomos._engine.events cimport (ANOMALY_INVALID_FLAGS, ANOMALY_NO_ACK_FLAG, EVENT_PACKET,
                                    HOOK_RECEIVER, HOOK_SENDER, ORPHAN_CLOSED, VERDICT_ACCEPTED,
                                    VERDICT_REFUSED, VERDICT_REPEATED)
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_DOUBT, FLOW_ESTABLISHED, FLOW_IN_WHEEL,
                                  FLOW_LEARNING, FLOW_OPEN, FLOW_PAWS, HALF_ACKING, HALF_FIN,
                                  HALF_FIN_DONE, HALF_SEEN, HALF_SYNCED, HALF_URGENT, Half)
from aiomos._engine.handshake cimport (TCP_DONE, another_connection, bad_flags, establish,
                                       first_ack, pick_up, syn_arrives, synack_arrives)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport flow_tell_end, flow_watch
from aiomos._engine.limits cimport ACK, FIN, RST, SYN, URG
from aiomos._engine.receive cimport TEXT_FIN, TEXT_PLAIN, receive_text
from aiomos._engine.seq cimport seq_gt, seq_le
from aiomos._engine.signatures cimport signature_check
from aiomos._engine.state cimport (C_LATE, C_TCP_BAD_FLAGS, C_TCP_NO_ACK, event_raise,
                                   event_wanted, refuse)
from aiomos._engine.strays cimport stray
from aiomos._engine.urgent cimport urgent_text


# ---- a segment arrives -------------------------------------------------------------------

cdef int tcp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    if unlikely(event_wanted(cs, EVENT_PACKET)):
        return arrives_watched(cs, f, p, s)
    return arrives(cs, f, p, s)


cdef inline int arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    if unlikely(not (f.flags & FLOW_OPEN and p.flags & (FIN | SYN | RST | ACK | URG) == ACK)):
        return arrives_slow(cs, f, p, s)
    f.h[s].packets += 1
    if unlikely(not options_check(cs, f, p, s)):
        f.last_ns = cs.now
        return TCP_DONE
    f.last_ns = cs.now
    if likely(sequence_check(cs, f, p, s)) and likely(ack_arrives(cs, f, p, s)):
        text_arrives(cs, f, p, s)
    return TCP_DONE


cdef int arrives_slow(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Everything but ACK and data on an open connection."""
    cdef int other = another_connection(f, p, s)
    if f.flags & FLOW_CLOSED:
        cs.counters[C_LATE] += 1
        if other == TCP_DONE:
            stray(cs, ORPHAN_CLOSED)
        return other
    if other != TCP_DONE:
        return other
    # Late packets neither prolong a closed flow nor count for it: what is told of a flow at
    # its end must not depend on how frames were cut into bursts (semantics.md 1).
    f.h[s].packets += 1
    f.h[s].flags |= HALF_SEEN
    if bad_flags(p.flags) and not p.flags & RST:
        refuse(cs, f, s, ANOMALY_INVALID_FLAGS, C_TCP_BAD_FLAGS, p.flags)
    elif p.flags & (SYN | RST) == SYN:
        f.last_ns = cs.now
        if p.flags & ACK:
            synack_arrives(cs, f, p, s)
        else:
            syn_arrives(cs, f, p, s)
    else:
        other_arrives(cs, f, p, s)
    f.last_ns = cs.now
    return TCP_DONE


cdef void other_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """A segment without SYN that is not for the fast path: it ends or begins something."""
    cdef bint timely = True
    if not signature_check(cs, f, p, s):
        if not f.flags & FLOW_IN_WHEEL:
            flow_watch(cs, f)            # the flow began with it, and is to end some time
        return
    if f.flags & (FLOW_PAWS | FLOW_LEARNING):
        timely = timestamp_check(cs, f, p, s)
    f.last_ns = cs.now
    if p.flags & RST:
        rst_arrives(cs, f, p, s, timely)
        return
    if not p.flags & ACK:
        refuse(cs, f, s, ANOMALY_NO_ACK_FLAG, C_TCP_NO_ACK, p.payload_len)
        return
    if not f.h[s].flags & HALF_SYNCED:
        pick_up(cs, f, p, s)
    if timely and sequence_check(cs, f, p, s):
        acceptable_arrives(cs, f, p, s)
        close_if_done(cs, f)


cdef void acceptable_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """The sender's stack first: its FIN; then the receiver's. Only the first acknowledgement of
    an end, which may open the connection, comes before all."""
    cdef bint opened = f.h[s].flags & HALF_ACKING and f.flags & FLOW_ESTABLISHED
    cdef uint32_t acked = f.h[s].ack
    cdef int how = TEXT_PLAIN
    if opened:
        if not ack_acceptable(cs, f, p, s):
            return
        how = fin_leaves(cs, f, p, s)
    if not ack_arrives(cs, f, p, s):
        return
    if not opened:
        if p.payload_len and not f.flags & FLOW_ESTABLISHED:
            establish(cs, f)
        how = fin_leaves(cs, f, p, s)
    if f.flags & FLOW_DOUBT << (1 - s) and f.h[s].ack != acked:
        rst_disproved(cs, f, 1 - s)
    if p.flags & URG or f.h[s].flags & HALF_URGENT:
        urgent_text(cs, f, p, s, how)
    elif how:
        receive_text(cs, f, p, s, p.seq, how)
    else:
        text_arrives(cs, f, p, s)
    if p.flags & FIN:
        fin_received(cs, f, s)


cdef inline int fin_leaves(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """How its peer is to take the text."""
    return TEXT_FIN if p.flags & FIN and fin_sent(cs, f, p, s) else TEXT_PLAIN


cdef inline bint sequence_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """First check, right edge: what begins beyond the receiver's window is not looked at.

    What lies left of it is a retransmission; its acknowledgement is old and does no harm.
    """
    cdef const Half *rcv = &f.h[1 - s]
    if unlikely(seq_gt(p.seq, rcv.edge) and rcv.flags & HALF_ACKING):
        return beyond_window(cs, f, p, s)
    return True


# ---- PacketSeen --------------------------------------------------------------------------

cdef int arrives_watched(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Both stacks tell what they made of it; if it ended the flow, that is told last."""
    if f.flags & FLOW_CLOSED or another_connection(f, p, s) != TCP_DONE:
        return arrives_slow(cs, f, p, s)
    cs.verdict = VERDICT_ACCEPTED
    cs.watched = f
    event_raise(cs, f, EVENT_PACKET, s, HOOK_SENDER, sender_verdict(f, p, s), 0, 0)
    arrives(cs, f, p, s)
    event_raise(cs, f, EVENT_PACKET, s, HOOK_RECEIVER, cs.verdict, 0, 0)
    cs.watched = NULL
    if f.flags & FLOW_CLOSED:
        flow_tell_end(cs, f)
    return TCP_DONE


cdef int sender_verdict(const Flow *f, const Packet *p, int s) noexcept nogil:
    """Of the stack that sent it: something new, the same again, or what no stack sends."""
    cdef uint32_t length = p.payload_len + (p.flags & FIN) + ((p.flags & SYN) >> 1)
    if bad_flags(p.flags):
        return VERDICT_REFUSED
    if length and f.h[s].flags & HALF_SYNCED and seq_le(p.seq + length, f.h[s].top):
        return VERDICT_REPEATED
    return VERDICT_ACCEPTED


# ---- fifth check: ACK --------------------------------------------------------------------

cdef inline bint ack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """False: the acknowledgement is impossible, the segment is dropped."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    cdef uint32_t edge
    if unlikely(not snd.flags & HALF_ACKING):
        return first_ack_arrives(cs, f, p, s)
    if seq_gt(p.ack, snd.ack):
        if unlikely(seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN):
            if not ack_ahead(cs, f, p, s):
                return False
            snd.ack = p.ack
            acked_more(cs, f, 1 - s, p.ack)
        snd.ack = p.ack
    elif unlikely(p.ack != snd.ack):
        return ack_behind(cs, f, p, s)
    elif p.payload_len == 0:
        same_ack(cs, f, p, s)
    if unlikely(p.window == 0 or snd.window == 0):
        window_closed(cs, f, p, s)
    snd.window = p.window
    if unlikely(p.window > snd.max_window):
        snd.max_window = p.window
    edge = p.ack + (<uint32_t>p.window << snd.scale)
    if seq_gt(edge, snd.edge):
        snd.edge = edge
    return True


cdef bint ack_acceptable(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """What ack_arrives() checks, before anything of the segment counts."""
    if seq_gt(p.ack, f.h[s].ack):
        return ack_ahead(cs, f, p, s)
    return p.ack == f.h[s].ack or ack_behind(cs, f, p, s)


cdef bint first_ack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef const Half *rcv = &f.h[1 - s]
    if not first_ack(cs, f, p, s):
        return False
    if seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN:
        acked_more(cs, f, 1 - s, p.ack)
    return True


cdef void acked_more(CoreState *cs, Flow *f, int side, uint32_t ack) noexcept nogil:
    """The peer of `side` acknowledges more than was seen, or the end of the stream.

    What a side has not shown itself is not missed before it goes on behind it: an
    acknowledgement alone is one end's word about the other (docs/decisions/0006).
    """
    cdef Half *h = &f.h[side]
    cdef uint32_t shown
    if not f.flags & FLOW_ESTABLISHED and seq_gt(ack, f.isn[side] + 1):
        establish(cs, f)                 # the same: data acknowledged in front of that ACK
    if not h.flags & HALF_SEEN and seq_gt(ack, h.top):
        h.top = ack
    shown = h.top if seq_gt(ack, h.top) else ack
    if seq_gt(shown, h.nxt) and not h.flags & HALF_FIN_DONE:
        delivery_acked(cs, f, side, shown)
    fin_acked(cs, f, side)


# ---- seventh: text -----------------------------------------------------------------------

cdef inline void text_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    if p.payload_len == 0:
        if unlikely(seq_gt(p.seq, f.h[s].top)):
            shows_more(cs, f, p, s)
        return
    if unlikely(not f.flags & FLOW_ESTABLISHED):
        # One side visible (semantics.md 5); or the handshake's last ACK was lost or is late: who
        # sends data has seen it.
        establish(cs, f)
    if unlikely(p.payload_len < SMALL_SEGMENT) and not small_arrives(cs, f, p, s):
        return
    receive_text(cs, f, p, s, p.seq, TEXT_PLAIN)


cdef void shows_more(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Without text, its number is the next that its sender will use: what lies before was sent."""
    f.h[s].top = p.seq
    delivery_shown(cs, f, s)
