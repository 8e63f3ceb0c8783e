"""Extended statistics: who counts what, where the block exists (semantics.md 15).

What every flow counts anyway is in flow.pxd. The rest costs a packet one flag test, and only
where the flag is set more.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.flow cimport FLOW_STATS, Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# Begins to count; without memory the flow goes on without (counted: memory_refused).
cdef void stats_open(CoreState *cs, Flow *f) noexcept nogil
cdef void stats_close(CoreState *cs, Flow *f) noexcept nogil
# A packet of end s has been judged; only where FLOW_STATS is set.
cdef void stats_packet(const CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil

# n bytes of a side were seen before; came early; were given up.
cdef inline void stats_retransmitted(Flow *f, int s, uint32_t n) noexcept nogil:
    if f.flags & FLOW_STATS:
        f.stats.end[s].retransmitted_bytes += n

cdef inline void stats_early(Flow *f, int s, uint32_t n) noexcept nogil:
    if f.flags & FLOW_STATS:
        f.stats.end[s].early_bytes += n
        f.stats.end[s].early_segments += 1

cdef inline void stats_gap(Flow *f, int s, uint32_t n) noexcept nogil:
    if f.flags & FLOW_STATS:
        f.stats.end[s].gap_bytes += n
