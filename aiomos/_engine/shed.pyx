"""Full tables and short memory."""
from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.closing cimport tcp_close
from aiomos._engine.defrag cimport defrag_shed
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_DATA, FLOW_UNLINKED, Flow, LIST_CLOSED,
                                  LIST_EMBRYONIC, LIST_OPEN, LIST_UNPROVEN)
from aiomos._engine.flowtable cimport LISTED_SHIFT, FlowTable, table_first, table_list
from aiomos._engine.life cimport flow_forget, flow_tell
from aiomos._engine.limits cimport CLOSE_EVICTED, PROTO_TCP, SYN
from aiomos._engine.pool cimport pool_held, pool_trim
from aiomos._engine.receive cimport receive_held
from aiomos._engine.state cimport (C_EMBRYONIC_FULL, C_EVICTED_EMBRYONIC, C_EVICTED_IDLE,
                                   C_EVICTED_LINGERING, C_MEMORY_FULL, C_SHED_EARLY,
                                   C_SHED_FRAGMENTS, C_SHED_HISTORY, C_SHED_READERS, C_TABLE_FULL,
                                   records_full)
from aiomos._engine.stream cimport Stream, stream_forget, stream_shed


# ---- a flow is given up ------------------------------------------------------------------

cdef void evict(CoreState *cs, Flow *f, int counter) noexcept nogil:
    """Ends a flow for the sake of others. The packet at hand, if any, is none of its own."""
    packet = cs.packet
    cs.packet = NULL
    cs.counters[counter] += 1
    tcp_close(cs, f, CLOSE_EVICTED)
    flow_forget(cs, f)
    cs.packet = packet


cdef inline bint is_idle(const CoreState *cs, const Flow *f) noexcept nogil:
    return cs.now - f.last_ns >= cs.config.evict_idle_ns


cdef inline bint unproven(const Flow *f) noexcept nogil:
    """Nothing speaks for a conversation: no data, or one end never seen. What floods consist of."""
    if f.h[0].packets == 0 or f.h[1].packets == 0:
        return True
    return f.protocol == PROTO_TCP and not f.flags & FLOW_DATA


cdef inline bint had_packets(const Flow *f) noexcept nogil:
    """Since it was put at the end of its list."""
    return <uint32_t>(f.last_ns >> LISTED_SHIFT) > f.listed


cdef inline bint crowded(const CoreState *cs, int which) noexcept nogil:
    """So many of a kind that they are the flood themselves: idle or not, the oldest goes."""
    return <uint64_t>cs.table.lists[which].count * SHED_CROWD > cs.config.max_flows


cdef Flow *idle_unproven(CoreState *cs) noexcept nogil:
    """The first that is idle and has still nothing to show. Who has, is moved to the list of open
    flows by who looks here, once, and not by its packets."""
    cdef FlowTable *t = &cs.table
    cdef Flow *f
    cdef uint32_t looks = 0
    for _ in range(min(t.lists[LIST_UNPROVEN].count, <uint32_t>SHED_PROMOTIONS)):
        f = table_first(t, LIST_UNPROVEN)
        if not unproven(f):
            table_list(t, f, LIST_OPEN)
            continue
        if is_idle(cs, f) or crowded(cs, LIST_UNPROVEN):
            return f
        table_list(t, f, LIST_UNPROVEN)
        looks += 1
        if looks == SHED_LOOKS:
            break
    return NULL


cdef Flow *idle_open(CoreState *cs) noexcept nogil:
    """Second chance: who had packets since it was put on the list goes to its end again, so that
    a packet moves nothing. Of a few that had none, the one that is idle for longest."""
    cdef FlowTable *t = &cs.table
    cdef Flow *f
    cdef Flow *oldest = NULL
    cdef uint32_t following = t.lists[LIST_OPEN].first, candidates = 0
    for _ in range(min(t.lists[LIST_OPEN].count, <uint32_t>SHED_LOOKS)):
        f = &t.flows[following]
        following = f.list_next
        if had_packets(f):
            table_list(t, f, LIST_OPEN)
        elif is_idle(cs, f):
            if oldest == NULL or f.last_ns < oldest.last_ns:
                oldest = f
            candidates += 1
            if candidates == SHED_CANDIDATES:
                break
    return oldest


cdef inline Flow *idle_flow(CoreState *cs) noexcept nogil:
    cdef Flow *f = idle_unproven(cs)
    return f if f != NULL else idle_open(cs)


# ---- the table is full -------------------------------------------------------------------

cdef bint room_in_table(CoreState *cs) noexcept nogil:
    """Entries of closed flows first: they only keep late packets apart. Then a handshake that
    got no answer, an idle flow, any handshake. Flows in use are never given up for a new one."""
    cdef Flow *f = table_first(&cs.table, LIST_CLOSED)
    cdef Flow *young = table_first(&cs.table, LIST_EMBRYONIC)
    if f != NULL:
        cs.counters[C_EVICTED_LINGERING] += 1
        flow_forget(cs, f)
        return True
    if cs.config.on_flows_full == FULL_REFUSE:
        return False
    if young != NULL and (is_idle(cs, young) or crowded(cs, LIST_EMBRYONIC)):
        evict(cs, young, C_EVICTED_EMBRYONIC)
        return True
    f = idle_flow(cs)
    if f != NULL:
        evict(cs, f, C_EVICTED_IDLE)
        return True
    if young != NULL:
        evict(cs, young, C_EVICTED_EMBRYONIC)
    return young != NULL


cdef bint room_for_handshake(CoreState *cs) noexcept nogil:
    cdef Flow *f
    if cs.config.on_embryonic_full == FULL_REFUSE:
        return False
    f = table_first(&cs.table, LIST_EMBRYONIC)
    if f != NULL:
        evict(cs, f, C_EVICTED_EMBRYONIC)
    return True


cdef bint shed_admit(CoreState *cs, const Packet *p) noexcept nogil:
    cdef FlowTable *t = &cs.table
    if (p.protocol == PROTO_TCP and p.flags & SYN
            and t.lists[LIST_EMBRYONIC].count >= cs.config.max_embryonic
            and not room_for_handshake(cs)):
        cs.counters[C_EMBRYONIC_FULL] += 1
        return False
    if t.linked >= cs.config.max_flows and not room_in_table(cs):
        cs.counters[C_TABLE_FULL] += 1
        return False
    if cs.pool.tight and cs.config.on_memory_full == FULL_REFUSE:
        cs.counters[C_MEMORY_FULL] += 1
        return False
    return True


# ---- memory is short ---------------------------------------------------------------------

cdef uint64_t side_memory(const Stream *s) noexcept nogil:
    return 0 if s == NULL else s.size + s.early + s.pieces_size


cdef inline bint enough(const CoreState *cs, uint64_t coming) noexcept nogil:
    """coming: bytes that come back when readers of evicted flows have let go."""
    return pool_held(&cs.pool) < cs.pool.low + coming


cdef uint64_t shed_flows(CoreState *cs, bint embryonic) noexcept nogil:
    """Gives up handshakes, oldest first, or idle flows; the bytes that will be free."""
    cdef uint64_t coming = 0
    cdef Flow *f
    for _ in range(SHED_FLOWS):
        if enough(cs, coming) or records_full(cs):
            break
        f = table_first(&cs.table, LIST_EMBRYONIC) if embryonic else idle_flow(cs)
        if f == NULL:
            break
        coming += side_memory(f.stream[0]) + side_memory(f.stream[1])
        evict(cs, f, C_EVICTED_EMBRYONIC if embryonic else C_EVICTED_IDLE)
    return coming


cdef inline Flow *under_hand(CoreState *cs) noexcept nogil:
    """A hand goes round the slab, so that every flow gives its part; NULL: an entry not in use."""
    cdef Flow *f
    cs.shed_hand = cs.shed_hand % cs.table.high + 1
    f = &cs.table.flows[cs.shed_hand]
    return NULL if f.index == 0 or f.flags & FLOW_UNLINKED else f


cdef inline uint32_t forget(Stream *s) noexcept nogil:
    return 0 if s == NULL else stream_forget(s)


cdef void shed_history(CoreState *cs) noexcept nogil:
    """Blocks kept for the next who asks, bytes kept to compare copies with, and what is
    remembered of closed flows."""
    cdef Flow *f
    cs.counters[C_SHED_HISTORY] += pool_trim(&cs.pool)
    for _ in range(min(cs.table.high, <uint32_t>SHED_SIDES)):
        if enough(cs, 0):
            return
        f = under_hand(cs)
        if f != NULL:
            cs.counters[C_SHED_HISTORY] += forget(f.stream[0]) + forget(f.stream[1])
    shed_lingering(cs)
    pool_trim(&cs.pool)              # of blocks given back just now


cdef void shed_lingering(CoreState *cs) noexcept nogil:
    cdef Flow *f
    for _ in range(SHED_FLOWS):
        f = table_first(&cs.table, LIST_CLOSED)
        if f == NULL or enough(cs, 0):
            return
        if f.pins:                   # its memory is in use by its readers
            table_list(&cs.table, f, LIST_CLOSED)
            continue
        cs.counters[C_EVICTED_LINGERING] += 1
        flow_forget(cs, f)


cdef void shed_fragments(CoreState *cs) noexcept nogil:
    """Datagrams that are not whole, the oldest first: to a flow one of them is a packet lost. A
    flood of fragments costs no conversation more than that."""
    cdef uint64_t before = cs.defrag.bytes
    for _ in range(SHED_DATAGRAMS):
        if enough(cs, 0) or not defrag_shed(&cs.defrag):
            break
    cs.counters[C_SHED_FRAGMENTS] += before - cs.defrag.bytes


cdef void shed_side(CoreState *cs, Flow *f, int side) noexcept nogil:
    """What nobody has read of a side is given up, and what came early is forgotten: it is sent
    again, or becomes a gap."""
    cdef Stream *s = f.stream[side]
    if s == NULL:
        return
    if s.early >= SHED_LEAST:
        cs.counters[C_SHED_EARLY] += s.early
        receive_held(f, side, f.h[side].nxt)
    if s.fill >= SHED_LEAST and f.protocol == PROTO_TCP:
        cs.counters[C_SHED_READERS] += stream_shed(s)
        if not f.flags & FLOW_CLOSED:        # a closed flow has had its last record
            flow_tell(cs, f, side)


cdef void shed_readers(CoreState *cs) noexcept nogil:
    cdef Flow *f
    for _ in range(min(cs.table.high, <uint32_t>SHED_SIDES)):
        if enough(cs, 0) or records_full(cs):
            return
        f = under_hand(cs)
        if f != NULL:
            shed_side(cs, f, 0)
            shed_side(cs, f, 1)


cdef void shed_relieve(CoreState *cs) noexcept nogil:
    cdef uint64_t coming
    if enough(cs, 0):        # readers have read meanwhile
        cs.pool.tight = False
        return
    shed_history(cs)
    shed_fragments(cs)
    coming = shed_flows(cs, True)
    if not enough(cs, coming):
        shed_readers(cs)
    if not enough(cs, coming):
        shed_flows(cs, False)
    cs.pool.tight = not enough(cs, 0)
