"""Segment arrives: sequence, RST, SYN, ACK, text, FIN, in the order of RFC 9293.

Names: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's. "nxt" is
always the next byte of that half which the *other* end has not received in order.
"""
from libc.stdint cimport uint16_t, uint32_t

from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_MIDSTREAM, FLOW_OPEN,
                                  FLOW_OTHER_ISN, FLOW_REUSE_SYN, HALF_ACKING, HALF_CLAIMED,
                                  HALF_FIN, HALF_FIN_ACKED, HALF_FIN_DONE, HALF_INFERRED,
                                  HALF_RST, HALF_SCALING, HALF_SEEN, HALF_SYN, HALF_SYNCED, Half,
                                  TCP_CLOSE_WAIT, TCP_CLOSED, TCP_CLOSING, TCP_ESTABLISHED,
                                  TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_LAST_ACK, TCP_LISTEN,
                                  TCP_SYN_RECEIVED, TCP_SYN_SENT, TCP_TIME_WAIT)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport (flow_close, flow_expiry, flow_forget, flow_keep, flow_start,
                                  flow_watch)
from aiomos._engine.limits cimport (ACK, CLIENT, CLOSE_FIN, CLOSE_RESET, CLOSE_TIMEOUT, FIN, RST,
                                    SERVER, SYN)
from aiomos._engine.receive cimport (receive_acked, receive_fin, receive_flush, receive_held,
                                     receive_hole_due, receive_release, receive_text)
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.state cimport (C_LATE, C_TCP_BAD_ACK, C_TCP_BAD_FLAGS, C_TCP_BAD_RST,
                                   C_TCP_CHALLENGED_SYN, C_TCP_NO_ACK, C_TCP_OPTIONS,
                                   C_TCP_OUTSIDE_WINDOW, C_TCP_RETRANSMITTED, RECORD_ESTABLISHED,
                                   START_ESTABLISHED, START_SYN, record_add, set_state)
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse

cdef enum:
    ASSUMED_SCALE = 14        # of an end whose SYN was not seen: no window is too narrow
    WELL_KNOWN = 1024


# ---- which segments begin a flow ---------------------------------------------------------

cdef int tcp_may_open(const CoreState *cs, const Packet *p) noexcept nogil:
    if bad_flags(p.flags):
        return -1
    if p.flags & SYN:
        return SERVER if p.flags & ACK else CLIENT
    if p.flags & RST or not p.flags & ACK or not cs.config.pickup:
        return -1
    # Picked up in the middle: who listens on a well-known port is the server; else who
    # speaks first here is taken for the client.
    if p.sport < WELL_KNOWN and p.dport >= WELL_KNOWN:
        return SERVER
    return CLIENT


cdef inline bint bad_flags(uint8_t flags) noexcept nogil:
    """Combinations that no stack sends: SYN or RST with others that contradict them, or none."""
    return ((flags & SYN and flags & (FIN | RST)) or (flags & RST and flags & FIN)
            or flags & 0x3F == 0)


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
    if bad_flags(p.flags):
        return TCP_DONE
    if p.flags & (SYN | ACK | RST) == SYN and (
            not f.h[s].flags & HALF_SYN or p.seq != f.h[s].isn):
        return TCP_REOPEN
    return TCP_DONE


# ---- second check: RST (RFC 5961 section 3.2) --------------------------------------------

cdef void rst_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    f.h[s].flags |= HALF_RST
    if not rst_valid(f, p, s):
        cs.counters[C_TCP_BAD_RST] += 1
        return
    tcp_close(cs, f, CLOSE_RESET)


cdef bint rst_valid(const Flow *f, const Packet *p, int s) noexcept nogil:
    """Exactly the next sequence number, or in SYN-SENT an acknowledgement of the SYN.

    The next number is what the receiver expects; a tap may have missed what lies before
    it (then it is the highest that the sender used), or not have seen its acknowledgement.
    """
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    if rcv.state == TCP_SYN_SENT and p.flags & ACK:
        return seq_gt(p.ack, rcv.isn) and seq_le(p.ack, rcv.top)
    if not snd.flags & HALF_SYNCED:
        return not rcv.flags & HALF_SYNCED
    return (p.seq == snd.nxt or p.seq == snd.top
            or (rcv.flags & HALF_ACKING and p.seq == rcv.ack))


# ---- fourth check: SYN -------------------------------------------------------------------

cdef int syn_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if snd.flags & HALF_SYN and p.seq == snd.isn:
        retransmitted(cs, f, s)
        return TCP_DONE
    if f.flags & FLOW_ESTABLISHED:
        if turned_round(cs, f, p, s):
            return TCP_DONE
        # RFC 5961 section 4: the receiver answers with a challenge; only if it then sends a
        # SYN-ACK for this ISN has it forgotten the old connection.
        cs.counters[C_TCP_CHALLENGED_SYN] += 1
        f.reuse_isn = p.seq
        f.reuse_scale = syn_scale(cs, p)
        f.flags |= FLOW_REUSE_SYN
        return TCP_DONE
    if snd.flags & HALF_SYN:
        note_other_isn(f, s)
        receive_held(f, s, snd.isn + 1)
    adopt_syn(cs, f, p, s)
    if f.h[1 - s].flags & HALF_SYN:      # simultaneous open (RFC 9293 figure 7)
        set_state(cs, f, s, TCP_SYN_RECEIVED)
        set_state(cs, f, 1 - s, TCP_SYN_RECEIVED)
    else:
        set_state(cs, f, s, TCP_SYN_SENT)
        set_state(cs, f, 1 - s, TCP_LISTEN)
    flow_start(cs, f, START_SYN)
    flow_watch(cs, f)
    return TCP_DONE


cdef bint turned_round(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """The capture gave the handshake in another order: the SYN of an end picked up before it."""
    cdef const Half *snd = &f.h[s]
    if snd.flags & HALF_SYN or not snd.flags & HALF_SYNCED or snd.isn != p.seq:
        return False
    adopt_options(cs, f, p, s)
    settle_scaling(f)
    return True


cdef uint8_t syn_scale(CoreState *cs, const Packet *p) noexcept nogil:
    cdef TcpOptions o
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    return o.window_scale


cdef void adopt_syn(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Sequence numbers and options of a SYN or SYN-ACK."""
    cdef Half *snd = &f.h[s]
    if not (snd.flags & HALF_SYNCED and snd.isn == p.seq):
        snd.isn = p.seq
        snd.nxt = p.seq + 1
        snd.top = snd.nxt
        snd.offset = 0
    adopt_options(cs, f, p, s)
    if p.payload_cap and not p.flags & ACK:
        hold_syn_data(cs, f, p, s)


cdef void adopt_options(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef TcpOptions o
    snd.flags = (snd.flags | HALF_SYN | HALF_SYNCED) & ~<uint16_t>(HALF_SCALING | HALF_INFERRED)
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    cs.counters[C_TCP_OPTIONS] += o.malformed
    f.mss[s] = o.mss
    snd.scale = o.window_scale
    if o.has_window_scale:
        snd.flags |= HALF_SCALING


cdef void hold_syn_data(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Data on a SYN (RFC 7413) counts if the SYN-ACK acknowledges it: kept early until then."""
    cdef Half *snd = &f.h[s]
    flow_keep(cs, f, s)
    if f.stream[s] != NULL:
        receive_text(cs, f, p, s, snd.nxt, True)
    if seq_gt(snd.nxt + p.payload_len, snd.top):
        snd.top = snd.nxt + p.payload_len


cdef int synack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if f.flags & FLOW_ESTABLISHED:
        if f.flags & FLOW_REUSE_SYN and p.ack == f.reuse_isn + 1:
            return TCP_REOPEN_ANSWERED
        if not turned_round(cs, f, p, s):
            retransmitted(cs, f, s)
        return TCP_DONE
    if not synack_acceptable(f, p, s):
        cs.counters[C_TCP_BAD_ACK] += 1
        return TCP_DONE
    if snd.flags & HALF_SYN and snd.isn != p.seq:
        note_other_isn(f, s)             # several SYN-ACKs: the client's ACK chooses
    adopt_syn(cs, f, p, s)
    acknowledge(snd, p, 0)
    if p.ack == rcv.isn + 1:
        receive_held(f, 1 - s, p.ack)    # data on the SYN was not taken
    if rcv.state != TCP_ESTABLISHED:
        set_state(cs, f, 1 - s, TCP_ESTABLISHED)
    set_state(cs, f, s, TCP_SYN_RECEIVED)
    flow_start(cs, f, START_SYN)
    flow_watch(cs, f)
    establish_if_agreed(cs, f)
    return TCP_DONE


cdef bint synack_acceptable(Flow *f, const Packet *p, int s) noexcept nogil:
    """Whether it answers a SYN of its peer; the ISN that it confirms is the peer's from now."""
    cdef Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_SYNCED:
        infer(f, 1 - s, p.ack)
        return True
    if seq_gt(p.ack, rcv.isn) and seq_le(p.ack, rcv.top):
        return True
    if other_isn_acked(f, 1 - s, p.ack):
        choose_isn(f, 1 - s)
        return True
    return False


cdef inline void note_other_isn(Flow *f, int side) noexcept nogil:
    """An end begins anew before establishment: its peer may still answer the first."""
    f.flags &= ~<uint32_t>(FLOW_OTHER_ISN * 3)
    f.flags |= FLOW_OTHER_ISN << side
    f.other_isn = f.h[side].isn


cdef inline bint other_isn_acked(const Flow *f, int side, uint32_t ack) noexcept nogil:
    return (f.flags & FLOW_OTHER_ISN << side and not f.flags & FLOW_ESTABLISHED
            and ack == f.other_isn + 1)


cdef void choose_isn(Flow *f, int side) noexcept nogil:
    """Of two ISNs that one end offered, the other end took the earlier."""
    cdef Half *h = &f.h[side]
    cdef uint32_t isn = f.other_isn
    receive_held(f, side, h.isn + 1)     # data on the SYN that was not taken
    f.other_isn = h.isn
    h.isn = isn
    h.nxt = isn + 1
    h.top = isn + 1


# ---- fifth check: ACK --------------------------------------------------------------------

cdef inline void acknowledge(Half *snd, const Packet *p, uint8_t scale) noexcept nogil:
    snd.flags |= HALF_ACKING | HALF_SEEN     # the fast path never sees an end's first segment
    snd.ack = p.ack
    snd.edge = p.ack + (<uint32_t>p.window << scale)


cdef inline bint ack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """False: the acknowledgement is impossible, the segment is dropped."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    cdef uint32_t edge
    if unlikely(not snd.flags & HALF_ACKING):
        return first_ack(cs, f, p, s)
    if seq_gt(p.ack, snd.ack):
        snd.ack = p.ack
        if unlikely(seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN):
            acked_more(cs, f, 1 - s, p.ack)
    edge = p.ack + (<uint32_t>p.window << snd.scale)
    if seq_gt(edge, snd.edge):
        snd.edge = edge
    return True


cdef bint first_ack(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """The first acknowledgement of an end: it answers the peer's SYN."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_SYNCED:
        infer(f, 1 - s, p.ack)
    elif p.ack != rcv.nxt and other_isn_acked(f, 1 - s, p.ack):
        choose_isn(f, 1 - s)
    elif rcv.flags & HALF_SYN and not seq_gt(p.ack, rcv.isn):
        cs.counters[C_TCP_BAD_ACK] += 1
        return False
    acknowledge(snd, p, snd.scale)
    establish_if_agreed(cs, f)
    if seq_gt(p.ack, rcv.nxt) or rcv.flags & HALF_FIN:
        acked_more(cs, f, 1 - s, p.ack)
    return True


cdef void infer(Flow *f, int side, uint32_t ack) noexcept nogil:
    """Sequence numbers of an end that was not heard yet, from what its peer acknowledges."""
    cdef Half *h = &f.h[side]
    h.isn = ack - 1
    h.nxt = ack
    h.top = ack
    h.scale = ASSUMED_SCALE
    h.flags |= HALF_SYNCED | HALF_INFERRED


cdef void pick_up(Flow *f, const Packet *p, int s) noexcept nogil:
    """An end whose SYN was not seen: its first segment gives the numbers."""
    cdef Half *snd = &f.h[s]
    snd.isn = p.seq - 1
    snd.nxt = p.seq
    snd.top = p.seq
    snd.scale = ASSUMED_SCALE
    snd.flags |= HALF_SYNCED
    if not (f.h[0].flags | f.h[1].flags) & HALF_SYN:
        f.flags |= FLOW_MIDSTREAM


cdef void acked_more(CoreState *cs, Flow *f, int side, uint32_t ack) noexcept nogil:
    """The peer of `side` acknowledges more than was seen, or the end of the stream."""
    cdef Half *h = &f.h[side]
    if not f.flags & FLOW_ESTABLISHED and seq_gt(ack, h.isn + 1):
        establish(cs, f)                 # the same: data acknowledged in front of that ACK
    if seq_gt(ack, h.top):
        h.top = ack
    if seq_gt(ack, h.nxt) and not h.flags & HALF_FIN_DONE:
        receive_acked(cs, f, side, ack)
    if h.flags & HALF_FIN and seq_gt(ack, h.fin):
        fin_acked(cs, f, side)


# ---- establishment -----------------------------------------------------------------------

cdef void establish_if_agreed(CoreState *cs, Flow *f) noexcept nogil:
    if f.flags & FLOW_ESTABLISHED:
        return
    if f.flags & FLOW_MIDSTREAM or f.h[0].flags & f.h[1].flags & HALF_ACKING:
        establish(cs, f)


cdef void establish(CoreState *cs, Flow *f) noexcept nogil:
    cdef int side
    f.flags |= FLOW_ESTABLISHED
    if not (f.h[0].flags | f.h[1].flags) & HALF_FIN:
        f.flags |= FLOW_OPEN
    settle_scaling(f)
    flow_start(cs, f, START_SYN)
    flow_start(cs, f, START_ESTABLISHED)
    receive_release(cs, f, CLIENT)
    receive_release(cs, f, SERVER)
    if cs.start_masks[START_SYN]:
        record_add(cs, f, RECORD_ESTABLISHED, 0)
    for side in range(2):
        if f.h[side].state < TCP_ESTABLISHED:
            set_state(cs, f, side, TCP_ESTABLISHED)
    flow_watch(cs, f)


cdef void settle_scaling(Flow *f) noexcept nogil:
    """Windows are scaled if both SYNs offered it (RFC 7323 section 2.2); of an end whose SYN
    was not seen, nothing is known, and its window is taken for wide."""
    cdef int side
    for side in range(2):
        if f.h[side].flags & HALF_SYN and not f.h[side].flags & HALF_SCALING:
            f.h[0].scale = 0
            f.h[1].scale = 0


# ---- seventh: text; eighth: FIN ----------------------------------------------------------

cdef inline void text_arrives(CoreState *cs, Flow *f, Packet *p, int s,
                              uint32_t seq) noexcept nogil:
    if unlikely(not f.flags & FLOW_ESTABLISHED):
        # One side visible (semantics.md 5); or the handshake's last ACK was lost or is late: who
        # sends data has seen it.
        establish(cs, f)
    receive_text(cs, f, p, s, seq, False)


cdef void fin_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef uint32_t fin = p.seq + p.payload_len
    if snd.flags & HALF_FIN:
        if fin == snd.fin and not p.payload_len:
            retransmitted(cs, f, s)
        return
    if snd.flags & HALF_CLAIMED and snd.fin == snd.nxt and fin + 1 == snd.nxt:
        snd.nxt -= 1            # its peer's ACK of it came first, and it was taken for a byte
        snd.offset -= 1
    if seq_lt(fin, snd.nxt) or (rcv.flags & HALF_ACKING and seq_gt(fin, rcv.edge)):
        cs.counters[C_TCP_OUTSIDE_WINDOW] += 1
        return
    snd.fin = fin
    snd.flags |= HALF_FIN
    receive_held(f, s, fin)     # early bytes beyond it will never be next
    f.flags &= ~<uint32_t>FLOW_OPEN
    if seq_ge(fin, snd.top):
        snd.top = fin + 1
    set_state(cs, f, s, TCP_LAST_ACK if snd.state == TCP_CLOSE_WAIT else TCP_FIN_WAIT_1)
    receive_fin(cs, f, s)
    if rcv.flags & HALF_ACKING and seq_gt(rcv.ack, fin):
        fin_acked(cs, f, s)
    flow_watch(cs, f)


cdef void fin_acked(CoreState *cs, Flow *f, int side) noexcept nogil:
    cdef Half *h = &f.h[side]
    h.flags |= HALF_FIN_ACKED
    if h.state == TCP_FIN_WAIT_1:
        set_state(cs, f, side, TCP_FIN_WAIT_2)
    elif h.state == TCP_CLOSING:
        set_state(cs, f, side, TCP_TIME_WAIT)
    elif h.state == TCP_LAST_ACK:
        set_state(cs, f, side, TCP_CLOSED)


cdef void close_if_done(CoreState *cs, Flow *f) noexcept nogil:
    """Over when both FINs were seen in order and acknowledged."""
    if (f.h[0].flags & f.h[1].flags & HALF_FIN_ACKED
            and f.h[0].flags & f.h[1].flags & HALF_FIN_DONE):
        tcp_close(cs, f, CLOSE_FIN)


cdef void retransmitted(CoreState *cs, Flow *f, int s) noexcept nogil:
    cs.counters[C_TCP_RETRANSMITTED] += 1
    f.retransmissions[s] += 1


# ---- from outside ------------------------------------------------------------------------

cdef void tcp_assume_syn(CoreState *cs, Flow *f, int s, uint32_t isn, uint8_t scale) noexcept nogil:
    cdef Half *h = &f.h[s]
    h.isn = isn
    h.nxt = isn + 1
    h.top = isn + 1
    h.scale = scale
    h.flags |= HALF_SYN | HALF_SYNCED | HALF_SEEN | HALF_SCALING
    set_state(cs, f, s, TCP_SYN_SENT)
    flow_start(cs, f, START_SYN)


cdef void tcp_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil:
    if f.flags & FLOW_CLOSED:
        return
    receive_flush(cs, f, CLIENT)
    receive_flush(cs, f, SERVER)
    if reason == CLOSE_RESET:
        set_state(cs, f, CLIENT, TCP_CLOSED)
        set_state(cs, f, SERVER, TCP_CLOSED)
    flow_close(cs, f, reason)


cdef void tcp_timer(CoreState *cs, Flow *f) noexcept nogil:
    cdef int side
    for side in range(2):
        receive_hole_due(cs, f, side)
    close_if_done(cs, f)
    if flow_expiry(cs, f) <= cs.now:
        # Nothing late is to be expected of a flow that was idle: what comes begins a new one.
        tcp_close(cs, f, CLOSE_TIMEOUT)
        flow_forget(cs, f)
        return
    flow_watch(cs, f)
