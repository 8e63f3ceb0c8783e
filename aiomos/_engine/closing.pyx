"""How a connection ends: RST, FIN, idle time, or from outside.

Names as in tcp.pyx: `s` is the end that sent the segment, `snd` its half, `rcv` its peer's.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.delivery cimport delivery_fin, delivery_flush, delivery_hole_due
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_OPEN, HALF_ACKING, HALF_CLAIMED, HALF_FIN,
                                  HALF_FIN_ACKED, HALF_FIN_DONE, HALF_RST, HALF_SYNCED, Half,
                                  TCP_CLOSE_WAIT, TCP_CLOSED, TCP_CLOSING, TCP_FIN_WAIT_1,
                                  TCP_FIN_WAIT_2, TCP_LAST_ACK, TCP_SYN_SENT, TCP_TIME_WAIT)
from aiomos._engine.life cimport flow_close, flow_expiry, flow_forget, flow_idle, flow_watch
from aiomos._engine.limits cimport ACK, CLIENT, CLOSE_FIN, CLOSE_RESET, CLOSE_TIMEOUT, SERVER
from aiomos._engine.receive cimport receive_held, receive_next
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.state cimport (C_TCP_BAD_RST, C_TCP_OUTSIDE_WINDOW, count_retransmission,
                                   set_state)


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
        return seq_gt(p.ack, f.isn[1 - s]) and seq_le(p.ack, rcv.top)
    if not snd.flags & HALF_SYNCED:
        return not rcv.flags & HALF_SYNCED
    return (p.seq == receive_next(f, s) or p.seq == snd.top
            or (rcv.flags & HALF_ACKING and p.seq == rcv.ack))


cdef void fin_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef uint32_t fin = p.seq + p.payload_len
    if snd.flags & HALF_FIN:
        if fin == f.fin[s] and not p.payload_len:
            count_retransmission(cs, f, s)
        return
    if snd.flags & HALF_CLAIMED and f.fin[s] == snd.nxt and fin + 1 == snd.nxt:
        snd.nxt -= 1            # its peer's ACK of it came first, and it was taken for a byte
        snd.offset -= 1
    if seq_lt(fin, receive_next(f, s)) or (rcv.flags & HALF_ACKING and seq_gt(fin, rcv.edge)):
        cs.counters[C_TCP_OUTSIDE_WINDOW] += 1
        return
    f.fin[s] = fin
    snd.flags |= HALF_FIN
    receive_held(f, s, fin)     # early bytes beyond it will never be next
    f.flags &= ~<uint32_t>FLOW_OPEN
    if seq_ge(fin, snd.top):
        snd.top = fin + 1
    set_state(cs, f, s, TCP_LAST_ACK if snd.state == TCP_CLOSE_WAIT else TCP_FIN_WAIT_1)
    delivery_fin(cs, f, s)
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


cdef void tcp_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil:
    if f.flags & FLOW_CLOSED:
        return
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
    if flow_expiry(cs, f) <= cs.now:
        # Nothing late is to be expected of a flow that was idle: what comes begins a new one.
        tcp_close(cs, f, CLOSE_TIMEOUT)
        flow_forget(cs, f)
        return
    flow_watch(cs, f)
