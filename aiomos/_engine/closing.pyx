"""How a connection ends: RST, FIN, idle time, or from outside.

Names as in tcp.pyx: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.assembler cimport asm_end
from aiomos._engine.delivery cimport (delivery_fin, delivery_flush, delivery_hole_due,
                                      delivery_shown)
from aiomos._engine.events cimport (ANOMALY_BAD_RESET, ANOMALY_INVALID_FLAGS,
                                    ANOMALY_RIGHT_OF_WINDOW, DIFFERS_NO, EVENT_FIN, EVENT_RESET,
                                    EVENT_RETRANSMISSION)
from aiomos._engine.flow cimport (FLOW_CLAIM, FLOW_CLOSED, FLOW_DOUBT, FLOW_NO_SACK, FLOW_OPEN,
                                  FLOW_SHOWN, HALF_ACKING, HALF_CLAIMED, HALF_FIN, HALF_FIN_ACKED,
                                  HALF_FIN_DONE, HALF_RST, HALF_SYN, HALF_SYNCED, Half, TCP_CLOSED,
                                  TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT_1,
                                  TCP_FIN_WAIT_2, TCP_LAST_ACK, TCP_SYN_SENT, TCP_TIME_WAIT)
from aiomos._engine.handshake cimport bad_flags
from aiomos._engine.life cimport (flow_close, flow_doubt_ripe, flow_expiry, flow_forget,
                                  flow_idle, flow_reopen, flow_watch, since_now)
from aiomos._engine.limits cimport ACK, CLIENT, CLOSE_FIN, CLOSE_RESET, CLOSE_TIMEOUT, SERVER
from aiomos._engine.receive cimport receive_next
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.state cimport (C_TCP_BAD_FLAGS, C_TCP_BAD_RST, C_TCP_OUTSIDE_WINDOW, anomaly,
                                   count_retransmission, event_raise, hook_of, refuse, set_state)
from aiomos._engine.stream cimport Stream
from aiomos._engine.targets cimport target_linux


# ---- second check: RST (RFC 5961 section 3.2) --------------------------------------------

cdef enum:
    CLAIMS = FLOW_CLAIM * 3 | FLOW_SHOWN * 3

cdef enum:
    RST_INVALID = 0
    RST_EXACT = 1
    RST_DOUBTFUL = 2


cdef void rst_arrives(CoreState *cs, Flow *f, Packet *p, int s, bint timely) noexcept nogil:
    cdef int judged = judge_rst(f, p, s)
    if bad_flags(p.flags):
        anomaly(cs, f, s, ANOMALY_INVALID_FLAGS, C_TCP_BAD_FLAGS, p.flags)
        timely = False
    if judged == RST_EXACT and not timely and not target_linux(f, s):
        judged = RST_DOUBTFUL            # RFC 9293 and 7323 take it; many a host or filter does not
    f.h[s].flags |= HALF_RST
    event_raise(cs, f, EVENT_RESET, s, hook_of(cs, s), judged == RST_EXACT, 0, 0)
    if judged == RST_EXACT:
        tcp_close(cs, f, CLOSE_RESET)
    elif judged == RST_DOUBTFUL:
        doubt(cs, f, s)
    else:
        refuse(cs, f, s, ANOMALY_BAD_RESET, C_TCP_BAD_RST, 0)


cdef int judge_rst(const Flow *f, const Packet *p, int s) noexcept nogil:
    """Exactly the next number, or in SYN-SENT an acknowledgement of the SYN; anywhere else in
    the window it would be challenged, and the connection lives.

    The next number lies between what the receiver has acknowledged and the end of all that
    the tap has seen; where these differ, a RST at one of them may have been exact or not.
    """
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef bint acking = rcv.flags & HALF_ACKING != 0
    cdef uint32_t expected = receive_next(f, s)
    if rcv.state == TCP_SYN_SENT and p.flags & ACK:
        return seq_gt(p.ack, f.isn[1 - s]) and seq_le(p.ack, rcv.top)
    if not snd.flags & HALF_SYNCED:
        return not rcv.flags & HALF_SYNCED
    if acking and seq_gt(rcv.ack, expected):
        expected = rcv.ack
    if p.seq == expected:
        return RST_EXACT
    if at_fin(f, p, s) or at_sacked(f, p, s):
        return RST_EXACT if target_linux(f, s) else RST_DOUBTFUL
    if p.seq == snd.top:
        return RST_INVALID if seen_to_challenge(f, s) else RST_DOUBTFUL
    if p.seq == receive_next(f, s) or acking and p.seq == rcv.ack:
        return RST_DOUBTFUL
    return RST_INVALID


cdef inline bint handshake_seen(const Flow *f) noexcept nogil:
    return f.h[0].flags & f.h[1].flags & HALF_SYN


cdef inline bint seen_to_challenge(const Flow *f, int s) noexcept nogil:
    """A Linux that was heard from its SYN on takes nothing else above a hole."""
    return target_linux(f, s) and handshake_seen(f)


cdef bint at_fin(const Flow *f, const Packet *p, int s) noexcept nogil:
    """macOS sends it so, behind its FIN (Linux: tcp_reset_check)."""
    cdef uint8_t state = f.h[1 - s].state
    return (f.h[s].flags & HALF_FIN_DONE and p.seq == f.fin[s]
            and (state == TCP_CLOSE_WAIT or state == TCP_LAST_ACK or state == TCP_CLOSING))


cdef bint at_sacked(const Flow *f, const Packet *p, int s) noexcept nogil:
    """The end of all that the receiver has above a hole, and has told by SACK (Linux, since RFC
    5961's authors left it open)."""
    cdef const Stream *st = f.stream[s]
    return (handshake_seen(f) and not f.flags & FLOW_NO_SACK and st != NULL and st.n_pieces != 0
            and p.seq == asm_end(st))


cdef void doubt(CoreState *cs, Flow *f, int s) noexcept nogil:
    """A receiver that goes on acknowledging has not been reset (rst_disproved)."""
    if f.flags & FLOW_DOUBT * 3:
        return
    f.flags = (f.flags | FLOW_DOUBT << s) & ~<uint32_t>(FLOW_OPEN | CLAIMS)
    f.since = since_now(cs, 0)
    flow_watch(cs, f)


cdef void rst_disproved(CoreState *cs, Flow *f, int s) noexcept nogil:
    f.flags &= ~<uint32_t>(FLOW_DOUBT * 3)
    anomaly(cs, f, s, ANOMALY_BAD_RESET, C_TCP_BAD_RST, 0)
    flow_reopen(f)


# ---- eighth: FIN -------------------------------------------------------------------------

cdef bint fin_sent(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef uint32_t fin = p.seq + p.payload_len
    if snd.flags & HALF_FIN and fin == f.fin[s]:
        if not p.payload_len:
            fin_again(cs, f, s)
        return p.payload_len and not snd.flags & HALF_FIN_DONE
    if snd.flags & HALF_FIN_DONE:
        return False
    if was_acked_first(f, s, fin):
        snd.nxt -= 1            # and taken for a byte
        snd.offset -= 1
    if seq_lt(fin, receive_next(f, s)) or (rcv.flags & HALF_ACKING and seq_gt(fin, rcv.edge)):
        refuse(cs, f, s, ANOMALY_RIGHT_OF_WINDOW, C_TCP_OUTSIDE_WINDOW, 0)
        return False
    tell_fin(cs, f, s, fin)
    return True


cdef inline bint was_acked_first(const Flow *f, int s, uint32_t fin) noexcept nogil:
    """Its peer's ACK of it came before it. Where its peer or its own side went on behind it, it
    was a byte: readers have been told so, and none that comes may stand in its place."""
    cdef const Half *snd = &f.h[s]
    cdef const Stream *st = f.stream[s]
    return (snd.flags & HALF_CLAIMED and f.fin[s] == snd.nxt and fin + 1 == snd.nxt
            and not seq_gt(f.h[1 - s].ack, snd.nxt) and (st == NULL or not st.n_pieces))


cdef void tell_fin(CoreState *cs, Flow *f, int s, uint32_t fin) noexcept nogil:
    """The sender's stack: it has closed. A second one at another place changes no state."""
    cdef Half *snd = &f.h[s]
    if seq_ge(fin, snd.top):
        snd.top = fin + 1
    event_raise(cs, f, EVENT_FIN, s, hook_of(cs, s), snd.offset + (fin - snd.nxt), 0, 0)
    if snd.state == TCP_CLOSE_WAIT:
        set_state(cs, f, s, TCP_LAST_ACK)
    elif snd.state <= TCP_ESTABLISHED:
        set_state(cs, f, s, TCP_FIN_WAIT_1)


cdef void fin_received(CoreState *cs, Flow *f, int s) noexcept nogil:
    """Once all before the FIN is there; and its peer may have acknowledged it."""
    delivery_shown(cs, f, s)
    delivery_fin(cs, f, s)
    fin_acked(cs, f, s)
    flow_watch(cs, f)


cdef void fin_again(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef uint32_t ahead = 0 if f.h[s].flags & HALF_FIN_DONE else f.fin[s] - f.h[s].nxt
    count_retransmission(cs, f, s)
    event_raise(cs, f, EVENT_RETRANSMISSION, s, hook_of(cs, s), f.h[s].offset + ahead, 0,
                DIFFERS_NO)


cdef void fin_acked(CoreState *cs, Flow *f, int side) noexcept nogil:
    cdef Half *h = &f.h[side]
    cdef const Half *peer = &f.h[1 - side]
    if h.flags & (HALF_FIN_DONE | HALF_FIN_ACKED) != HALF_FIN_DONE:
        return
    if not peer.flags & HALF_ACKING or not seq_gt(peer.ack, f.fin[side]):
        return
    h.flags |= HALF_FIN_ACKED
    if h.state == TCP_FIN_WAIT_1:
        set_state(cs, f, side, TCP_FIN_WAIT_2)
    elif h.state == TCP_CLOSING:
        set_state(cs, f, side, TCP_TIME_WAIT)
    elif h.state == TCP_LAST_ACK:
        set_state(cs, f, side, TCP_CLOSED)


cdef void close_if_done(CoreState *cs, Flow *f) noexcept nogil:
    """Over when both FINs were seen in order and acknowledged; a gap may have led to one."""
    fin_acked(cs, f, CLIENT)
    fin_acked(cs, f, SERVER)
    if (f.h[0].flags & f.h[1].flags & HALF_FIN_ACKED
            and f.h[0].flags & f.h[1].flags & HALF_FIN_DONE):
        tcp_close(cs, f, CLOSE_FIN)


# ---- from outside ------------------------------------------------------------------------

cdef void tcp_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil:
    if f.flags & FLOW_CLOSED:
        return
    if f.flags & FLOW_DOUBT * 3:     # nobody has spoken against it
        reason = CLOSE_RESET
    delivery_flush(cs, f, CLIENT)
    delivery_flush(cs, f, SERVER)
    if reason == CLOSE_RESET:
        set_state(cs, f, CLIENT, TCP_CLOSED)
        set_state(cs, f, SERVER, TCP_CLOSED)
    flow_close(cs, f, reason)


cdef void tcp_timer(CoreState *cs, Flow *f) noexcept nogil:
    cdef int side
    flow_idle(cs, f)
    for side in range(2):
        delivery_hole_due(cs, f, side)
    close_if_done(cs, f)
    if f.flags & FLOW_DOUBT * 3 and flow_doubt_ripe(cs, f):
        tcp_close(cs, f, CLOSE_RESET)
    if flow_expiry(cs, f) <= cs.now:
        # Nothing late is to be expected of a flow that was idle: what comes begins a new one.
        tcp_close(cs, f, CLOSE_TIMEOUT)
        flow_forget(cs, f)
        return
    flow_watch(cs, f)
