"""The whole engine of one core in one handle."""
from libc.stdint cimport int32_t, uint16_t
from libc.stdlib cimport calloc, free, malloc

import ipaddress
import os

from aiomos._engine import names
from aiomos._engine.errors import ConfigError
from aiomos._engine.admit cimport packet_is_first, packet_is_sound
from aiomos._engine.closing cimport tcp_close, tcp_timer
from aiomos._engine.copies cimport copies_free, copies_init
from aiomos._engine.defrag cimport (Defrag, defrag_clear, defrag_expire, defrag_free,
                                    defrag_init)
from aiomos._engine.events cimport ORPHAN_NO_FLOW, ORPHAN_TABLE_FULL
from aiomos._engine.extra cimport extra_drop, extra_free, extra_init
from aiomos._engine.flow cimport (FLOW_CLIENT_LOW, FLOW_CLOSED, FLOW_STATS, FLOW_UNLINKED, Flow,
                                  LIST_CLOSED, LIST_EMBRYONIC)
from aiomos._engine.flowkey cimport flow_key
from aiomos._engine.flowscope cimport SCOPE_TUNNEL, SCOPE_VLAN, flow_scope
from aiomos._engine.flowtable cimport (FlowSlot, table_by_birth, table_fetch_flow,
                                       table_fetch_slot, table_find, table_free, table_init)
from aiomos._engine.fragments cimport fragment_arrives
from aiomos._engine.handshake cimport TCP_DONE, tcp_assume_syn, tcp_may_open
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport flow_bury, flow_forget, flow_open, flow_unviewed
from aiomos._engine.limits cimport CLIENT, CLOSE_REUSED, PROTO_TCP, SCRATCH_SIZE, SERVER
from aiomos._engine.options import check_options
from aiomos._engine.overlap cimport URGENT_SHIFT
from aiomos._engine.pool cimport pool_clear, pool_held, pool_init
from aiomos._engine.shed cimport shed_admit, shed_relieve
from aiomos._engine.rss cimport RSS_TABLE
from aiomos._engine.share cimport (share_admits, share_init, share_keeps, share_leaves,
                                   share_leaves_packet)
from aiomos._engine.shim cimport AIO_DIR_REJOINED, aio_frame_copy
from aiomos._engine.state cimport (C_LOW_TTL, C_OTHERS, C_TCP_NO_FLOW, CHECK_COPIES, CHECK_SUMS,
                                   HOOK_PACKET, CoreConfig, hook_fn, records_full)
from aiomos._engine.stats cimport stats_close, stats_packet
from aiomos._engine.strays cimport stray, stray_packet
from aiomos._engine.stream cimport STREAM_TOLD
from aiomos._engine.sums cimport JUDGED_FIRST, JUDGED_SLOTS, Judged, sums_free, sums_init
from aiomos._engine.targets cimport TargetPrefix, Targets
from aiomos._engine.tcp cimport tcp_arrives
from aiomos._engine.timers cimport wheel_init, wheel_pop, wheel_start, wheel_time
from aiomos._engine.udp cimport udp_arrives, udp_timer
from aiomos._engine.usual cimport USUAL_IP, usual_decode, usual_header
from aiomos._engine.wire cimport (WIRE_ELSEWHERE, WIRE_FRAGMENT, WIRE_NEED_LINEAR,
                                  WIRE_UDP, wire_decode)
from aiomos._engine.workers cimport Workers, hand_end_fn, hand_fn

cdef enum:
    SPARE_FLOWS = 1024        # entries for what ends and begins in one burst
    CHECKSUMS_OFF = 0         # option `checksums` (options.py)
    CHECKSUMS_LIVE = 2        # frames that this host sent are trusted
    FRAGMENT_DEPTH = 4        # fragments inside datagrams that came in fragments


cdef inline int64_t to_ns(object seconds) except -1:
    return <int64_t>round(seconds * 1e9)


def prefix_length(prefix):
    """The longest first."""
    return -prefix[1]


cdef class Core:
    """The sans-io engine. Options are those of options.DEFAULTS, and `seed` of the hash."""

    def __cinit__(self, **options):
        self.state = <CoreState *>calloc(1, sizeof(CoreState))
        self.packets = <Packet *>calloc(AIO_BURST_MAX, sizeof(Packet))
        if self.state == NULL or self.packets == NULL:
            raise MemoryError
        self.state.scratch = <uint8_t *>malloc(SCRATCH_SIZE)
        if self.state.scratch == NULL:
            raise MemoryError

    def __init__(self, **options):
        seed = options.pop("seed", None)
        self._configure(check_options(options))
        self._allocate(os.urandom(32) if seed is None else bytes(seed).ljust(32, b"\0")[:32])

    def _configure(self, values):
        cdef CoreConfig *config = &self.state.config
        config.embryonic_ns = to_ns(values["embryonic"])
        config.established_ns = to_ns(values["established"])
        config.one_sided_ns = to_ns(values["one_sided"])
        config.half_closed_ns = to_ns(values["half_closed"])
        config.closing_ns = to_ns(values["closing"])
        config.linger_ns = to_ns(values["time_wait"])
        config.udp_ns = to_ns(values["udp_idle"])
        config.idle_ns = to_ns(values["idle"])
        config.idle_ns = max(to_ns(values["idle"]), 1)
        config.reorder_grace_ns = to_ns(values["reorder_grace"])
        config.one_sided_grace_ns = to_ns(values["one_sided_grace"])
        config.max_flows = values["max_flows"]
        config.max_embryonic = values["max_embryonic"]
        config.evict_idle_ns = to_ns(values["evict_idle"])
        config.on_flows_full = values["on_flows_full"]
        config.on_embryonic_full = values["on_embryonic_full"]
        config.on_memory_full = values["on_memory_full"]
        config.statistics = values["statistics"]
        config.community_seed = values["community_id_seed"]
        config.memory = values["memory"]
        config.history = values["history"]
        config.midstream = values["midstream"]
        config.urgent = values["urgent"]
        self.state.targets.usual = config.urgent << URGENT_SHIFT
        config.oob_limit = values["oob_limit"]
        config.signatures = values["refuse_signatures"]
        config.key_scope = ((SCOPE_VLAN if values["vlan_in_key"] else 0)
                            | (SCOPE_TUNNEL if values["tunnel_in_key"] else 0))
        config.min_ttl = values["min_ttl"]
        config.decoders = values["decode"]
        self._configure_network(values)

    def _configure_network(self, values):
        defrag = &self.state.defrag
        defrag.policy = values["fragments"]
        defrag.patience = [to_ns(values["fragment_timeout"]), to_ns(values["fragment_timeout6"])]
        defrag.budget = values["fragment_memory"]
        defrag.most = values["fragment_datagrams"]
        self.state.copies.window_ns = to_ns(values["dedup_window"])
        self.state.sums.not_own = values["checksums"] == CHECKSUMS_LIVE
        self.state.checks = ((CHECK_COPIES if values["dedup"] else 0)
                             | (CHECK_SUMS if values["checksums"] != CHECKSUMS_OFF else 0))

    def set_prefixes(self, prefixes):
        """(packed address, length in bits, overlap policy) of receivers, in any order."""
        cdef Targets *t = &self.state.targets
        cdef const uint8_t[:] address
        cdef int i, k
        free(t.prefixes)
        t.n_prefixes = 0
        t.prefixes = <TargetPrefix *>calloc(len(prefixes) + 1, sizeof(TargetPrefix))
        if t.prefixes == NULL:
            raise MemoryError
        for i, (packed, bits, policy) in enumerate(sorted(prefixes, key=prefix_length)):
            address = packed
            for k in range(len(packed)):
                t.prefixes[i].address[k] = address[k]
            t.prefixes[i].ip_version = 4 if len(packed) == 4 else 6
            t.prefixes[i].bits = bits
            t.prefixes[i].policy = policy
        t.n_prefixes = <uint32_t>len(prefixes)

    def share(self, mine, count):
        """Takes the flows of one worker of so many, all of whom see every frame."""
        cdef Workers *workers = self._share(mine, count)
        cdef Defrag *here = &self.state.defrag
        if workers == NULL:
            return
        workers.others.policy = here.policy
        workers.others.patience = here.patience
        workers.others.budget = here.budget
        workers.others.most = here.most
        workers.others.seed = here.seed
        if defrag_init(&workers.others, &self.state.pool) != 0:
            raise MemoryError

    cdef int hand_over(self, hand_fn function, hand_end_fn burst_over, void *context, int mine,
                       int count) except -1:
        """The same where each frame comes to one worker: others' frames are given to them."""
        cdef Workers *workers = self._share(mine, count)
        if workers != NULL:
            workers.hand_over = function
            workers.burst_over = burst_over
            workers.context = context
        return 0

    cdef Workers *_share(self, int mine, int count) except? NULL:
        if not 0 <= mine < count <= RSS_TABLE:
            raise ConfigError(f"worker {mine} of {count}: there are 1 to {RSS_TABLE}")
        if self.state.workers != NULL:
            raise ConfigError("whose frames are whose has been said before")
        if count == 1:
            return NULL
        self.state.workers = <Workers *>calloc(1, sizeof(Workers))
        if self.state.workers == NULL:
            raise MemoryError
        share_init(self.state.workers, mine, count)
        return self.state.workers

    cdef void ask(self, int handler, uint8_t policy, bint by_prefix) noexcept:
        cdef Targets *t = &self.state.targets
        cdef uint8_t urgent = policy >> URGENT_SHIFT
        t.asked[handler] = policy & ((1 << URGENT_SHIFT) - 1)
        t.asked[handler] |= <uint8_t>((urgent - 1 if urgent else self.state.config.urgent)
                                      << URGENT_SHIFT)
        t.asking |= <uint64_t>(t.asked[handler] != t.usual or by_prefix) << handler
        t.by_prefix |= <uint64_t>by_prefix << handler

    def _allocate(self, bytes seed):
        # Entries of flows that are over stay while somebody holds a view: as many again.
        if table_init(&self.state.table, self.state.config.max_flows * 2 + SPARE_FLOWS, seed) != 0:
            raise MemoryError(f"no room for {self.state.config.max_flows} flows: lower max_flows")
        if extra_init(&self.state.extras, self.state.table.capacity) != 0:
            raise MemoryError(f"no room for {self.state.config.max_flows} flows: lower max_flows")
        wheel_init(&self.state.wheel, self.state.table.flows)
        pool_init(&self.state.pool, self.state.config.memory)
        self.state.defrag.seed = self.state.table.seed
        if defrag_init(&self.state.defrag, &self.state.pool) != 0:
            raise MemoryError
        self._allocate_checks()
        self.state.pool.alarm = &self.state.full
        self.state.next_flow_id = 1

    def _allocate_checks(self):
        """The tables of checks that were asked for."""
        self.state.copies.seed = self.state.sums.seed = self.state.table.seed
        if self.state.checks & CHECK_COPIES and copies_init(&self.state.copies) != 0:
            raise MemoryError
        if self.state.checks & CHECK_SUMS and sums_init(&self.state.sums) != 0:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        if self.state != NULL:
            for i in range(1, self.state.table.high + 1):
                flow_unviewed(self.state, &self.state.table.flows[i])
                extra_drop(&self.state.extras, &self.state.pool, &self.state.table.flows[i])
                stats_close(self.state, &self.state.table.flows[i])
            extra_free(&self.state.extras)
            table_free(&self.state.table)
            defrag_free(&self.state.defrag)
            if self.state.workers != NULL:
                defrag_free(&self.state.workers.others)
            copies_free(&self.state.copies)
            sums_free(&self.state.sums)
            pool_clear(&self.state.pool)
            free(self.state.scratch)
            free(self.state.targets.prefixes)
            free(self.state.workers)
        free(self.state)
        free(self.packets)
        free(self.closing)

    # ---- a burst ------------------------------------------------------------------------

    cdef void prepare(self, const aio_frame *frames, unsigned first, unsigned end) noexcept nogil:
        """Decodes, then fetches slots, then flows: one latency for all of them, not one a frame.

        Three loops: in each, no load waits for another one's result."""
        cdef CoreState *cs = self.state
        cdef unsigned i
        for i in range(first, end):
            decode(cs, &self.packets[i], &frames[i])
        for i in range(first, end):
            if likely(self.packets[i].status <= WIRE_UDP):
                table_fetch_slot(&cs.table, self.packets[i].hash)
        for i in range(first, end):
            if likely(self.packets[i].status <= WIRE_UDP):
                table_fetch_flow(&cs.table, self.packets[i].hash)

    cdef void take(self, unsigned i, int64_t now) noexcept nogil:
        cdef CoreState *cs = self.state
        cdef Packet *p = &self.packets[i]
        cdef hook_fn hook = cs.hooks[HOOK_PACKET]
        cdef bint sound = True
        cs.now = now
        cs.stamp = p.frame.time_ns
        cs.packet = p
        if unlikely(p.status == WIRE_NEED_LINEAR):
            linearise(cs, p)
        if unlikely(cs.workers != NULL) and not is_known_mine(cs, p) and not is_mine(cs, p):
            cs.packet = NULL
            return
        cs.frames += 1
        cs.bytes += p.frame.cap_len
        if unlikely(cs.checks & CHECK_COPIES) and not packet_is_first(cs, p, key_scope(cs, p)):
            cs.packet = NULL
            return
        if cs.checks & CHECK_SUMS:
            sound = packet_is_sound(cs, p)
        cs.by_status[p.status] += 1
        if unlikely(hook != NULL) and not p.frame.direction & AIO_DIR_REJOINED:
            hook(cs.hook_contexts[HOOK_PACKET], NULL, p, 0)
        if unlikely(p.status > WIRE_UDP) and sound:
            sound = no_segment(cs, p)
        if likely(p.status <= WIRE_UDP and sound) and not (
                unlikely(cs.config.min_ttl) and ends_early(cs, p)):
            flow_arrives(cs, p)
        cs.packet = NULL

    cdef bint advance(self, int64_t now) noexcept nogil:
        cdef CoreState *cs = self.state
        cdef Flow *f
        if cs.wheel.armed == 0:
            wheel_start(&cs.wheel, now)
        defrag_expire(&cs.defrag, now)
        if unlikely(cs.workers != NULL):
            defrag_expire(&cs.workers.others, now)
        while cs.wheel.next_ns <= now:
            if records_full(cs):
                return False
            f = wheel_pop(&cs.wheel, now)
            if f == NULL:
                break
            # Its own time, not that of the frame which brought the news: what it arms counts
            # from there, whatever other flows do meanwhile.
            cs.now = max(cs.now, wheel_time(&cs.wheel))
            if f.protocol == PROTO_TCP:
                tcp_timer(cs, f)
            else:
                udp_timer(cs, f)
        cs.now = now
        return True

    cdef void end_burst(self) noexcept nogil:
        """Records have been consumed: streams may be told about again, dead flows be freed."""
        cdef CoreState *cs = self.state
        cdef Flow *f
        cdef uint32_t i
        for i in range(cs.n_records):
            f = cs.records[i].flow
            if f.stream[0] != NULL:
                f.stream[0].flags &= ~<uint16_t>STREAM_TOLD
            if f.stream[1] != NULL:
                f.stream[1].flags &= ~<uint16_t>STREAM_TOLD
        cs.n_records = 0
        cs.full = False
        flow_bury(cs)
        if unlikely(cs.workers != NULL) and cs.workers.hand_over != NULL:
            cs.workers.burst_over(cs.workers.context)

    cdef void relieve(self) noexcept nogil:
        if unlikely(self.state.pool.tight):
            shed_relieve(self.state)

    cdef bint close_flows(self, uint8_t reason) noexcept nogil:
        cdef CoreState *cs = self.state
        cdef FlowName *name
        cdef Flow *f
        defrag_clear(&cs.defrag)
        if self.closing == NULL:
            self.closing = table_by_birth(&cs.table, &self.n_closing)
        while self.sweep < self.n_closing:
            if records_full(cs):
                return False
            name = &self.closing[self.sweep]
            f = &cs.table.flows[name.index]
            self.sweep += 1
            if f.index != 0 and f.id == name.id and not f.flags & (FLOW_CLOSED | FLOW_UNLINKED):
                tcp_close(cs, f, reason)
        free(self.closing)
        self.closing = NULL
        self.sweep = 0
        return True

    # ---- for people and tests ---------------------------------------------------------------

    @property
    def now(self) -> float:
        """Engine time in seconds since the epoch."""
        return self.state.now / 1e9

    def counters(self) -> dict[str, int]:
        """Everything counted, by name; see names.COUNTERS."""
        cdef CoreState *cs = self.state
        found = {name: cs.counters[i] for i, name in enumerate(names.COUNTERS)}
        found.update({name: cs.by_status[i] for i, name in enumerate(names.STATUSES)})
        found.update({name: cs.defrag.counters[i] for i, name in enumerate(names.DEFRAG)})
        found["frames"] = cs.frames
        found["bytes"] = cs.bytes
        found["clock_steps_back"] = cs.clock.steps_back
        found["clock_jumps"] = cs.clock.jumps
        return found

    def keep_statistics(self):
        """From here on every new flow has extended statistics, as the option says it."""
        self.state.config.statistics = True

    def unverified(self) -> list[str]:
        """Addresses whose checksums are not judged any more: their first 64 were all wrong."""
        cdef Judged *slot
        found = []
        if self.state.sums.judged == NULL:
            return found
        for i in range(JUDGED_SLOTS):
            slot = &self.state.sums.judged[i]
            if slot.wrong == JUDGED_FIRST:
                raw = (<const char *>slot.address)[:4 if slot.version == 4 else 16]
                found.append(str(ipaddress.ip_address(raw)))
        return sorted(found)

    def usage(self) -> dict[str, int]:
        """What is held now: flows, timers, blocks and bytes of buffers (0 when all is idle)."""
        cdef CoreState *cs = self.state
        return {
            "flows": cs.table.linked,
            "embryonic": cs.table.lists[LIST_EMBRYONIC].count,
            "lingering": cs.table.lists[LIST_CLOSED].count,
            "flow_entries": cs.table.live,
            "timers": cs.wheel.armed,
            "timer_looks": cs.wheel.looks,
            "blocks": cs.pool.blocks,
            "buffer_bytes": cs.pool.used,
            "buffer_bytes_peak": cs.pool.peak,
            "cached_bytes": cs.pool.idle,
            **{f"{name}_bytes": cs.pool.charged[i] for i, name in enumerate(names.MEMORY)},
            "memory_held": pool_held(&cs.pool),
            "memory_short": bool(cs.pool.tight),
            "heap_calls": cs.pool.heap,
            "datagrams": cs.defrag.held,
            "flow_size": sizeof(Flow),
            "flow_bytes": <uint64_t>cs.table.live * sizeof(Flow),
            "index_bytes": (<uint64_t>cs.table.mask + 1) * sizeof(FlowSlot),
        }


cdef inline uint64_t key_scope(const CoreState *cs, const Packet *p) noexcept nogil:
    if unlikely(cs.config.key_scope):
        return flow_scope(p, &cs.table.seed, cs.config.key_scope)
    return 0


cdef inline void decode(CoreState *cs, Packet *p, const aio_frame *frame) noexcept nogil:
    """Another worker's frame is recognised as early as can be: each of them reads all of a file."""
    cdef int32_t header = usual_header(frame)
    if likely(header):
        if unlikely(cs.workers != NULL) and share_leaves(cs.workers, frame.data + USUAL_IP):
            p.frame = frame
            p.status = WIRE_ELSEWHERE
            return
        usual_decode(p, frame, header)
    else:
        wire_decode(p, frame, frame.data, frame.head_len, cs.config.decoders)
        if unlikely(p.status > WIRE_UDP):
            return
        if unlikely(cs.workers != NULL) and share_leaves_packet(cs.workers, p):
            p.status = WIRE_ELSEWHERE
            return
    flow_key(p, &cs.table.seed, key_scope(cs, p))


cdef void linearise(CoreState *cs, Packet *p) noexcept nogil:
    """Headers that lie across segments: decode a contiguous copy of the frame instead."""
    cdef uint32_t n = aio_frame_copy(p.frame, 0, SCRATCH_SIZE, cs.scratch)
    wire_decode(p, p.frame, cs.scratch, n, cs.config.decoders)
    p.linear = 1
    if p.payload_off + p.payload_cap > n:
        p.payload_cap = n - p.payload_off if p.payload_off < n else 0
    if p.status <= WIRE_UDP:
        flow_key(p, &cs.table.seed, key_scope(cs, p))


cdef bint no_segment(CoreState *cs, Packet *p) noexcept nogil:
    """What is none by itself: fragments, which may make one whole, and everything else.
    False: what was put together has a wrong checksum."""
    if put_together(cs, &cs.defrag, p) and cs.workers != NULL and not share_keeps(cs, p):
        return False
    return no_fragment(cs, p)


cdef bint put_together(CoreState *cs, Defrag *d, Packet *p) noexcept nogil:
    """Whether a fragment made a datagram whole, which is the packet now."""
    cdef int depth = 0
    while (p.status == WIRE_FRAGMENT and depth < FRAGMENT_DEPTH
           and fragment_arrives(cs, d, p, key_scope(cs, p))):
        depth += 1
    return depth > 0


cdef bint no_fragment(CoreState *cs, Packet *p) noexcept nogil:
    if p.status <= WIRE_UDP:
        flow_key(p, &cs.table.seed, key_scope(cs, p))
        return not cs.checks & CHECK_SUMS or packet_is_sound(cs, p)
    stray_packet(cs, p)
    return True


cdef inline bint is_known_mine(const CoreState *cs, const Packet *p) noexcept nogil:
    """decode() has left it here."""
    return p.status <= WIRE_UDP and not p.linear and cs.workers.hand_over == NULL


cdef bint is_mine(CoreState *cs, Packet *p) noexcept nogil:
    """Whether a packet is this worker's. Where each sees every frame, the last fragment of
    another's may bring a datagram that is."""
    cdef uint32_t wanted = cs.wanted
    cdef bint whole
    if p.status == WIRE_ELSEWHERE:
        cs.counters[C_OTHERS] += 1
        return False
    if share_admits(cs, p):
        return True
    if p.status == WIRE_FRAGMENT and cs.workers.hand_over == NULL:
        cs.wanted = 0                       # it is not this worker that tells of it
        whole = put_together(cs, &cs.workers.others, p)
        cs.wanted = wanted
        if whole and share_keeps(cs, p) and no_fragment(cs, p) and p.status <= WIRE_UDP:
            flow_arrives(cs, p)
    return False


cdef inline int end_of(const Flow *f, const Packet *p) noexcept nogil:
    """Which end sent it."""
    return CLIENT if p.from_low == ((f.flags & FLOW_CLIENT_LOW) != 0) else SERVER


cdef bint ends_early(CoreState *cs, const Packet *p) noexcept nogil:
    """Whether so few hops are left that the packet may never reach the host it is for."""
    if p.ip[8 if p.ip_version == 4 else 7] >= cs.config.min_ttl:
        return False
    cs.counters[C_LOW_TTL] += 1
    return True


cdef void flow_arrives(CoreState *cs, Packet *p) noexcept nogil:
    cdef Flow *f = table_find(&cs.table, p)
    cdef int s
    if unlikely(f == NULL):
        f = open_for(cs, p)
        if f == NULL:
            return
    s = end_of(f, p)
    cs.talker = <uint8_t>s
    if unlikely(f.flags & FLOW_STATS):
        judge_counted(cs, f, p, s)
    else:
        judge(cs, f, p, s)


cdef void judge_counted(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """Late packets count for nothing; a segment that began another flow counts there."""
    cdef bint late = f.flags & FLOW_CLOSED != 0
    judge(cs, f, p, s)
    if not late and not f.flags & FLOW_UNLINKED:
        stats_packet(cs, f, p, s)


cdef inline void judge(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    if likely(p.protocol == PROTO_TCP):
        if unlikely(tcp_arrives(cs, f, p, s) != TCP_DONE):
            reopen(cs, f, p, s)
    else:
        udp_arrives(cs, f, p, s)


cdef Flow *open_for(CoreState *cs, Packet *p) noexcept nogil:
    cdef int sender = CLIENT
    if p.protocol == PROTO_TCP:
        sender = tcp_may_open(cs, p)
        if sender < 0:
            cs.counters[C_TCP_NO_FLOW] += 1
            stray(cs, ORPHAN_NO_FLOW)
            return NULL
    return admit(cs, p, sender)


cdef Flow *admit(CoreState *cs, Packet *p, int sender) noexcept nogil:
    """A flow, if the bounds on flows let it in."""
    cdef Flow *f = flow_open(cs, p, sender) if shed_admit(cs, p) else NULL
    if f == NULL:
        stray(cs, ORPHAN_TABLE_FULL)
    return f


cdef void reopen(CoreState *cs, Flow *old, Packet *p, int s) noexcept nogil:
    """Another connection on the addresses of an old one (semantics.md 12)."""
    cdef bint answered = p.flags & 0x10 != 0
    cdef uint32_t isn = old.other_isn
    cdef uint8_t offer = old.other_offer
    cdef Flow *f
    if not old.flags & FLOW_CLOSED:
        old.h[s].packets -= 1        # it counts for the new one
    tcp_close(cs, old, CLOSE_REUSED)
    flow_forget(cs, old)
    f = admit(cs, p, SERVER if answered else CLIENT)
    if f == NULL:
        return
    s = end_of(f, p)
    cs.talker = <uint8_t>s
    if answered:
        tcp_assume_syn(cs, f, 1 - s, isn, offer)
    tcp_arrives(cs, f, p, s)
    if f.flags & FLOW_STATS:
        stats_packet(cs, f, p, s)
