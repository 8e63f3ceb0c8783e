"""Timestamps, acknowledgements, windows: the checks, as far as they are not on the fast path."""
from libc.stdint cimport int32_t, uint16_t, uint32_t

from aiomos._engine.assembler cimport asm_first
from aiomos._engine.delivery cimport delivery_shown
from aiomos._engine.events cimport (ANOMALY_BAD_ACK, ANOMALY_OLD_TIMESTAMP,
                                    ANOMALY_RIGHT_OF_WINDOW, ANOMALY_SMALL_SEGMENTS,
                                    EVENT_WINDOW_UPDATE, EVENT_ZERO_WINDOW)
from aiomos._engine.flow cimport (FLOW_CLAIM, FLOW_DOUBT, FLOW_LEARNING, FLOW_PAWS, FLOW_SHOWN,
                                  HALF_ACKING, HALF_AWAY, HALF_FIN, HALF_SEEN, HALF_SYN,
                                  HALF_TIMESTAMPS, Half)
from aiomos._engine.intrinsics cimport unlikely
from aiomos._engine.life cimport flow_since, since_now
from aiomos._engine.limits cimport FIN, RST
from aiomos._engine.overlap cimport DELIVER_ACKED
from aiomos._engine.receive cimport (TEXT_HOLD, receive_held, receive_next, receive_overrun_refused,
                                     receive_text)
from aiomos._engine.seq cimport seq_diff, seq_ge, seq_gt, seq_le
from aiomos._engine.signatures cimport signature_fits
from aiomos._engine.state cimport (C_TCP_BAD_ACK, C_TCP_KEEP_ALIVE, C_TCP_OLD_TIMESTAMP,
                                   C_TCP_OUTSIDE_WINDOW, C_TCP_SMALL, C_TCP_WINDOW_PROBE, anomaly,
                                   event_raise, hook_of, refuse)
from aiomos._engine.stream cimport STREAM_OVERRUN, Stream
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse

cdef enum:
    UNSCALED = 65535          # a window that every SYN can offer
    CLAIMS = FLOW_CLAIM * 3 | FLOW_SHOWN * 3


# ---- timestamps --------------------------------------------------------------------------

cdef bint timestamp_elsewhere(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Segments without the option pass, as they do in Linux (RFC 7323 would drop them)."""
    cdef TcpOptions o
    if p.l4_len > 20:
        tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
        if not signature_fits(cs, f, &o, s):
            return False
        if o.has_timestamp:
            return timestamp_newer(cs, f, p, s, o.ts_value, o.ts_echo)
    if f.flags & FLOW_LEARNING and not p.flags & RST:
        f.flags &= ~<uint32_t>FLOW_LEARNING
    return True


cdef void timestamp_echoed(Flow *f, int side, uint32_t echo) noexcept nogil:
    cdef Half *h = &f.h[side]
    cdef uint32_t newer = echo - h.ts_recent
    if newer <= f.ts_ahead[side]:
        f.ts_ahead[side] -= <uint16_t>newer
    elif f.ts_ahead[side] != 65535:
        return                           # of a timestamp that nobody has seen
    else:
        f.ts_ahead[side] = 0
    h.ts_recent = echo


cdef bint timestamp_odd(CoreState *cs, Flow *f, const Packet *p, int s,
                        uint32_t value) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if not f.flags & FLOW_PAWS:
        learn(f, s, value)
        return True
    if timestamp_stale(cs, f):
        forget_timestamps(f)
        learn(f, s, value)
        return True
    if snd.ts_recent == 0:               # some stacks begin with it, then jump to their clock
        snd.ts_recent = value
        return True
    if not brings_something(f, p, s):
        return p.payload_len != 0        # a repetition, for the steps that tell of those
    if p.flags & RST:                    # may count all the same (closing.pyx)
        anomaly(cs, f, s, ANOMALY_OLD_TIMESTAMP, C_TCP_OLD_TIMESTAMP, value)
    else:
        refuse(cs, f, s, ANOMALY_OLD_TIMESTAMP, C_TCP_OLD_TIMESTAMP, value)
    return False


cdef bint brings_something(const Flow *f, const Packet *p, int s) noexcept nogil:
    """Bytes, a RST, or an acknowledgement that were not known: worth to be refused aloud."""
    return (p.flags & (FIN | RST) or seq_gt(p.ack, f.h[s].ack)
            or seq_gt(p.seq + p.payload_len, f.h[s].nxt))


cdef void learn(Flow *f, int s, uint32_t value) noexcept nogil:
    """Picked up in the middle: enforced once both ends have shown that they use them."""
    cdef Half *snd = &f.h[s]
    if not snd.flags & HALF_TIMESTAMPS or <int32_t>(value - snd.ts_recent) > 0:
        snd.ts_recent = value
    snd.flags |= HALF_TIMESTAMPS
    if f.h[1 - s].flags & HALF_TIMESTAMPS:
        f.flags = (f.flags | FLOW_PAWS) & ~<uint32_t>FLOW_LEARNING


cdef void forget_timestamps(Flow *f) noexcept nogil:
    cdef int side
    f.flags = (f.flags | FLOW_LEARNING) & ~<uint32_t>FLOW_PAWS
    for side in range(2):
        f.h[side].flags &= ~<uint16_t>HALF_TIMESTAMPS


cdef void timestamps_settle(Flow *f) noexcept nogil:
    cdef uint16_t both = f.h[0].flags & f.h[1].flags
    cdef uint16_t unused = 0
    cdef int side
    for side in range(2):
        if f.h[side].flags & HALF_SYN and not f.h[side].flags & HALF_TIMESTAMPS:
            unused = 1
    f.flags &= ~<uint32_t>(FLOW_PAWS | FLOW_LEARNING)
    if both & HALF_TIMESTAMPS:
        f.flags |= FLOW_PAWS
    elif not unused:
        f.flags |= FLOW_LEARNING


# ---- acknowledgement ---------------------------------------------------------------------

cdef inline uint32_t widest(const Half *h) noexcept nogil:
    """The widest window that an end has offered."""
    return max(<uint32_t>h.max_window << h.scale, <uint32_t>UNSCALED)


cdef bint ack_ahead(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Its peer cannot have sent more than one window beyond what it has shown itself."""
    cdef Half *rcv = &f.h[1 - s]
    if seq_le(p.ack, rcv.top) or not rcv.flags & HALF_SEEN:
        return True
    if rcv.flags & HALF_AWAY and f.since >> 24 == rcv.packets & 0xFF:
        return True
    if <uint32_t>seq_diff(p.ack, rcv.top) <= widest(&f.h[s]):
        return True
    if f.flags & FLOW_SHOWN << (1 - s) and near(p.ack, f.claim, widest(&f.h[s])):
        f.flags &= ~<uint32_t>CLAIMS     # it had gone on there, which was beyond its window
        rcv.top = f.claim
        return True
    if out_of_sight(cs, f, p, s):
        return True
    refuse(cs, f, s, ANOMALY_BAD_ACK, C_TCP_BAD_ACK, p.ack - rcv.top)
    return False


cdef inline bint near(uint32_t a, uint32_t b, uint32_t most) noexcept nogil:
    cdef int32_t apart = seq_diff(a, b)
    return -<int32_t>most <= apart <= <int32_t>most


cdef bint out_of_sight(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Remembers the claim. It is believed when the other end confirms it (beyond_window), or
    is not heard for as long as a hole waits on a one-sided flow."""
    cdef Half *rcv = &f.h[1 - s]
    if f.flags & FLOW_DOUBT * 3:         # `since` is in use
        return False
    if f.flags & FLOW_CLAIM << s and f.since >> 24 == rcv.packets & 0xFF:
        f.claim = p.ack
        if flow_since(cs, f) < <uint32_t>(cs.config.one_sided_grace_ns / 1000000):
            return False
        rcv.flags |= HALF_AWAY
        return True
    f.flags = (f.flags & ~<uint32_t>CLAIMS) | FLOW_CLAIM << s
    f.claim = p.ack
    f.since = since_now(cs, rcv.packets)
    rcv.flags &= ~<uint16_t>HALF_AWAY
    return False


cdef bint ack_behind(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Not older than the widest window, nor than the connection."""
    cdef const Half *rcv = &f.h[1 - s]
    cdef uint32_t most = widest(&f.h[s])
    cdef bint young = rcv.flags & HALF_SYN and rcv.offset < most
    if f.h[s].ack - p.ack <= most and not (young and seq_le(p.ack, f.isn[1 - s])):
        return True
    refuse(cs, f, s, ANOMALY_BAD_ACK, C_TCP_BAD_ACK, 0)
    return False


cdef bint ack_first(const Flow *f, const Packet *p, int s) noexcept nogil:
    cdef const Half *rcv = &f.h[1 - s]
    cdef int32_t ahead = seq_diff(p.ack, rcv.top)
    cdef int32_t most = <int32_t>(<uint32_t>UNSCALED << f.h[s].scale)
    if rcv.flags & HALF_SYN and not seq_gt(p.ack, f.isn[1 - s]):
        return False
    return ahead <= most or not rcv.flags & HALF_SEEN


# ---- window ------------------------------------------------------------------------------

cdef bint beyond_window(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """Where the capture missed more than a window, both ends stand beyond it: the one sends from
    about where the other has claimed to be. One end alone cannot bring that about."""
    cdef Half *rcv = &f.h[1 - s]
    if seq_le(p.seq, receive_next(f, s)):
        return True                  # a FIN may stand at the edge: behind it nothing is beyond
    if (f.flags & FLOW_CLAIM << (1 - s) and near(p.seq, f.claim, widest(rcv))
            and seq_gt(f.claim, rcv.ack)):
        f.flags &= ~<uint32_t>CLAIMS
        f.h[s].top = p.seq
        rcv.ack = f.claim
        rcv.edge = f.claim + widest(rcv)
        delivery_shown(cs, f, s)
        return True
    if not f.flags & (FLOW_CLAIM | FLOW_DOUBT) * 3:
        f.flags = (f.flags & ~<uint32_t>CLAIMS) | FLOW_SHOWN << s
        f.claim = p.seq + p.payload_len
    refuse(cs, f, s, ANOMALY_RIGHT_OF_WINDOW, C_TCP_OUTSIDE_WINDOW, p.payload_len)
    return False


cdef void same_ack(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef const Stream *st = f.stream[1 - s]
    if unlikely(st != NULL and st.flags & STREAM_OVERRUN):
        receive_overrun_refused(f, 1 - s)
    if p.window != snd.window:
        event_raise(cs, f, EVENT_WINDOW_UPDATE, s, hook_of(cs, s),
                    <uint32_t>p.window << snd.scale, <uint32_t>snd.window << snd.scale, 0)
    elif p.seq + 1 == snd.nxt and rcv.flags & HALF_ACKING and rcv.ack == snd.nxt:
        count_probe(cs, rcv)


cdef void probe_refused(Flow *f, int side) noexcept nogil:
    """The window opens where it was closed: the byte that probed it was not taken."""
    cdef const Stream *st = f.stream[side]
    if (st != NULL and not st.policy & DELIVER_ACKED and st.n_pieces
            and asm_first(st) == f.h[side].nxt):
        receive_held(f, side, f.h[side].nxt)


cdef inline void count_probe(CoreState *cs, const Half *rcv) noexcept nogil:
    cs.counters[C_TCP_KEEP_ALIVE if rcv.window else C_TCP_WINDOW_PROBE] += 1


cdef void window_closed(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """It closes, or it was closed until now."""
    if p.window != 0:
        probe_refused(f, 1 - s)
    elif f.h[s].window != 0:
        event_raise(cs, f, EVENT_ZERO_WINDOW, s, hook_of(cs, s), 0, 0, 0)


cdef bint small_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_ACKING:
        return True
    if p.payload_len == 1 and probe_arrives(cs, f, p, s):
        return False
    # One at a time is what Nagle's algorithm lets through, and what typing looks like.
    if seq_ge(rcv.ack, snd.top):
        f.small[s] = 0
    elif f.small[s] < SMALL_SEGMENTS:
        f.small[s] += 1
        if f.small[s] == SMALL_SEGMENTS:
            anomaly(cs, f, s, ANOMALY_SMALL_SEGMENTS, C_TCP_SMALL, 0)
    return True


cdef bint probe_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """One byte that is not sent to be received: the last one again, or the one behind a closed
    window. A receiver that has room by then takes the latter: held until it says so."""
    cdef Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    if p.seq + 1 == snd.nxt and rcv.ack == snd.nxt and not snd.flags & HALF_FIN:
        count_probe(cs, rcv)
        return True
    if p.seq == rcv.edge and rcv.window == 0 and p.seq == snd.nxt:
        cs.counters[C_TCP_WINDOW_PROBE] += 1
        receive_text(cs, f, p, s, p.seq, TEXT_HOLD)
        return True
    return False
