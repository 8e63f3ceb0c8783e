"""Bytes, windows and round-trip times of each end."""
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos._engine.flow cimport HALF_SYN
from aiomos._engine.flowstats cimport (STATS_ECHO_DUE, STATS_HANDSHAKE, STATS_SACK, STATS_SCALE,
                                       STATS_SYN, STATS_SYN_AGAIN, STATS_TIMED, STATS_TIMESTAMPS,
                                       STATS_WINDOW, EndStats, FlowStats)
from aiomos._engine.limits cimport ACK, PROTO_TCP, RST, SYN
from aiomos._engine.pool cimport MEM_STATS, pool_get_as, pool_put_as
from aiomos._engine.seq cimport seq_gt
from aiomos._engine.state cimport C_MEMORY
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse


cdef void stats_open(CoreState *cs, Flow *f) noexcept nogil:
    cdef uint32_t got = 0
    cdef FlowStats *st = <FlowStats *>pool_get_as(&cs.pool, MEM_STATS, sizeof(FlowStats), &got)
    if st == NULL:
        cs.counters[C_MEMORY] += 1
        return
    memset(st, 0, sizeof(FlowStats))
    st.room = got
    f.stats = st
    f.flags |= FLOW_STATS


cdef void stats_close(CoreState *cs, Flow *f) noexcept nogil:
    if f.stats == NULL:
        return
    f.flags &= ~<uint32_t>FLOW_STATS
    pool_put_as(&cs.pool, MEM_STATS, f.stats, f.stats.room)
    f.stats = NULL


cdef void stats_packet(const CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    cdef EndStats *e = &f.stats.end[s]
    cdef TcpOptions o
    e.wire_bytes += p.frame.wire_len
    e.payload_bytes += p.payload_len
    if p.protocol != PROTO_TCP or p.flags & RST:
        return
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    if p.flags & SYN:
        syn_passes(e, &o)
    elif p.flags & ACK:
        window_moves(e, window_of(f, p, s))
    handshake_time(cs, f, p, s)
    if o.has_timestamp:
        echo_comes(cs, e, &f.stats.end[1 - s], p, &o)


cdef void syn_passes(EndStats *e, const TcpOptions *o) noexcept nogil:
    """What this end offers; a SYN is never scaled, so its window is not counted."""
    e.scale = o.window_scale
    if o.has_window_scale:
        e.flags |= STATS_SCALE
    if o.has_timestamp:
        e.flags |= STATS_TIMESTAMPS
    if o.sack_permitted:
        e.flags |= STATS_SACK


# ---- windows -----------------------------------------------------------------------------

cdef inline uint32_t window_of(const Flow *f, const Packet *p, int s) noexcept nogil:
    """Scaled as far as the handshake told how (RFC 7323 section 2.3)."""
    if f.h[0].flags & f.h[1].flags & HALF_SYN:
        return <uint32_t>p.window << f.h[s].scale
    return p.window


cdef void window_moves(EndStats *e, uint32_t window) noexcept nogil:
    if not e.flags & STATS_WINDOW:
        e.flags |= STATS_WINDOW
        e.window_min = window
        e.window_max = window
        e.zero_windows += window == 0
    elif window == 0 and e.window_last:
        e.zero_windows += 1
    e.window_min = min(e.window_min, window)
    e.window_max = max(e.window_max, window)
    e.window_last = window


# ---- round-trip times --------------------------------------------------------------------

cdef void handshake_time(const CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    """From a SYN to the first segment that acknowledges it. Of a SYN that passed twice it is
    not known which was answered (Karn): no time."""
    cdef EndStats *e = &f.stats.end[s]
    cdef EndStats *peer = &f.stats.end[1 - s]
    if p.flags & ACK and peer.flags & STATS_SYN and not e.flags & STATS_HANDSHAKE:
        if not peer.flags & STATS_SYN_AGAIN:
            e.handshake_ns = cs.now - peer.syn_ns
            e.flags |= STATS_HANDSHAKE
        peer.flags &= ~<uint16_t>STATS_SYN        # later acknowledgements answer something else
    if p.flags & SYN:
        if e.flags & STATS_SYN:
            e.flags |= STATS_SYN_AGAIN
        e.flags |= STATS_SYN
        e.syn_ns = cs.now


cdef void echo_comes(const CoreState *cs, EndStats *e, EndStats *peer, const Packet *p,
                     const TcpOptions *o) noexcept nogil:
    """RFC 7323 section 4: an end echoes the timestamp of the segment that it acknowledges. One
    timestamp waits at a time, of a segment that demands an answer; so the time is that from
    here to this end and back, its delay of acknowledgements included."""
    if p.flags & ACK and peer.flags & STATS_ECHO_DUE:
        if o.ts_echo == peer.ts_value:
            add_sample(e, cs.now - peer.ts_ns)
        if not seq_gt(peer.ts_value, o.ts_echo):  # answered, or passed over
            peer.flags &= ~<uint16_t>STATS_ECHO_DUE
    if e.flags & STATS_TIMED and not seq_gt(o.ts_value, e.ts_newest):
        return                       # its first segment was another: when that passed is not kept
    e.flags |= STATS_TIMED
    e.ts_newest = o.ts_value
    if p.payload_len and not e.flags & STATS_ECHO_DUE:
        e.flags |= STATS_ECHO_DUE
        e.ts_value = o.ts_value
        e.ts_ns = cs.now


cdef void add_sample(EndStats *e, int64_t ns) noexcept nogil:
    if e.rtt_samples == 0 or ns < e.rtt_min:
        e.rtt_min = ns
    e.rtt_max = max(e.rtt_max, ns)
    e.rtt_last = ns
    e.rtt_sum += ns
    e.rtt_samples += 1
