"""The fuzz target: plays a script (_fuzzframes.pxd) to a core of its own, reads what its flows
deliver, and says the first thing that is not as it must be.

Besides what sanitizers see: the core's own promises between two frames (_check.pyx); bytes that
are not what was sent under their sequence number; offsets that jump or go back; something held
when all is over; more work than the frames can be worth; and another outcome when the same
frames come in bursts of one (semantics.md 1.3).

Head of a script: 0: HEAD_* flags. 1: frames in a burst, and which sides are read (bits 6, 7).
2: starting point of handlers, and how large buffers may be. 3: overlap policy (bits 0 to 2),
delivery when acknowledged (3), policy for fragments (4, 5), tunnels in keys (6), full statistics
(7). 4: what happens when flows, handshakes or memory run out (bits 0 to 2). The rest: for more.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, calloc, free, getenv
from libc.string cimport memcpy

from aiomos._engine import names
from aiomos._engine._check cimport check_core
from aiomos._engine._fuzzframes cimport (FIRST_PORT, HEAD_SIZE, OP_BURST, OP_CLOSE, OP_READ,
                                         OP_WAIT, PAIRS, Maker, Step, maker_init, maker_release,
                                         maker_step, reference_byte, step_read)
from aiomos._engine.clock cimport clock_step
from aiomos._engine.core cimport Core
from aiomos._engine.events cimport EVENTS, Event
from aiomos._engine.flow cimport HALF_FIN_DONE, Flow, Half
from aiomos._engine.life cimport flow_unpin, flow_unviewed
from aiomos._engine.limits cimport CLIENT, CLOSE_CAPTURE_END, PROTO_UDP, SERVER
from aiomos._engine.overlap cimport DELIVER_ACKED, OVERLAPS
from aiomos._engine.state cimport (HOOK_FLOW_START, RECORD_CLOSE, RECORD_FLIP, RECORD_START,
                                   RECORDS_SPARE, START_POINTS, CoreState, Record, records_full)
from aiomos._engine.stream cimport (Cursor, GapMark, cursor_attach, cursor_available,
                                    cursor_consume, cursor_data, cursor_detach, cursor_gap,
                                    cursor_pass_gap)
from aiomos._engine.udp cimport DatagramHeader
from aiomos._engine.wire cimport Packet

cdef extern from *:
    """
    /* Counts loads and bytes moved, where the program that embeds Python defines it. */
    extern unsigned long long aio_fuzz_work __attribute__((weak));
    static unsigned long long aio_work_so_far(void)
    { return &aio_fuzz_work ? aio_fuzz_work : 0; }
    """
    uint64_t work_so_far "aio_work_so_far"() noexcept nogil

cdef enum:
    HEAD_PICKUP = 1
    HEAD_VLAN_IN_KEY = 2
    HEAD_LITTLE_MEMORY = 4
    HEAD_FEW_FLOWS = 8
    HEAD_TWICE = 16           # again in bursts of one: with the same outcome
    HEAD_NO_EVENTS = 32
    HEAD_READ_LATE = 64       # readers are only met at the end of their flow
    HEAD_NO_HANDLERS = 128

cdef enum:
    # What may be worth so much work: linear in what came. Measured: the seeds need less than
    # half of it, and a scattered run most: it moves small entries of a sorted list.
    WORK_AT_START = 200_000
    WORK_A_FRAME = 1_200
    WORK_A_BYTE = 4

cdef bint trace = False       # tells events and ends as they come
cdef list REASONS = [name.encode() for name in names.CLOSE_REASONS]
# Of the hash of flows: the same in each run, and as good as a random one, which a few letters
# and zeros are not: then what looks like too much work is the seed's.
cdef bytes SEED = bytes.fromhex(
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89")
cdef int64_t HOUR = 3_600_000_000_000

# What was told. At the end of a capture flows end in the order of their entries, and which of
# these are used again depends on the burst: then the order between events does not count.
cdef struct Told:
    uint64_t digest
    bint unordered

# One flow's reader.
cdef struct View:
    View *next
    Flow *flow
    Cursor cursor[2]
    uint64_t offset[2]        # of the next byte
    uint64_t digest[2]
    bint gapped[2]            # what follows stands behind a gap


cdef uint64_t fold(uint64_t digest, uint64_t value) noexcept nogil:
    digest = (digest ^ value) * <uint64_t>0x9E3779B97F4A7C15
    return digest ^ digest >> 29


cdef uint64_t every_flow(void *context, Flow *f, Packet *p) noexcept nogil:
    return 1


cdef int flow_born(void *context, Flow *f, Packet *p, int event) noexcept nogil:
    cdef View **first = <View **>context
    cdef View *v = <View *>calloc(1, sizeof(View))
    v.flow = f
    v.next = first[0]
    first[0] = v
    f.pins += 1
    f.views = v
    return 0


cdef void event_seen(void *context, const Event *e) noexcept nogil:
    """Reads all of it, so that a pointer into nothing is found."""
    cdef Told *told = <Told *>context
    cdef uint64_t d = fold(0 if told.unordered else told.digest,
                           e.kind | <uint64_t>e.side << 8 | <uint64_t>e.hook << 16)
    cdef uint32_t i
    d = fold(fold(fold(fold(d, e.a), e.b), e.c), <uint64_t>e.time_ns)
    if e.flow != NULL:
        d = fold(d, e.flow.id)
    if trace:
        fprintf(stderr, b"  event %d flow %lld side %d hook %d: %lld %lld %lld at %lld\n", e.kind,
                <long long>(0 if e.flow == NULL else e.flow.id), e.side, e.hook,
                <long long>e.a, <long long>e.b, <long long>e.c, <long long>e.time_ns)
    if e.old != NULL:
        for i in range(e.old_length):
            d = fold(d, e.old[i])
    if e.new != NULL:
        for i in range(e.new_length):
            d = fold(d, e.new[i])
    told.digest = told.digest + d if told.unordered else d


cdef void flush_burst(void *context) noexcept:
    (<Player>context).flush()


@cython.no_gc
cdef class Player:
    """One core, one script."""
    cdef Core core
    cdef Maker maker
    cdef View *views
    cdef const char *wrong
    cdef uint64_t work
    cdef uint64_t flows       # digest of what all flows gave, whatever their order
    cdef Told told
    cdef uint64_t frames
    cdef uint64_t bytes
    cdef uint32_t bursts
    cdef bint late
    cdef bint doubting        # compares payloads even where scripts made two of one number

    def __cinit__(self, bytes head, bint again):
        maker_init(&self.maker, flush_burst, <void *>self)
        self.settle(<const uint8_t *><const char *>head, again)

    def __dealloc__(self):
        maker_release(&self.maker)
        while self.views != NULL:
            self.let_go(self.views)

    cdef void complain(self, const char *text) noexcept:
        if self.wrong == NULL:
            self.wrong = text

    cdef settle(self, const uint8_t *head, bint again):
        cdef uint8_t flags = head[0]
        self.maker.steady = flags & HEAD_TWICE != 0
        if flags & HEAD_TWICE:       # what is refused, and when, may depend on the burst
            flags &= ~<uint8_t>(HEAD_LITTLE_MEMORY | HEAD_FEW_FLOWS | HEAD_READ_LATE)
        self.maker.most = 1 if again else 1 + (head[1] & 63)
        self.late = flags & HEAD_READ_LATE != 0
        self.core = Core(
            seed=SEED, midstream="pickup" if flags & HEAD_PICKUP else "ignore",
            vlan_in_key=bool(flags & HEAD_VLAN_IN_KEY),
            max_flows=3 if flags & HEAD_FEW_FLOWS else 4096,
            memory=4096 << (head[2] >> 2 & 7) if flags & HEAD_LITTLE_MEMORY else 1 << 27,
            fragments=("discard", "first", "last", "discard")[head[3] >> 4 & 3],
            tunnel_in_key=bool(head[3] & 64), statistics=bool(head[3] & 128),
            on_flows_full="refuse" if head[4] & 1 else "evict",
            on_embryonic_full="refuse" if head[4] & 2 else "evict",
            on_memory_full="refuse" if head[4] & 4 else "track")
        self.core.ask(0, (head[3] & 7) % OVERLAPS | (DELIVER_ACKED if head[3] & 8 else 0), False)
        self.core.state.pool.keep = 0     # every block from the heap, so that its end is seen
        self.subscribe(flags, head[1], head[2])

    cdef void subscribe(self, uint8_t flags, uint8_t sides, uint8_t start) noexcept:
        cdef CoreState *cs = self.core.state
        if not flags & HEAD_NO_HANDLERS:
            cs.match = every_flow
            cs.start_masks[(start & 3) % START_POINTS] = 1
            cs.sides_masks[CLIENT] = ~(sides >> 6) & 1
            cs.sides_masks[SERVER] = ~(sides >> 7) & 1
        if not flags & HEAD_NO_EVENTS:
            cs.wanted = (1 << EVENTS) - 1
            cs.event = event_seen
            cs.event_context = &self.told
        cs.hooks[HOOK_FLOW_START] = flow_born
        cs.hook_contexts[HOOK_FLOW_START] = &self.views

    # ---- the script -------------------------------------------------------------------

    cdef void play(self, const uint8_t *at, const uint8_t *end) noexcept:
        cdef Step step
        while self.wrong == NULL and step_read(&at, end, &step):
            if step.op == OP_READ or step.op == OP_BURST:
                self.flush()
            elif step.op == OP_CLOSE:
                self.flush()
                self.close(step.a % 10)
            maker_step(&self.maker, &step)
            if step.op == OP_WAIT and step.a & 0x80:
                self.flush()
                self.tick(self.maker.now)
        self.flush()
        self.finish()

    cdef void flush(self) noexcept:
        """The burst, as the pump takes it (pump.pyx)."""
        cdef Maker *m = &self.maker
        cdef int64_t now
        cdef unsigned i
        if m.n == 0:
            return
        self.core.relieve()             # no work of frames: so much at the most, once a burst
        self.work -= work_so_far()
        self.core.prepare(m.frames, 0, m.n)
        self.work += work_so_far()
        for i in range(m.n):         # no frame comes before a time that was let go by without one
            now = clock_step(&self.core.state.clock, m.frames[i].time_ns,
                             m.frames[min(i + 1, m.n - 1)].time_ns)
            self.take(i, max(now, self.core.state.now))
        self.end_burst()
        maker_release(m)

    cdef void take(self, unsigned i, int64_t now) noexcept:
        cdef CoreState *cs = self.core.state
        cdef uint32_t before
        while records_full(cs) or (cs.wheel.next_ns <= now and not self.core.advance(now)):
            self.consume()
        before = cs.n_records
        self.work -= work_so_far()      # of frames: timers may come again while time goes by
        self.core.take(i, now)
        self.work += work_so_far()
        self.frames += 1
        self.bytes += self.maker.frames[i].cap_len
        if cs.n_records - before > RECORDS_SPARE:
            self.complain(b"records: one frame brought more than are kept spare")
        if cs.full:
            self.consume()

    cdef void tick(self, int64_t now) noexcept:
        if now < self.core.state.now:
            return
        while not self.core.advance(now):
            self.consume()
        self.end_burst()

    cdef void close(self, uint8_t reason) noexcept:
        self.told.unordered = True
        while not self.core.close_flows(reason):
            self.consume()
        self.end_burst()
        self.told.unordered = False

    cdef void end_burst(self) noexcept:
        self.consume()
        self.bursts += 1
        if self.bursts < 16 or self.bursts % 16 == 0:
            self.complain(check_core(self.core.state))

    cdef void finish(self) noexcept:
        """Everything ends and lingers out: then nothing may be held any more."""
        cdef CoreState *cs = self.core.state
        self.close(CLOSE_CAPTURE_END)
        self.complain(check_core(cs))
        while self.views != NULL:
            if self.views.flow != NULL:
                self.complain(b"flow: its end was not told")
            self.let_go(self.views)
        self.tick(cs.now + 3 * HOUR)
        if cs.table.linked or cs.table.live or cs.wheel.armed:
            self.complain(b"end: flows or timers are left")
        if cs.pool.used or cs.pool.blocks:
            self.complain(b"end: blocks of memory are left")
        if getenv(b"AIOMOS_FUZZ_WORK") != NULL:
            fprintf(stderr, b"work %lld, frames %lld, bytes %lld\n", <long long>self.work,
                    <long long>self.frames, <long long>self.bytes)
        if self.work > WORK_AT_START + WORK_A_FRAME * self.frames + WORK_A_BYTE * self.bytes:
            self.complain(b"work: more than linear in what came")

    # ---- readers ----------------------------------------------------------------------

    cdef void consume(self) noexcept:
        cdef CoreState *cs = self.core.state
        cdef uint32_t i
        for i in range(cs.n_records):
            self.consume_one(&cs.records[i])
        self.core.end_burst()

    cdef void consume_one(self, const Record *r) noexcept:
        cdef View *v = <View *>r.flow.views
        if v == NULL:
            self.complain(b"records: one behind the last of its flow")
        elif r.kind == RECORD_START or r.kind == RECORD_FLIP:
            self.start(v, r)
        elif r.kind == RECORD_CLOSE:
            self.read(v)
            self.end_flow(v, r)
        elif not self.late:
            self.read(v)

    cdef void start(self, View *v, const Record *r) noexcept:
        cdef int side
        for side in range(2):
            if v.flow.stream[side] != NULL and v.cursor[side].stream == NULL:
                cursor_attach(&v.cursor[side], v.flow.stream[side], r.position[side],
                              r.missing[side])
                v.offset[side] = v.cursor[side].position + v.cursor[side].skipped

    cdef void read(self, View *v) noexcept:
        cdef int side
        for side in range(2):
            if v.cursor[side].stream != NULL:
                if v.flow.protocol == PROTO_UDP:
                    self.read_datagrams(v)
                else:
                    self.read_side(v, side)

    cdef void read_side(self, View *v, int side) noexcept:
        cdef Cursor *c = &v.cursor[side]
        cdef const GapMark *mark
        cdef uint64_t n
        while True:
            if c.position + c.skipped != v.offset[side]:
                self.complain(b"reader: offsets do not follow each other")
            n = cursor_available(c)
            mark = cursor_gap(c)
            if n:
                self.compare(v, side, cursor_data(c), n)
                cursor_consume(c, n)
                v.offset[side] += n
            elif mark != NULL:
                v.gapped[side] = True
                v.offset[side] += mark.length
                cursor_pass_gap(c)
            else:
                return

    cdef void compare(self, View *v, int side, const uint8_t *data, uint64_t n) noexcept:
        """What was delivered is what was sent under these numbers."""
        cdef const Half *h = &v.flow.h[side]
        cdef uint32_t seq = h.nxt - (h.flags & HALF_FIN_DONE != 0) - <uint32_t>(
            h.offset - v.offset[side])
        cdef uint64_t i, d = v.digest[side]
        cdef unsigned pair = 0
        cdef int speaker = speaker_of(v.flow, side, &pair)
        cdef bint sure = speaker >= 0 and (self.maker.honest or self.doubting)
        if v.gapped[side]:           # where it ends, not how many it is told as
            d = fold(d, v.offset[side])
            v.gapped[side] = False
        for i in range(n):
            d = (d ^ data[i]) * <uint64_t>0x100000001B3
            if sure and data[i] != reference_byte(seq + <uint32_t>i, pair, speaker):
                self.complain(b"reader: other bytes than were sent under these numbers")
        v.digest[side] = d

    cdef void read_datagrams(self, View *v) noexcept:
        cdef DatagramHeader h
        cdef Cursor *c = &v.cursor[CLIENT]
        cdef uint32_t i
        while c.stream != NULL and cursor_available(c):
            if cursor_available(c) < sizeof(h):
                self.complain(b"datagrams: a queue without a whole header")
                return
            memcpy(&h, cursor_data(c), sizeof(h))
            cursor_consume(c, sizeof(h))
            if cursor_available(c) < h.length:
                self.complain(b"datagrams: one is longer than the queue")
                return
            v.digest[0] = fold(v.digest[0], h.length | <uint64_t>h.sender << 32)
            for i in range(h.length):
                v.digest[0] = fold(v.digest[0], cursor_data(c)[i])
            if h.length:
                cursor_consume(c, h.length)

    cdef void end_flow(self, View *v, const Record *r) noexcept:
        cdef const Flow *f = v.flow
        cdef uint64_t d = fold(fold(f.id, r.side), <uint64_t>r.time_ns)
        cdef int side
        for side in range(2):
            d = fold(fold(d, v.digest[side]), v.offset[side])
            d = fold(fold(d, f.h[side].packets), f.gaps[side])
            d = fold(d, f.retransmissions[side])
        self.flows += d
        if trace:
            fprintf(stderr, b"  end of flow %lld: %s, digest %llx\n", <long long>f.id,
                    <const char *><bytes>REASONS[r.side], <unsigned long long>d)
        self.let_go(v)

    cdef void let_go(self, View *v) noexcept:
        cdef View **link = &self.views
        cdef Flow *f = v.flow
        while link[0] != v:
            link = &link[0].next
        link[0] = v.next
        cursor_detach(&v.cursor[0])
        cursor_detach(&v.cursor[1])
        flow_unviewed(self.core.state, f)
        flow_unpin(self.core.state, f)
        free(v)


cdef int speaker_of(const Flow *f, int side, unsigned *pair) noexcept nogil:
    """The pair of a flow, and which of its ends this side is; -1: of no pair."""
    cdef int i
    for i in range(2):
        pair[0] = <unsigned>(f.ports[i] - FIRST_PORT)
        if f.ports[i] >= FIRST_PORT and pair[0] < PAIRS:
            return 0 if i == side else 1
    return -1


cdef const char *play_script(const uint8_t *script, size_t size, bint doubting) noexcept:
    """What was wrong, or NULL."""
    cdef Player player, again
    cdef bytes head
    if size < HEAD_SIZE:
        return NULL
    head = script[:HEAD_SIZE]
    player = Player(head, False)
    player.doubting = doubting
    player.play(script + HEAD_SIZE, script + size)
    if player.wrong != NULL or not script[0] & HEAD_TWICE:
        return player.wrong
    again = Player(head, True)
    if trace:
        fprintf(stderr, b"again, in bursts of one\n")
    again.play(script + HEAD_SIZE, script + size)
    if again.wrong != NULL:
        return again.wrong
    if again.flows != player.flows:
        return b"bursts: flows gave something else in bursts of one"
    if again.told.digest != player.told.digest:
        return b"bursts: events were others in bursts of one"
    return NULL


def play(bytes script, *, bint doubting=False, bint tell=False):
    """Plays a script; what was wrong, or None. Doubting, it compares payloads in any case;
    telling, it writes what happens to standard error."""
    global trace
    trace = tell
    cdef const char *wrong = play_script(<const uint8_t *><const char *>script, len(script),
                                         doubting)
    return None if wrong == NULL else wrong.decode()


cdef int fuzz_one(const uint8_t *script, size_t size) noexcept:
    """What LLVMFuzzerTestOneInput calls (tests/fuzz/main.c), the GIL held."""
    cdef const char *wrong = play_script(script, size, False)
    if wrong != NULL:
        fprintf(stderr, "FINDING: %s\n", wrong)
        abort()
    return 0


ENTRY = <size_t>&fuzz_one
