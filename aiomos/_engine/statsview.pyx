"""From a block of statistics to a dict."""
from libc.stdint cimport uint32_t

from aiomos._engine.flow cimport HALF_SYN
from aiomos._engine.flowstats cimport (STATS_HANDSHAKE, STATS_SACK, STATS_SCALE, STATS_TIMESTAMPS,
                                       STATS_WINDOW, EndStats)
from aiomos._engine.limits cimport PROTO_TCP


cdef dict end_stats(const Flow *f, int side):
    cdef const EndStats *e
    if f.stats == NULL:
        return None
    e = &f.stats.end[side]
    found = {
        "wire_bytes": e.wire_bytes,
        "payload_bytes": e.payload_bytes,
        "retransmitted_bytes": e.retransmitted_bytes,
        "out_of_order": e.early_segments,
        "out_of_order_bytes": e.early_bytes,
        "gap_bytes": e.gap_bytes,
    }
    if f.protocol == PROTO_TCP:
        found.update(rtt_fields(e), **window_fields(e))
    if f.protocol == PROTO_TCP and f.h[side].flags & HALF_SYN:
        found["window_scale"] = e.scale if e.flags & STATS_SCALE else None
        found["sack_permitted"] = bool(e.flags & STATS_SACK)
        found["timestamps"] = bool(e.flags & STATS_TIMESTAMPS)
    return found


cdef dict rtt_fields(const EndStats *e):
    cdef uint32_t n = e.rtt_samples
    found = {"rtt_samples": n}
    if e.flags & STATS_HANDSHAKE:
        found["handshake_rtt"] = e.handshake_ns / 1e9
    if n:
        found.update(rtt_min=e.rtt_min / 1e9, rtt_max=e.rtt_max / 1e9, rtt_last=e.rtt_last / 1e9,
                     rtt_mean=e.rtt_sum / n / 1e9)
    return found


cdef dict window_fields(const EndStats *e):
    if not e.flags & STATS_WINDOW:
        return {}
    return {"window_min": e.window_min, "window_max": e.window_max,
            "zero_windows": e.zero_windows}
