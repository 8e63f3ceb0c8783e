"""A flow's path: open, start (handlers), close (reason), forget (out of the table), bury."""
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy

from aiomos._engine.events cimport (EVENT_END, EVENT_IDLE, EVENT_OVERLAP, EVENT_RETRANSMISSION,
                                    HOOK_RECEIVER, HOOK_TIMER)
from aiomos._engine.extra cimport extra_drop, extra_tunnels
from aiomos._engine.flow cimport (FLOW_CLIENT_LOW, FLOW_CLOSED, FLOW_DOUBT, FLOW_DYING,
                                  FLOW_ESTABLISHED, FLOW_IDLE_TOLD, FLOW_OPEN, FLOW_UNLINKED,
                                  HALF_FIN, LIST_CLOSED, LIST_EMBRYONIC, LIST_UNPROVEN, flow_role)
from aiomos._engine.flowtable cimport table_add, table_list, table_release, table_unlink
from aiomos._engine.limits cimport CLIENT, PROTO_TCP
from aiomos._engine.overlap cimport POLICY_BITS, POLICY_MASK, POLICY_READ
from aiomos._engine.state cimport (C_FLOWS, C_FLOWS_CLOSED, C_MEMORY, C_POLICY_CONFLICT,
                                   C_TABLE_FULL, HOOK_FLOW_END, HOOK_FLOW_START, RECORD_CLOSE,
                                   RECORD_SIDE, RECORD_START, Record, event_raise, event_wanted,
                                   hook_fn, record_add)
from aiomos._engine.stats cimport stats_close, stats_open
from aiomos._engine.stream cimport (STREAM_ENDED, STREAM_STOPPED, STREAM_TOLD, Stream,
                                    stream_drop, stream_end, stream_new)
from aiomos._engine.targets cimport targets_choose
from aiomos._engine.timers cimport wheel_arm, wheel_disarm
from aiomos._engine.wire cimport packet_dst, packet_src

cdef enum:
    TELLS_REPEATS = 1 << EVENT_RETRANSMISSION | 1 << EVENT_OVERLAP

cdef int64_t RTO_MAX_NS = 120_000_000_000     # longest pause between retransmissions (RFC 6298)


cdef void keep_addresses(Flow *f, const Packet *p, int sender) noexcept nogil:
    cdef int size = 4 if p.ip_version == 4 else 16
    cdef int i
    memcpy(f.address[sender], packet_src(p), size)
    memcpy(f.address[1 - sender], packet_dst(p), size)
    f.ports[sender] = p.sport
    f.ports[1 - sender] = p.dport
    if p.link != NULL:
        memcpy(f.mac[sender], p.link + 6, 6)
        memcpy(f.mac[1 - sender], p.link, 6)
    f.n_vlan = min(p.n_vlan, <uint8_t>2)
    for i in range(f.n_vlan):
        f.vlan[i] = p.vlan[i]


cdef inline void call_hook(CoreState *cs, int kind, Flow *f, Packet *p, int event) noexcept nogil:
    cdef hook_fn hook = cs.hooks[kind]
    if hook != NULL:
        hook(cs.hook_contexts[kind], f, p, event)


cdef Flow *flow_open(CoreState *cs, Packet *p, int sender) noexcept nogil:
    cdef Flow *f = table_add(&cs.table, p)
    if f == NULL:
        cs.counters[C_TABLE_FULL] += 1
        return NULL
    f.protocol = p.protocol
    f.ip_version = p.ip_version
    if p.from_low == (sender == CLIENT):
        f.flags |= FLOW_CLIENT_LOW
    keep_addresses(f, p, sender)
    f.id = cs.next_flow_id
    cs.next_flow_id += 1
    f.policies = cs.targets.usual | <uint16_t>cs.targets.usual << POLICY_BITS
    f.start_ns = cs.stamp
    f.born_ns = cs.now
    f.last_ns = cs.now
    table_list(&cs.table, f, LIST_EMBRYONIC if p.protocol == PROTO_TCP else LIST_UNPROVEN)
    cs.counters[C_FLOWS] += 1
    if p.n_tunnels and not extra_tunnels(&cs.extras, &cs.pool, f, p):
        cs.counters[C_MEMORY] += 1
    if cs.config.statistics:
        stats_open(cs, f)
    if cs.match != NULL:
        f.waiting = cs.match(cs.match_context, f, p)
        flow_readers(cs, f, f.waiting)
    call_hook(cs, HOOK_FLOW_START, f, p, 0)
    return f


cdef void flow_readers(CoreState *cs, Flow *f, uint64_t readers) noexcept nogil:
    cdef uint64_t own
    cdef int side
    for side in range(2):
        own = readers & cs.sides_masks[flow_role(f, side)]
        f.policies |= <uint16_t>(POLICY_READ if own else 0) << POLICY_BITS * side
        if own & cs.targets.asking and f.stream[side] == NULL:
            choose_policy(cs, f, side, own)


cdef void choose_policy(CoreState *cs, Flow *f, int side, uint64_t readers) noexcept nogil:
    cdef uint32_t conflicts = 0
    cdef int shift = POLICY_BITS * side
    f.policies &= ~<uint16_t>(POLICY_MASK << shift)
    f.policies |= <uint16_t>targets_choose(&cs.targets, f, side, readers, &conflicts) << shift
    cs.counters[C_POLICY_CONFLICT] += conflicts


cdef void flow_established(CoreState *cs, Flow *f) noexcept nogil:
    table_list(&cs.table, f, LIST_UNPROVEN)
    flow_watch(cs, f)


cdef void flow_keep(CoreState *cs, Flow *f, int side) noexcept nogil:
    """Refused memory leaves the side as one that is counted, not kept."""
    if f.stream[side] != NULL or not f.policies >> POLICY_BITS * side & POLICY_READ:
        return
    f.stream[side] = stream_new(&cs.pool, f.h[side].offset)
    if f.stream[side] == NULL:
        cs.counters[C_MEMORY] += 1
        return
    f.stream[side].policy = f.policies >> POLICY_BITS * side & POLICY_MASK
    if cs.wanted & TELLS_REPEATS and f.protocol == PROTO_TCP:
        f.stream[side].history = cs.config.history


cdef void flow_start(CoreState *cs, Flow *f, int point) noexcept nogil:
    cdef uint64_t mask = f.waiting & cs.start_masks[point]
    if mask == 0:
        return
    f.waiting &= ~mask
    flow_keep_for(cs, f, mask, RECORD_START)


cdef void flow_keep_for(CoreState *cs, Flow *f, uint64_t mask, uint8_t kind) noexcept nogil:
    cdef Record *r = record_add(cs, f, kind, <uint8_t>flow_role(f, 0))
    cdef int side
    r.mask = mask
    for side in range(2):
        flow_keep(cs, f, side)
        if f.stream[side] != NULL and mask & cs.sides_masks[flow_role(f, side)]:
            # Kept from here on, not from the time at which the reader is attached.
            f.stream[side].flags &= ~<uint16_t>STREAM_STOPPED
        r.position[side] = 0
        r.missing[side] = 0
        if f.stream[side] != NULL:
            r.position[side] = stream_end(f.stream[side])
            r.missing[side] = f.stream[side].missing


cdef void flow_tell(CoreState *cs, Flow *f, int side) noexcept nogil:
    cdef Stream *s = f.stream[side]
    if s == NULL or s.flags & STREAM_TOLD:
        return
    s.flags |= STREAM_TOLD
    record_add(cs, f, RECORD_SIDE, <uint8_t>side)


cdef void flow_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil:
    cdef int side
    if f.flags & FLOW_CLOSED:
        return
    f.flags |= FLOW_CLOSED
    f.flags &= ~<uint32_t>FLOW_OPEN
    f.close_reason = reason
    cs.counters[C_FLOWS_CLOSED] += 1
    table_list(&cs.table, f, LIST_CLOSED)
    for side in range(2):
        end_stream(cs, f, side)
    call_hook(cs, HOOK_FLOW_END, f, NULL, reason)
    if f != cs.watched:          # else after the packet that ends it
        flow_tell_end(cs, f)
    flow_watch(cs, f)


cdef void flow_tell_end(CoreState *cs, Flow *f) noexcept nogil:
    event_raise(cs, f, EVENT_END, CLIENT, HOOK_TIMER if cs.packet == NULL else HOOK_RECEIVER,
                f.close_reason, 0, 0)
    record_add(cs, f, RECORD_CLOSE, f.close_reason)


cdef void end_stream(CoreState *cs, Flow *f, int side) noexcept nogil:
    cdef Stream *s = f.stream[side]
    if s == NULL:
        return
    s.flags |= STREAM_ENDED
    flow_tell(cs, f, side)


cdef void flow_forget(CoreState *cs, Flow *f) noexcept nogil:
    if f.flags & FLOW_UNLINKED:
        return
    wheel_disarm(&cs.wheel, f)
    table_unlink(&cs.table, f)
    f.flags |= FLOW_DYING
    f.timer_prev = 0
    f.timer_next = 0 if cs.dying == NULL else cs.dying.index
    cs.dying = f


cdef void flow_arm(CoreState *cs, Flow *f, int64_t due_ns) noexcept nogil:
    cdef int side
    for side in range(2):       # a hole that waits to become a gap comes first
        if f.stream[side] != NULL and f.stream[side].grace_due:
            due_ns = min(due_ns, f.stream[side].grace_due)
    if event_wanted(cs, EVENT_IDLE) and not f.flags & FLOW_CLOSED:
        due_ns = min(due_ns, idle_due(cs, f))
    if not f.flags & FLOW_UNLINKED:
        wheel_arm(&cs.wheel, f, max(due_ns, cs.now + 1))


# ---- expiry ------------------------------------------------------------------------------

cdef inline int64_t embryonic_limit(const CoreState *cs, const Flow *f) noexcept nogil:
    """An end that gets no answer repeats its SYN after 1, 3, 7, 15 s and so on (RFC 6298): the
    next one comes no later than after as long again as the attempt has lasted. So a spoofed
    SYN goes soon, and a patient client's attempt stays one flow."""
    return cs.config.embryonic_ns + min(f.last_ns - f.born_ns, RTO_MAX_NS)


cdef int64_t idle_limit(const CoreState *cs, const Flow *f) noexcept nogil:
    if f.protocol != PROTO_TCP:
        return cs.config.udp_ns
    if f.flags & FLOW_CLOSED:
        return cs.config.linger_ns
    if not f.flags & FLOW_ESTABLISHED:
        return embryonic_limit(cs, f)
    if f.h[0].flags & f.h[1].flags & HALF_FIN:
        return cs.config.closing_ns
    if (f.h[0].flags | f.h[1].flags) & HALF_FIN:
        return cs.config.half_closed_ns
    if f.h[0].packets == 0 or f.h[1].packets == 0:
        return cs.config.one_sided_ns
    return cs.config.established_ns


cdef int64_t flow_expiry(const CoreState *cs, const Flow *f) noexcept nogil:
    cdef int64_t due = f.last_ns + idle_limit(cs, f)
    if f.flags & FLOW_DOUBT * 3 and not f.flags & FLOW_CLOSED:
        due = min(due, cs.now + doubt_left(cs, f) * 1000000)
    return due


cdef inline int64_t doubt_left(const CoreState *cs, const Flow *f) noexcept nogil:
    """Milliseconds until a doubtful RST counts."""
    return cs.config.one_sided_grace_ns / 1000000 - flow_since(cs, f)


cdef bint flow_doubt_ripe(const CoreState *cs, const Flow *f) noexcept nogil:
    return doubt_left(cs, f) <= 0


cdef void flow_watch(CoreState *cs, Flow *f) noexcept nogil:
    flow_arm(cs, f, flow_expiry(cs, f))


cdef int64_t idle_due(CoreState *cs, Flow *f) noexcept nogil:
    """When to look whether it is idle. Packets move no timer: once told, somebody must look
    whether one has come, before the flow could be idle anew."""
    if f.flags & FLOW_IDLE_TOLD:
        return cs.now + cs.config.idle_ns // 2
    return f.last_ns + cs.config.idle_ns


cdef void flow_idle(CoreState *cs, Flow *f) noexcept nogil:
    cdef int64_t idle = cs.now - f.last_ns
    if not event_wanted(cs, EVENT_IDLE) or f.flags & FLOW_CLOSED:
        return
    if idle < cs.config.idle_ns:
        f.flags &= ~<uint32_t>FLOW_IDLE_TOLD
    elif not f.flags & FLOW_IDLE_TOLD:
        f.flags |= FLOW_IDLE_TOLD
        event_raise(cs, f, EVENT_IDLE, CLIENT, HOOK_TIMER, idle, 0, 0)


cdef void drop_streams(Flow *f) noexcept nogil:
    cdef int side
    for side in range(2):
        if f.stream[side] != NULL:
            stream_drop(f.stream[side])
            f.stream[side] = NULL


cdef inline void release(CoreState *cs, Flow *f) noexcept nogil:
    extra_drop(&cs.extras, &cs.pool, f)
    stats_close(cs, f)
    table_release(&cs.table, f)


cdef void flow_bury(CoreState *cs) noexcept nogil:
    cdef Flow *f = cs.dying
    cdef uint32_t following
    cs.dying = NULL
    while f != NULL:
        following = f.timer_next
        f.flags &= ~<uint32_t>FLOW_DYING
        drop_streams(f)
        if f.pins == 0:
            release(cs, f)
        f = &cs.table.flows[following] if following else NULL


cdef void flow_unviewed(CoreState *cs, Flow *f) noexcept nogil:
    f.views = NULL
    drop_streams(f)


cdef void flow_unpin(CoreState *cs, Flow *f) noexcept nogil:
    f.pins -= 1
    if f.pins == 0 and f.flags & FLOW_UNLINKED and not f.flags & FLOW_DYING:
        release(cs, f)
