"""All that one core owns, handed to every protocol module, and the two ways out of it.

*Records* are appended to a bounded buffer and consumed after the burst. *Hooks* are C
functions called in place, with the packet at hand, NULL where nobody subscribed. Inside a
hook nothing is freed and no hook is called (semantics.md 2).
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.clock cimport Clock
from aiomos._engine.copies cimport Copies
from aiomos._engine.defrag cimport Defrag
from aiomos._engine.events cimport (EVENT_ANOMALY, EVENT_START, EVENT_STATE, HOOK_RECEIVER,
                                    HOOK_SENDER, HOOK_TIMER, VERDICT_REFUSED, VERDICT_REPEATED,
                                    Event, event_fn)
from aiomos._engine.extra cimport Extras
from aiomos._engine.flow cimport HALF_STARTED, TCP_LISTEN, Flow, flow_role
from aiomos._engine.flowtable cimport FlowTable
from aiomos._engine.pool cimport Pool
from aiomos._engine.shim cimport aio_frame
from aiomos._engine.sums cimport Sums
from aiomos._engine.targets cimport Targets
from aiomos._engine.timers cimport Wheel
from aiomos._engine.wire cimport WIRE_STATUSES, Packet
from aiomos._engine.workers cimport Workers

# RecordKind
cdef enum:
    RECORD_START = 0          # handlers in `mask` begin; a, b: where their two cursors stand
    RECORD_SIDE = 1           # bytes, a gap or an end on `side`: look at its stream
    RECORD_ESTABLISHED = 2
    RECORD_CLOSE = 3          # side: CLOSE_*; the last of a flow
    RECORD_DATAGRAM = 4       # UDP: the queue of the flow has more
    RECORD_FLIP = 5           # the ends changed roles: readers of one side (mask) get the other

cdef struct Record:
    Flow *flow
    uint64_t mask
    int64_t time_ns           # engine time
    uint64_t position[2]      # START: positions in the two streams ...
    uint64_t missing[2]       # ... and bytes in gaps before them
    uint8_t kind              # RecordKind
    uint8_t side              # START: 1 if the ends had changed roles before

cdef enum:
    RECORDS = 1024            # size of the buffer
    RECORDS_SPARE = 32        # most that one frame or one timer can bring: burst ends before
    START_POINTS = 3

# StartPoint: when a handler begins (App.tcp's start=).
cdef enum:
    START_SYN = 0
    START_ESTABLISHED = 1
    START_DATA = 2

cdef enum:
    HOOK_CONTINUE = 0

cdef enum:
    HOOK_PACKET = 0           # every frame, before its flow is looked up
    HOOK_FLOW_START = 1       # a flow was born (no Python object yet)
    HOOK_FLOW_END = 2
    HOOKS = 3

ctypedef int (*hook_fn)(void *context, Flow *flow, Packet *packet, int event) noexcept nogil
ctypedef uint64_t (*match_fn)(void *context, Flow *flow, Packet *packet) noexcept nogil

# Counter: everything counted, by name; names.py has the same list for people.
cdef enum:
    C_TCP_RETRANSMITTED = 0   # segments that brought nothing new
    C_TCP_OUT_OF_ORDER = 1    # segments that came before bytes in front of them
    C_TCP_OUTSIDE_WINDOW = 2  # bytes beyond the receiver's window: not delivered
    C_TCP_BAD_FLAGS = 3       # SYN+FIN, SYN+RST, FIN+RST, none at all
    C_TCP_NO_ACK = 4          # data or FIN without ACK flag in a synchronised state
    C_TCP_BAD_RST = 5         # resets that are not valid (RFC 5961)
    C_TCP_BAD_ACK = 6         # acknowledges what was never sent, before establishment
    C_TCP_CHALLENGED_SYN = 7  # SYN on a live connection
    C_TCP_DIFFERING = 8       # retransmissions with other bytes
    C_TCP_BEYOND_FIN = 9
    C_TCP_NO_FLOW = 10        # segments that open no flow: RST, or pickup is off
    C_TCP_OPTIONS = 11        # malformed option lists
    C_GAPS = 12
    C_GAP_BYTES = 13
    C_FLOWS = 14              # born
    C_FLOWS_CLOSED = 15
    C_TABLE_FULL = 16         # births refused
    C_MEMORY = 17             # bytes not kept because the budget was used up
    C_UDP_DROPPED = 18        # datagrams beyond their flow's bound
    C_SLOW_READER = 19        # bytes cut because a handler did not read
    C_UNREAD_SIDE = 20        # sides stopped because nobody ever read them
    C_LATE = 21               # packets for flows that had closed
    C_TCP_OLD_TIMESTAMP = 22  # PAWS
    C_TCP_KEEP_ALIVE = 23
    C_TCP_WINDOW_PROBE = 24   # of a closed window
    C_TCP_URGENT = 25         # urgent bytes or segments that were not delivered in line
    C_TCP_FLIPPED = 26        # flows whose ends changed roles
    C_TCP_SMALL = 27          # flows' sides that sent many tiny segments at once
    C_EVICTED_LINGERING = 28  # closed flows' entries given up before their time
    C_EVICTED_EMBRYONIC = 29  # handshakes given up for newer ones, or for memory
    C_EVICTED_IDLE = 30       # open flows given up for new ones, or for memory
    C_EMBRYONIC_FULL = 31     # births refused: too many handshakes
    C_MEMORY_FULL = 32        # births refused: memory is short
    C_SHED_HISTORY = 33       # bytes of cached blocks and old data given up, memory being short
    C_SHED_EARLY = 34         # bytes of the out-of-order store given up
    C_SHED_READERS = 35       # bytes that readers had not read given up
    C_LOW_TTL = 36            # packets that end before the host they are for (min_ttl)
    C_UNACKED_BYTES = 37      # handed out before their acknowledgement: the store was full
    C_POLICY_CONFLICT = 38    # handlers that asked for another policy than their flow has
    C_EVENTS_LOST = 39        # not queued for a coroutine that does not take them
    C_ICMP_ERRORS = 40        # that quote a packet of a flow
    C_BAD_CHECKSUM = 41       # packets that nobody received: not let in
    C_DUPLICATES = 42         # copies of a packet taken a moment ago (option dedup)
    C_SHED_FRAGMENTS = 43     # bytes of datagrams that were not whole given up, memory being short
    C_TCP_SIGNATURE = 44      # signed segments of a connection that is not, or the reverse
    C_OTHERS = 45             # frames that other workers take, each of which sees the whole file
    C_WRONG_CORE = 46         # frames of other workers' flows that came here: handed over
    C_WRONG_CORE_LOST = 47    # the same: their worker's ring was full
    C_REJOINED = 48           # datagrams put together here for other workers
    C_MIDSTREAM = 49          # flows picked up without a SYN
    COUNTERS = 50

# CoreState.checks (admit.pxd)
cdef enum:
    CHECK_COPIES = 1
    CHECK_SUMS = 2

# What becomes of a connection whose SYN was not seen.
cdef enum:
    MIDSTREAM_IGNORE = 0      # its packets belong to no flow
    MIDSTREAM_PICKUP = 1      # followed and read
    MIDSTREAM_PASS = 2        # followed, never read

cdef struct CoreConfig:
    # Without a packet for so long, a flow expires (life.pyx: flow_idle_limit):
    int64_t embryonic_ns      # the handshake is not finished
    int64_t established_ns    # open, both ends seen
    int64_t one_sided_ns      # open, one end never seen
    int64_t half_closed_ns    # one FIN seen
    int64_t closing_ns        # both seen, the last acknowledgement is missing
    int64_t linger_ns         # closed: entries stay for late packets (RFC 9293: TIME-WAIT)
    int64_t udp_ns
    int64_t idle_ns           # the event Idle is told, nothing else
    int64_t reorder_grace_ns  # acknowledged, but not seen
    int64_t one_sided_grace_ns
    uint32_t max_flows        # in the table
    uint32_t max_embryonic    # of them, handshakes not finished
    uint64_t memory           # budget of everything but flow entries, bytes
    int64_t evict_idle_ns     # without a packet for so long, a flow may go for a new one
    uint8_t on_flows_full     # FULL_* (shed.pxd)
    uint8_t on_embryonic_full
    uint8_t on_memory_full
    bint statistics           # every new flow gets a block of extended statistics
    uint16_t community_seed   # of Community ID
    uint32_t history          # bytes kept of a side to judge repeated ones by, where wanted
    uint8_t min_ttl           # packets under it reach no flow
    uint8_t midstream         # MIDSTREAM_*: connections whose SYN was not seen
    uint8_t urgent            # URGENT_*, where no handler says it
    uint8_t signatures        # SIGNATURE_*: those that receivers look at (tcpopt.pxd)
    uint32_t oob_limit        # urgent bytes of a side that are taken out of line, at most
    uint8_t key_scope         # SCOPE_*: what is part of a flow's key besides addresses and ports
    uint32_t decoders         # bit mask of Decoder (walk.pxd)

cdef struct CoreState:
    FlowTable table
    Wheel wheel
    Pool pool
    Extras extras
    Clock clock
    CoreConfig config
    int64_t now               # engine time
    int64_t stamp             # capture stamp of the present frame
    uint64_t next_flow_id
    uint32_t n_records
    bint full                 # some reader reached its limit: the burst ends here
    Record records[RECORDS]
    uint32_t shed_hand        # entry at which memory was relieved last
    Flow *dying               # unlinked in this burst, chained by timer_next
    Packet *packet            # being processed; NULL in timers
    uint8_t talker            # the end that sent it; only with a flow
    uint8_t checks            # CHECK_*: what packets are asked before they are let in
    uint8_t verdict           # VERDICT_*: what the receiver's stack makes of it
    Flow *watched             # told of by PacketSeen: its end is told after the packet
    uint32_t wanted           # EventKinds that somebody subscribed to, one bit each
    event_fn event            # called for those
    void *event_context
    hook_fn hooks[HOOKS]
    void *hook_contexts[HOOKS]
    match_fn match            # handlers that want a flow (mask); NULL: nobody
    void *match_context
    uint64_t start_masks[START_POINTS]
    Targets targets           # what they ask for
    uint64_t sides_masks[2]   # handlers that read the client's, the server's side
    uint64_t frames
    uint64_t bytes
    uint64_t by_status[WIRE_STATUSES]
    uint64_t counters[COUNTERS]
    uint8_t *scratch          # frames made contiguous
    Defrag defrag
    Copies copies
    Sums sums
    Workers *workers          # they share the traffic (share.pxd); NULL: it is all this core's
    aio_frame rebuilt         # a datagram put together of fragments, in scratch

# Appends a record; the caller of the protocol modules made sure that there is room.
cdef inline Record *record_add(CoreState *cs, Flow *f, uint8_t kind, uint8_t side) noexcept nogil:
    cdef Record *r = &cs.records[cs.n_records]
    cs.n_records += 1
    r.flow = f
    r.kind = kind
    r.side = side
    r.time_ns = cs.now
    return r

cdef inline bint records_full(const CoreState *cs) noexcept nogil:
    return cs.n_records > RECORDS - RECORDS_SPARE


# A segment that brought nothing new: data, SYN or FIN.
cdef inline void count_retransmission(CoreState *cs, Flow *f, int side) noexcept nogil:
    cs.verdict = VERDICT_REPEATED
    cs.counters[C_TCP_RETRANSMITTED] += 1
    f.retransmissions[side] += 1


# ---- events --------------------------------------------------------------------------------

# Which stack tells what happens at this end: that of the segment's sender, or the other.
cdef inline uint8_t hook_of(const CoreState *cs, int side) noexcept nogil:
    if cs.packet == NULL:
        return HOOK_TIMER
    return HOOK_SENDER if side == cs.talker else HOOK_RECEIVER

cdef inline bint event_wanted(const CoreState *cs, int kind) noexcept nogil:
    return cs.wanted >> kind & 1

# Tells one event; cheap where nobody wants it. Bytes go through event_raise_bytes().
cdef inline void event_raise(CoreState *cs, Flow *f, int kind, int side, uint8_t hook,
                             uint64_t a, uint64_t b, uint64_t c) noexcept nogil:
    if event_wanted(cs, kind):
        event_raise_bytes(cs, f, kind, side, hook, a, b, c, NULL, 0, NULL, 0)

cdef inline void event_raise_bytes(CoreState *cs, Flow *f, int kind, int side, uint8_t hook,
                                   uint64_t a, uint64_t b, uint64_t c,
                                   const uint8_t *old, uint32_t old_length,
                                   const uint8_t *new, uint32_t new_length) noexcept nogil:
    cdef Event e
    e.flow = f
    e.packet = cs.packet
    e.old = old
    e.new = new
    e.time_ns = cs.stamp if cs.packet != NULL else cs.now
    e.a = a
    e.b = b
    e.c = c
    e.old_length = old_length
    e.new_length = new_length
    e.kind = <uint8_t>kind
    e.side = <uint8_t>(side if f == NULL else flow_role(f, side))
    e.hook = hook
    cs.event(cs.event_context, &e)

# What the receiver of a segment of `side` takes note of.
cdef inline void anomaly(CoreState *cs, Flow *f, int side, int kind, int counter,
                         uint64_t b) noexcept nogil:
    cs.counters[counter] += 1
    event_raise(cs, f, EVENT_ANOMALY, side, HOOK_RECEIVER, kind, b, 0)

# ... and does not accept: nothing of the segment counts.
cdef inline void refuse(CoreState *cs, Flow *f, int side, int kind, int counter,
                        uint64_t b) noexcept nogil:
    cs.verdict = VERDICT_REFUSED
    anomaly(cs, f, side, kind, counter, b)

# The only writer of Half.state. An end begins when it leaves CLOSED or LISTEN.
cdef inline void set_state(CoreState *cs, Flow *f, int side, uint8_t state) noexcept nogil:
    cdef uint8_t old = f.h[side].state
    if old == state:
        return
    if state > TCP_LISTEN and not f.h[side].flags & HALF_STARTED:
        f.h[side].flags |= HALF_STARTED
        event_raise(cs, f, EVENT_START, side, hook_of(cs, side), 0, 0, 0)
    f.h[side].state = state
    event_raise(cs, f, EVENT_STATE, side, hook_of(cs, side), old, state, 0)
