"""How a connection begins: SYN, SYN-ACK, first acknowledgement, mid-stream, establishment.

Names as in tcp.pyx: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's.
"""
from libc.stdint cimport uint16_t, uint32_t

from aiomos._engine.checks cimport ack_first, timestamps_settle
from aiomos._engine.direction cimport direction_guess, direction_shown
from aiomos._engine.events cimport (ANOMALY_BAD_ACK, ANOMALY_CHALLENGED_SYN, ANOMALY_INVALID_FLAGS,
                                    ANOMALY_MALFORMED_OPTIONS, DIFFERS_NO, EVENT_ANOMALY,
                                    EVENT_ESTABLISHED, EVENT_RETRANSMISSION, HOOK_RECEIVER)
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_EVENTS, FLOW_MIDSTREAM,
                                  FLOW_NO_SACK, FLOW_OPEN, FLOW_REUSE_SYN,
                                  HALF_ACKING, HALF_FIN, HALF_INFERRED, HALF_SCALING, HALF_SEEN,
                                  HALF_SIGNED, HALF_SYN, HALF_SYNCED, HALF_TIMESTAMPS, Half,
                                  TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_RECEIVED, TCP_SYN_SENT)
from aiomos._engine.life cimport flow_established, flow_keep, flow_start, flow_watch
from aiomos._engine.limits cimport ACK, CLIENT, RST, SERVER, SYN
from aiomos._engine.offers cimport (assumed_scale, offer_chosen, offer_in, offer_infer, offer_leave,
                                    offer_note, offer_recalled, offer_take)
from aiomos._engine.receive cimport TEXT_HOLD, receive_held, receive_release, receive_text
from aiomos._engine.seq cimport seq_gt, seq_le
from aiomos._engine.state cimport (C_MIDSTREAM, C_TCP_BAD_ACK, C_TCP_BAD_FLAGS,
                                   C_TCP_CHALLENGED_SYN, C_TCP_OPTIONS, MIDSTREAM_PASS,
                                   RECORD_ESTABLISHED, START_ESTABLISHED, START_SYN, anomaly,
                                   count_retransmission, event_raise, hook_of, record_add, refuse,
                                   set_state)
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse


# ---- which segments begin a flow ---------------------------------------------------------

cdef int tcp_may_open(CoreState *cs, const Packet *p) noexcept nogil:
    if bad_flags(p.flags):
        cs.counters[C_TCP_BAD_FLAGS] += 1
        event_raise(cs, NULL, EVENT_ANOMALY, 0, HOOK_RECEIVER, ANOMALY_INVALID_FLAGS, p.flags, 0)
        return -1
    if p.flags & SYN:
        return SERVER if p.flags & ACK else CLIENT
    if p.flags & RST or not p.flags & ACK or not cs.config.midstream:
        return -1
    return direction_guess(p)


cdef int another_connection(Flow *f, const Packet *p, int s) noexcept nogil:
    """A SYN with another ISN on a tuple whose connection is over, or the SYN-ACK to one on a
    live connection: its receiver has forgotten that (semantics.md 12)."""
    if not p.flags & SYN or bad_flags(p.flags):
        return TCP_DONE
    if p.flags & ACK:
        if f.flags & (FLOW_ESTABLISHED | FLOW_REUSE_SYN | FLOW_CLOSED) == (
                FLOW_ESTABLISHED | FLOW_REUSE_SYN) and p.ack == f.other_isn + 1:
            return TCP_REOPEN_ANSWERED
        return TCP_DONE
    if f.flags & FLOW_CLOSED:
        return TCP_DONE if f.h[s].flags & HALF_SYN and p.seq == f.isn[s] else TCP_REOPEN
    return TCP_DONE


# ---- fourth check: SYN -------------------------------------------------------------------

cdef void syn_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if snd.flags & HALF_SYN and p.seq == f.isn[s]:
        syn_again(cs, f, s)
        return
    if f.flags & FLOW_ESTABLISHED:
        if not turned_round(cs, f, p, s):
            challenge(cs, f, p, s)
        return
    if snd.flags & HALF_SYN:
        if f.h[1 - s].flags & HALF_ACKING:
            challenge(cs, f, p, s)       # the one before was answered
            return
        offer_leave(f, s, p.seq)
        receive_held(f, s, f.isn[s] + 1)
    adopt_syn(cs, f, p, s)
    if f.h[1 - s].flags & HALF_SYN:      # simultaneous open (RFC 9293 figure 7)
        set_state(cs, f, s, TCP_SYN_RECEIVED)
    else:
        set_state(cs, f, s, TCP_SYN_SENT)
        set_state(cs, f, 1 - s, TCP_LISTEN)
    set_state(cs, f, 1 - s, TCP_SYN_RECEIVED)
    flow_start(cs, f, START_SYN)
    flow_watch(cs, f)


cdef void syn_again(CoreState *cs, Flow *f, int s) noexcept nogil:
    count_retransmission(cs, f, s)
    event_raise(cs, f, EVENT_RETRANSMISSION, s, hook_of(cs, s), 0, 0, DIFFERS_NO)


cdef void challenge(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """RFC 5961 section 4: the receiver answers with an ACK; only if it then sends a SYN-ACK for
    this ISN has it forgotten the old connection, or the SYN that it had answered."""
    cdef TcpOptions o
    refuse(cs, f, s, ANOMALY_CHALLENGED_SYN, C_TCP_CHALLENGED_SYN, p.seq)
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    offer_note(f, s, p.seq, offer_in(&o, cs.config.signatures))
    if f.flags & FLOW_ESTABLISHED:
        f.flags |= FLOW_REUSE_SYN


cdef bint turned_round(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """The capture gave the handshake in another order: the SYN of an end picked up before it.

    Later than captures do that, or of an end that has gone on, it is nobody's: its options would
    decide how all is judged that follows (docs/decisions/0050).
    """
    cdef const Half *snd = &f.h[s]
    if snd.flags & HALF_SYN or not snd.flags & HALF_SYNCED or f.isn[s] != p.seq:
        return False
    if snd.flags & HALF_ACKING and cs.now - f.born_ns > cs.config.reorder_grace_ns:
        return False
    direction_shown(cs, f, p, s)
    adopt_options(cs, f, p, s)
    settle_scaling(f)
    return True


cdef void adopt_syn(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Sequence numbers and options of a SYN or SYN-ACK."""
    cdef Half *snd = &f.h[s]
    if not (snd.flags & HALF_SYNCED and f.isn[s] == p.seq):
        f.isn[s] = p.seq
        snd.nxt = p.seq + 1
        snd.top = snd.nxt
        snd.offset = 0
    adopt_options(cs, f, p, s)
    if p.payload_cap and not p.flags & ACK:
        hold_syn_data(cs, f, p, s)


cdef void adopt_options(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef TcpOptions o
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    snd.flags = (snd.flags | HALF_SYN | HALF_SYNCED) & ~<uint16_t>HALF_INFERRED
    offer_take(snd, offer_in(&o, cs.config.signatures))
    if snd.flags & HALF_TIMESTAMPS:
        snd.ts_recent = o.ts_value
    if snd.flags & HALF_SIGNED:
        f.flags &= ~<uint32_t>FLOW_OPEN  # the fast path does not look for what is not there
    if o.malformed:
        anomaly(cs, f, s, ANOMALY_MALFORMED_OPTIONS, C_TCP_OPTIONS, 0)
    f.mss[s] = o.mss
    if not o.sack_permitted:
        f.flags |= FLOW_NO_SACK


cdef void hold_syn_data(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Data on a SYN (RFC 7413) counts if the SYN-ACK acknowledges it: kept early until then."""
    cdef Half *snd = &f.h[s]
    flow_keep(cs, f, s)
    if f.stream[s] != NULL:
        receive_text(cs, f, p, s, snd.nxt, TEXT_HOLD)
    if seq_gt(snd.nxt + p.payload_len, snd.top):
        snd.top = snd.nxt + p.payload_len


cdef void synack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if f.flags & FLOW_ESTABLISHED:
        if snd.flags & HALF_SYN and p.seq == f.isn[s]:
            syn_again(cs, f, s)
        elif not turned_round(cs, f, p, s):
            refuse(cs, f, s, ANOMALY_CHALLENGED_SYN, C_TCP_CHALLENGED_SYN, p.seq)
        return
    if not synack_acceptable(f, p, s):
        refuse(cs, f, s, ANOMALY_BAD_ACK, C_TCP_BAD_ACK, 0)
        return
    if snd.flags & HALF_SYN and f.isn[s] != p.seq:
        offer_leave(f, s, p.seq)         # several SYN-ACKs: the client's ACK chooses
    adopt_syn(cs, f, p, s)
    acknowledge(snd, p, 0)
    if p.ack == f.isn[1 - s] + 1:
        receive_held(f, 1 - s, p.ack)    # data on the SYN was not taken
    set_state(cs, f, s, TCP_SYN_RECEIVED)
    if rcv.state != TCP_ESTABLISHED:
        set_state(cs, f, 1 - s, TCP_ESTABLISHED)
    flow_start(cs, f, START_SYN)
    flow_watch(cs, f)
    establish_if_agreed(cs, f)


cdef bint synack_acceptable(Flow *f, const Packet *p, int s) noexcept nogil:
    """Whether it answers a SYN of its peer; the ISN that it confirms is the peer's from now."""
    cdef Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_SYNCED:
        offer_infer(f, 1 - s, p.ack)
        return True
    if seq_gt(p.ack, f.isn[1 - s]) and seq_le(p.ack, rcv.top):
        return True
    return offer_chosen(f, 1 - s, p.ack) or offer_recalled(f, 1 - s, p.ack)


# ---- first acknowledgement ---------------------------------------------------------------

cdef inline void acknowledge(Half *snd, const Packet *p, uint8_t scale) noexcept nogil:
    snd.flags |= HALF_ACKING | HALF_SEEN     # the fast path never sees an end's first segment
    snd.ack = p.ack
    snd.window = p.window
    snd.edge = p.ack + (<uint32_t>p.window << scale)


cdef bint first_ack(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """The first acknowledgement of an end: it answers the peer's SYN."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_SYNCED:
        offer_infer(f, 1 - s, p.ack)
    elif (p.ack != rcv.nxt and not offer_chosen(f, 1 - s, p.ack)
            and not offer_recalled(f, 1 - s, p.ack) and not ack_first(f, p, s)):
        refuse(cs, f, s, ANOMALY_BAD_ACK, C_TCP_BAD_ACK, 0)
        return False
    acknowledge(snd, p, snd.scale)
    establish_if_agreed(cs, f)
    return True


cdef void pick_up(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """An end whose SYN was not seen: its first segment gives the numbers."""
    cdef Half *snd = &f.h[s]
    f.isn[s] = p.seq - 1
    snd.nxt = p.seq
    snd.top = p.seq
    snd.scale = assumed_scale()
    snd.flags |= HALF_SYNCED
    if not (f.h[0].flags | f.h[1].flags) & HALF_SYN:
        if not f.flags & FLOW_MIDSTREAM:
            f.flags |= FLOW_MIDSTREAM
            cs.counters[C_MIDSTREAM] += 1
        if cs.config.midstream == MIDSTREAM_PASS:
            f.waiting = 0


# ---- establishment -----------------------------------------------------------------------

cdef void establish_if_agreed(CoreState *cs, Flow *f) noexcept nogil:
    if f.flags & FLOW_ESTABLISHED:
        return
    if f.flags & FLOW_MIDSTREAM or f.h[0].flags & f.h[1].flags & HALF_ACKING:
        establish(cs, f)


cdef void establish(CoreState *cs, Flow *f) noexcept nogil:
    cdef int side
    f.flags |= FLOW_ESTABLISHED
    if not (f.h[0].flags | f.h[1].flags) & (HALF_FIN | HALF_SIGNED):
        f.flags |= FLOW_OPEN
    settle_scaling(f)
    timestamps_settle(f)
    for side in range(2):
        if f.h[side].state < TCP_ESTABLISHED:
            set_state(cs, f, side, TCP_ESTABLISHED)
    event_raise(cs, f, EVENT_ESTABLISHED, 1 - cs.talker, hook_of(cs, 1 - cs.talker), 0, 0, 0)
    flow_start(cs, f, START_SYN)
    flow_start(cs, f, START_ESTABLISHED)
    receive_release(cs, f, CLIENT)
    receive_release(cs, f, SERVER)
    if cs.start_masks[START_SYN] or f.flags & FLOW_EVENTS:
        record_add(cs, f, RECORD_ESTABLISHED, 0)
    flow_established(cs, f)


cdef void settle_scaling(Flow *f) noexcept nogil:
    """Windows are scaled if both SYNs offered it (RFC 7323 section 2.2); of an end whose SYN
    was not seen, nothing is known, and its window is taken for wide."""
    cdef int side
    for side in range(2):
        if f.h[side].flags & HALF_SYN and not f.h[side].flags & HALF_SCALING:
            f.h[0].scale = 0
            f.h[1].scale = 0


cdef void tcp_assume_syn(CoreState *cs, Flow *f, int s, uint32_t isn, uint8_t offer) noexcept nogil:
    cdef Half *h = &f.h[s]
    offer_infer(f, s, isn + 1)
    offer_take(h, offer)
    h.flags = (h.flags | HALF_SYN | HALF_SEEN) & ~<uint16_t>HALF_INFERRED
    set_state(cs, f, s, TCP_SYN_SENT)
    flow_start(cs, f, START_SYN)
