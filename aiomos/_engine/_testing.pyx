"""Hooks of the test suite onto the engine's internals (only with -Dtesting_hooks=true).

Each class wraps one layer as it is, without improving it. Frames given to the engine lie in
blocks of exactly their size, so that valgrind and sanitizers see every byte read outside.
"""
cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from itertools import pairwise

from aiomos._engine import names
from aiomos._engine.options import check_options
from aiomos._engine.assembler cimport Arrival, asm_add, asm_drain, asm_fin, asm_moved, asm_truncate
from aiomos._engine.clock cimport Clock, clock_needs_next, clock_step
from aiomos._engine.core cimport Core
from aiomos._engine.events cimport Event
from aiomos._engine.flow cimport FLOW_CLIENT_LOW, FLOW_IN_WHEEL, Flow
from aiomos._engine.flowkey cimport KeySeed, flow_key
from aiomos._engine.flowscope cimport SCOPE_TUNNEL, SCOPE_VLAN, flow_scope
from aiomos._engine.flowtable cimport (FlowTable, table_add, table_find, table_free, table_init,
                                       table_release, table_unlink)
from aiomos._engine.life cimport flow_unpin, flow_unviewed
from aiomos._engine.limits cimport CLIENT, PROTO_TCP, PROTO_UDP, SERVER
from aiomos._engine.pool cimport Pool, pool_clear, pool_get, pool_init, pool_put
from aiomos._engine.seq cimport seq_diff, seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame, aio_seg
from aiomos._engine.state cimport (HOOK_FLOW_START, RECORD_CLOSE, RECORD_ESTABLISHED, RECORD_FLIP,
                                   RECORD_START,
                                   Record, records_full)
from aiomos._engine.stream cimport (STREAM_EOF, Cursor, GapMark, Piece, Span, Stream,
                                    cursor_attach, cursor_available, cursor_consume, cursor_data,
                                    cursor_detach, cursor_gap, cursor_pass_gap, stream_append,
                                    stream_behind_from, stream_cut, stream_drop, stream_end,
                                    stream_forget, stream_gap, stream_new)
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse
from aiomos._engine.timers cimport (Wheel, wheel_arm, wheel_disarm, wheel_init, wheel_pop,
                                    wheel_start)
from aiomos._engine.udp cimport DatagramHeader
from aiomos._engine.facts import STATES
from aiomos._engine.wire cimport (DECODE_ALL, WIRE_OTHER, WIRE_UDP, Packet, Tunnel, packet_dst,
                                  packet_src, wire_decode)

ASM_NEW, ASM_DUPLICATE, ASM_DIFFERS, ASM_LIMIT = 1, 2, 4, 8
FLOW_SIZE = sizeof(Flow)
STREAM_SIZE = sizeof(Stream)
HOT_FLOW_SIZE = <size_t>&(<Flow *>NULL).views


# ---- frames ------------------------------------------------------------------------------


@cython.no_gc
cdef class FrameBox:
    """A frame whose segments lie in blocks of exactly their size."""
    cdef aio_frame frame
    cdef aio_seg *segs

    def __cinit__(self, data, int64_t time_ns=0, *, link_type=1, cap_len=None, wire_len=None,
                  head_len=None, cuts=(), vlan=(), direction=0, csum_ip=0, csum_l4=0):
        cdef bytes raw = b"" if isinstance(data, tuple) else bytes(data)
        cdef Py_ssize_t i
        marks = sorted({0, len(raw), *([] if head_len is None else [head_len]), *cuts})
        pieces = [raw[a:b] for a, b in pairwise(marks)] or [b""]
        memset(&self.frame, 0, sizeof(aio_frame))
        self.segs = <aio_seg *>calloc(len(pieces), sizeof(aio_seg))
        for i, piece in enumerate(pieces):
            self.segs[i].data = exact_copy(piece)
            self.segs[i].len = len(piece)
            self.segs[i].next = NULL
            if i:
                self.segs[i - 1].next = &self.segs[i]
        self.frame.data = self.segs[0].data
        self.frame.next = self.segs[0].next
        self.frame.head_len = self.segs[0].len
        self.frame.cap_len = len(raw) if cap_len is None else cap_len
        self.frame.wire_len = self.frame.cap_len if wire_len is None else wire_len
        self.frame.time_ns = time_ns
        self.frame.link_type = link_type
        self.frame.direction = direction
        self.frame.csum_ip = csum_ip
        self.frame.csum_l4 = csum_l4
        for i, tci in enumerate(vlan):
            self.frame.vlan[i] = tci
            self.frame.n_vlan = <uint8_t>(i + 1)

    def __dealloc__(self):
        cdef const aio_seg *seg = self.segs
        while seg != NULL:
            free(<void *>seg.data)
            seg = seg.next
        free(self.segs)


cdef const uint8_t *exact_copy(bytes data) except NULL:
    cdef size_t size = PyBytes_GET_SIZE(data)
    cdef uint8_t *block = <uint8_t *>malloc(size if size else 1)
    if block == NULL:
        raise MemoryError
    memcpy(block, PyBytes_AsString(data), size)
    return block


# ---- leaves ------------------------------------------------------------------------------


def seq_compare(uint32_t a, uint32_t b):
    """(diff, lt, le, gt, ge) of two sequence numbers."""
    return seq_diff(a, b), seq_lt(a, b), seq_le(a, b), seq_gt(a, b), seq_ge(a, b)


SCOPES = {"vlan": SCOPE_VLAN, "tunnel": SCOPE_TUNNEL}


def decode(data, *, scope=(), bytes seed=b"", without=(), **meta):
    """What wire_decode() makes of a frame, with its key when it has one; fields as a dict."""
    cdef FrameBox box = FrameBox(data, **meta)
    cdef Packet p
    cdef KeySeed secret
    memset(&p, 0, sizeof(Packet))
    wire_decode(&p, &box.frame, box.frame.data, box.frame.head_len,
                check_options({"decode": set(names.DECODERS).difference(without)})["decode"])
    found = {
        "status": names.STATUSES[p.status], "ip_version": p.ip_version,
        "protocol": p.protocol, "ether_type": p.ether_type,
        "vlan": [p.vlan[i] for i in range(p.n_vlan)], "ethernet": p.link != NULL,
        "tunnels": [tunnel_told(&p.tunnel[i]) for i in range(p.n_tunnels)],
    }
    if p.ip != NULL:
        size = 4 if p.ip_version == 4 else 16
        found["src"] = PyBytes_FromStringAndSize(<const char *>packet_src(&p), size)
        found["dst"] = PyBytes_FromStringAndSize(<const char *>packet_dst(&p), size)
    if p.status <= WIRE_OTHER:
        found.update(payload_off=p.payload_off, payload_len=p.payload_len,
                     payload_cap=p.payload_cap)
    if p.status <= WIRE_UDP:
        seed = seed.ljust(sizeof(KeySeed), b"\x5a")
        memcpy(&secret, <const char *>seed, sizeof(KeySeed))
        flow_key(&p, &secret, flow_scope(&p, &secret, sum({SCOPES[name] for name in scope})))
        found.update(sport=p.sport, dport=p.dport, l4_len=p.l4_len, hash=p.hash,
                     key=(p.k0, p.k1), from_low=bool(p.from_low))
        if p.protocol == PROTO_TCP:
            found.update(seq=p.seq, ack=p.ack, flags=p.flags, window=p.window,
                         options=PyBytes_FromStringAndSize(<const char *>p.l4 + 20, p.l4_len - 20))
    return found


cdef tuple tunnel_told(const Tunnel *t):
    """(kind, id or None, outer source, outer destination)"""
    cdef int at = 12 if t.ip_version == 4 else 8, size = 4 if t.ip_version == 4 else 16
    ends = [b"", b""]
    if t.ip != NULL:
        ends = [PyBytes_FromStringAndSize(<const char *>t.ip + at + i * size, size)
                for i in range(2)]
    return names.DECODERS[t.kind], t.id if t.has_id else None, *ends


def parse_options(bytes data):
    """What tcpopt_parse() makes of an option list."""
    cdef TcpOptions o
    cdef const uint8_t *block = exact_copy(data)
    tcpopt_parse(&o, block, <uint32_t>len(data))
    free(<void *>block)
    return {"mss": o.mss, "window_scale": o.window_scale if o.has_window_scale else None,
            "timestamp": (o.ts_value, o.ts_echo) if o.has_timestamp else None,
            "sack_permitted": bool(o.sack_permitted), "malformed": bool(o.malformed),
            "signature": o.signature}


cdef class ClockHook:
    """The engine's clock."""
    cdef Clock clock

    def step(self, int64_t stamp, following=None):
        """Engine time of a stamp; `following` is the stamp after it."""
        return clock_step(&self.clock, stamp, stamp if following is None else following)

    def needs_next(self, int64_t stamp):
        return clock_needs_next(&self.clock, stamp)

    @property
    def counts(self):
        """(steps back, jumps)"""
        return self.clock.steps_back, self.clock.jumps


@cython.no_gc
cdef class PoolHook:
    """A Pool, its blocks named by number."""
    cdef Pool pool
    cdef dict blocks
    cdef uint64_t last

    def __cinit__(self, uint64_t budget=1 << 30):
        pool_init(&self.pool, budget)
        self.blocks = {}

    def __dealloc__(self):
        for address, size in self.blocks.values():
            pool_put(&self.pool, <void *><size_t>address, size)
        pool_clear(&self.pool)

    def get(self, uint64_t size):
        """(number, size got), or None when refused. Every byte of the block is written."""
        cdef uint32_t got = 0
        cdef void *block = pool_get(&self.pool, size, &got)
        if block == NULL:
            return None
        memset(block, 0xA5, got)
        self.last += 1
        self.blocks[self.last] = (<size_t>block, got)
        return self.last, got

    def put(self, number):
        address, size = self.blocks.pop(number)
        pool_put(&self.pool, <void *><size_t>address, size)

    def counts(self):
        return pool_counts(&self.pool)


cdef dict pool_counts(const Pool *pool):
    return {"used": pool.used, "blocks": pool.blocks, "refused": pool.refused, "heap": pool.heap,
            "peak": pool.peak}


cdef class WheelHook:
    """A Wheel over entries 1..n."""
    cdef Wheel wheel
    cdef Flow *flows

    def __cinit__(self, uint32_t n):
        self.flows = <Flow *>calloc(n + 1, sizeof(Flow))
        for i in range(n + 1):
            self.flows[i].index = i
        wheel_init(&self.wheel, self.flows)

    def __dealloc__(self):
        free(self.flows)

    def start(self, int64_t now):
        wheel_start(&self.wheel, now)

    def arm(self, uint32_t i, int64_t due):
        wheel_arm(&self.wheel, &self.flows[i], due)

    def disarm(self, uint32_t i):
        wheel_disarm(&self.wheel, &self.flows[i])

    def pop(self, int64_t now):
        """The number of the next entry whose time has come; 0: none."""
        cdef Flow *f = wheel_pop(&self.wheel, now)
        return 0 if f == NULL else f.index

    def is_armed(self, uint32_t i):
        return bool(self.flows[i].flags & FLOW_IN_WHEEL)

    @property
    def armed(self):
        return self.wheel.armed

    @property
    def next_ns(self):
        return self.wheel.next_ns


# ---- flow table --------------------------------------------------------------------------


cdef class TableHook:
    """A FlowTable; packets are frames, or a bare (key, hash) that stands for an IPv4 key."""
    cdef FlowTable table

    def __cinit__(self, uint32_t capacity, bytes seed=b""):
        seed = seed.ljust(sizeof(KeySeed), b"\x5a")
        if table_init(&self.table, capacity, <const uint8_t *><const char *>seed):
            raise MemoryError

    def __dealloc__(self):
        table_free(&self.table)

    cdef void packet(self, FrameBox box, object what, Packet *p):
        """Fills *p, which points into the box."""
        memset(p, 0, sizeof(Packet))
        if isinstance(what, tuple):
            p.k0, p.hash = what
            p.ip_version = 4
            return
        wire_decode(p, &box.frame, box.frame.data, box.frame.head_len, DECODE_ALL)
        flow_key(p, &self.table.seed, 0)

    def add(self, what):
        """Number of the new entry, whose client is the sender; 0: refused."""
        cdef Packet p
        cdef FrameBox box = FrameBox(what)
        cdef Flow *f
        self.packet(box, what, &p)
        f = table_add(&self.table, &p)
        if f == NULL:
            return 0
        if p.ip != NULL:
            f.flags |= FLOW_CLIENT_LOW if p.from_low else 0
            size = 4 if p.ip_version == 4 else 16
            memcpy(f.address[0], packet_src(&p), size)
            memcpy(f.address[1], packet_dst(&p), size)
            f.ports = [p.sport, p.dport]
        return f.index

    def find(self, what):
        cdef Packet p
        cdef FrameBox box = FrameBox(what)
        cdef Flow *f
        self.packet(box, what, &p)
        f = table_find(&self.table, &p)
        return 0 if f == NULL else f.index

    def unlink(self, uint32_t i):
        table_unlink(&self.table, &self.table.flows[i])

    def release(self, uint32_t i):
        table_release(&self.table, &self.table.flows[i])

    def counts(self):
        return {"linked": self.table.linked, "live": self.table.live, "high": self.table.high,
                "slots": self.table.mask + 1, "refused": self.table.refused}

    def steps(self):
        """From the homes of all entries of the index to where they stand."""
        cdef const FlowTable *t = &self.table
        cdef uint32_t i, steps = 0
        for i in range(t.mask + 1):
            if t.slots[i].index:
                steps += (i - (t.slots[i].hash & t.mask)) & t.mask
        return steps


# ---- streams -----------------------------------------------------------------------------


cdef class CursorBox:
    cdef Cursor cursor


cdef list read_all(Cursor *c, list into, uint64_t most):
    """Reads up to most bytes; gaps as (offset, length, cause); neighbouring bytes as one."""
    cdef const GapMark *mark
    cdef uint64_t n
    while c.stream != NULL and most:
        n = min(cursor_available(c), most)
        if n:
            data = PyBytes_FromStringAndSize(<const char *>cursor_data(c), n)
            cursor_consume(c, n)
            if into and isinstance(into[len(into) - 1], bytes):
                data = into.pop() + data
            into.append(data)
            most -= n
            continue
        mark = cursor_gap(c)
        if mark == NULL:
            break
        into.append((mark.offset, mark.length, names.GAP_CAUSES[mark.cause]))
        cursor_pass_gap(c)
    return into


cdef symbols_of(const Piece *p):
    """Its bytes; None: a FIN."""
    if p.data == NULL:
        return None
    return PyBytes_FromStringAndSize(<const char *>p.data + p.skip, p.length)


@cython.no_gc
cdef class StreamHook:
    """A Stream with its own pool, its assembler and numbered readers."""
    cdef Pool pool
    cdef Stream *stream
    cdef dict cursors
    cdef int last

    def __cinit__(self, uint64_t offset=0, uint64_t budget=1 << 30, policy="first"):
        pool_init(&self.pool, budget)
        self.stream = stream_new(&self.pool, offset)
        self.cursors = {}
        if self.stream == NULL:
            raise MemoryError
        self.stream.policy = names.OVERLAPS.index(policy)

    def __dealloc__(self):
        self.drop()
        pool_clear(&self.pool)

    def drop(self):
        """Readers go, then the flow's reference: nothing may be left in the pool."""
        for box in self.cursors.values():
            cursor_detach(&(<CursorBox>box).cursor)
        self.cursors.clear()
        if self.stream != NULL:
            stream_drop(self.stream)
            self.stream = NULL

    # -- delivery --

    def append(self, data, cuts=()):
        """False when memory was refused; with cuts the bytes lie in several segments."""
        cdef Span span
        cdef FrameBox box = FrameBox(data, cuts=cuts)
        span_of(&span, box, bool(cuts))
        return stream_append(self.stream, &span)

    def gap(self, uint64_t length, cause="lost"):
        stream_gap(self.stream, length, names.GAP_CAUSES.index(cause))

    def cut(self, uint64_t position):
        return stream_cut(self.stream, position)

    def keep(self, uint32_t history):
        """So many bytes stay behind readers."""
        self.stream.history = history

    def forget(self):
        return stream_forget(self.stream)

    @property
    def behind(self):
        """First offset at which an old byte is known."""
        return stream_behind_from(self.stream)

    def flag(self, uint16_t flags):
        self.stream.flags |= flags

    @property
    def end(self):
        return stream_end(self.stream)

    @property
    def missing(self):
        return self.stream.missing

    @property
    def held(self):
        """(bytes in the buffer, gap marks)"""
        return self.stream.fill, self.stream.n_marks

    def counts(self):
        return pool_counts(&self.pool)

    # -- reading --

    def attach(self, position=None, missing=None):
        """A reader, by default at the end; its number."""
        box = CursorBox()
        cursor_attach(&box.cursor, self.stream,
                      stream_end(self.stream) if position is None else position,
                      self.stream.missing if missing is None else missing)
        self.last += 1
        self.cursors[self.last] = box
        return self.last

    def detach(self, number):
        cursor_detach(&(<CursorBox>self.cursors.pop(number)).cursor)

    def read(self, number, uint64_t most=1 << 62):
        return read_all(&(<CursorBox>self.cursors[number]).cursor, [], most)

    def available(self, number):
        return cursor_available(&(<CursorBox>self.cursors[number]).cursor)

    def offset(self, number):
        cdef Cursor *c = &(<CursorBox>self.cursors[number]).cursor
        return c.position + c.skipped

    # -- out-of-order store --

    @property
    def moved(self):
        """Bytes of entries moved so far, in all stores."""
        return asm_moved

    def add(self, uint32_t seq, data, cuts=()):
        cdef Arrival a
        cdef FrameBox box = FrameBox(data, cuts=cuts)
        span_of(&a.span, box, bool(cuts))
        a.seq = seq
        a.begin = seq
        a.end = seq + a.span.length
        return asm_add(self.stream, &a)

    def add_fin(self, uint32_t seq, begin=None):
        return asm_fin(self.stream, seq, seq if begin is None else begin)

    def drain(self, uint32_t nxt, upto=None):
        """(new nxt, whether memory was refused)"""
        cdef bint failed = False
        nxt = asm_drain(self.stream, nxt, nxt + (1 << 30) if upto is None else upto, &failed)
        return nxt, failed

    def truncate(self, uint32_t seq):
        asm_truncate(self.stream, seq)

    def pieces(self):
        """[(seq, bytes)], in the order of the store; of a FIN, None."""
        cdef Stream *s = self.stream
        return [(s.pieces[i].seq, symbols_of(&s.pieces[i])) for i in range(s.n_pieces)]

    @property
    def early(self):
        """(bytes, pieces)"""
        return self.stream.early, self.stream.n_pieces


cdef void span_of(Span *span, FrameBox box, bint chained):
    span.frame = &box.frame
    span.data = NULL
    if not chained:
        span.data = box.frame.data
    span.offset = 0
    span.length = box.frame.cap_len


# ---- the core ----------------------------------------------------------------------------


cdef uint64_t every_flow(void *context, Flow *f, Packet *p) noexcept nogil:
    return 1


@cython.no_gc
cdef class FlowLog:
    """What one flow told: filled by a CoreDriver. Attributes of the entry stay when it is gone."""
    cdef Flow *fl
    cdef Core core
    cdef Cursor cursor[2]
    cdef readonly list events           # ("start", offsets), ("established",), ("close", reason)
    cdef readonly tuple items           # per side: bytes and (offset, length, cause), in order
    cdef readonly tuple start           # per side: offset at which the reader began; None: not
    cdef readonly list datagrams        # (sender, bytes, stamp)
    cdef readonly list eof
    cdef dict last

    def __cinit__(self):
        self.events = []
        self.items = ([], [])
        self.datagrams = []
        self.eof = [False, False]

    def __dealloc__(self):
        self.let_go()

    cdef void let_go(self):
        cdef Flow *f = self.fl
        if f == NULL:
            return
        self.fl = NULL
        cursor_detach(&self.cursor[0])
        cursor_detach(&self.cursor[1])
        flow_unviewed(self.core.state, f)
        flow_unpin(self.core.state, f)

    cdef void begin(self, const Record *r):
        self.events.append(("start", r.time_ns))
        self.start = tuple([r.position[i] + r.missing[i] if self.fl.stream[i] != NULL else None
                            for i in range(2)])
        for i in range(2):
            if self.fl.stream[i] != NULL:
                cursor_attach(&self.cursor[i], self.fl.stream[i], r.position[i], r.missing[i])

    cdef void read_other(self, const Record *r):
        for i in range(2):
            if self.fl.stream[i] != NULL and self.cursor[i].stream == NULL:
                cursor_attach(&self.cursor[i], self.fl.stream[i], r.position[i], r.missing[i])

    cdef void read(self):
        for i in range(2):
            if self.fl.protocol == PROTO_UDP:
                self.read_datagrams()
            elif self.cursor[i].stream != NULL:
                read_all(&self.cursor[i], self.items[i], 1 << 62)
                self.eof[i] = bool(self.cursor[i].stream.flags & STREAM_EOF)

    cdef void read_datagrams(self):
        cdef DatagramHeader h
        cdef Cursor *c = &self.cursor[CLIENT]
        while c.stream != NULL and cursor_available(c):
            memcpy(&h, cursor_data(c), sizeof(h))
            cursor_consume(c, sizeof(h))
            data = b""
            if h.length:
                data = PyBytes_FromStringAndSize(<const char *>cursor_data(c), h.length)
                cursor_consume(c, h.length)
            self.datagrams.append((h.sender, data, h.time_ns))

    cdef void end(self, const Record *r):
        self.read()
        self.events.append(("close", names.CLOSE_REASONS[r.side]))
        self.last = self.look()
        self.let_go()

    def look(self):
        """The entry as it is, or as it was when the flow closed."""
        cdef Flow *f = self.fl
        if f == NULL:
            return self.last
        return {
            "id": f.id, "flags": f.flags, "start_ns": f.start_ns, "born_ns": f.born_ns,
            "client": (PyBytes_FromStringAndSize(<const char *>f.address[0],
                                                 4 if f.ip_version == 4 else 16), f.ports[0]),
            "server": (PyBytes_FromStringAndSize(<const char *>f.address[1],
                                                 4 if f.ip_version == 4 else 16), f.ports[1]),
            "states": tuple([STATES[f.h[i].state] for i in range(2)]),
            "half": tuple([dict(f.h[i], isn=f.isn[i], fin=f.fin[i]) for i in range(2)]),
            "mss": (f.mss[0], f.mss[1]), "vlan": [f.vlan[i] for i in range(f.n_vlan)],
            "retransmissions": (f.retransmissions[0], f.retransmissions[1]),
            "gaps": (f.gaps[0], f.gaps[1]), "reason": names.CLOSE_REASONS[f.close_reason],
        }

    def __getattr__(self, name):
        found = self.look()
        if found is None or name not in found:
            raise AttributeError(name)
        return found[name]

    def data(self, side):
        """The bytes of a side, gaps left out."""
        return b"".join([item for item in self.items[side] if isinstance(item, bytes)])

    def gap_list(self, side):
        return [item for item in self.items[side] if isinstance(item, tuple)]


cdef int flow_born(void *context, Flow *f, Packet *p, int event) noexcept with gil:
    cdef CoreDriver driver = <CoreDriver>context
    cdef FlowLog log = FlowLog()
    log.fl = f
    log.core = driver.core
    f.pins += 1
    f.views = <void *>log
    driver.flows.append(log)
    return 0


cdef void event_told(void *context, const Event *e) noexcept nogil:
    with gil:
        (<CoreDriver>context).note_event(e)


@cython.no_gc
cdef class CoreDriver:
    """A Core whose every flow has one handler, and what its flows told.

    ``start`` is "syn", "established" or "data"; ``sides`` a bit mask; with ``reading`` False
    nothing is read until the flow closes; with ``handlers`` False no flow has a handler.
    ``listen`` names events (names.EVENTS) that are written down in ``told``.
    Drives the core as the pump does (pump.pyx: take_frames), without tasks.
    """
    cdef readonly Core core
    cdef readonly list flows
    cdef readonly list told             # dicts: event, flow (a FlowLog or None), side, hook, ...
    cdef public bint reading
    cdef readonly int interruptions     # bursts that ended because records or a side were full

    def __init__(self, *, start="established", int sides=3, reading=True, handlers=True, listen=(),
                 policy="first", deliver="arrival", **options):
        self.core = Core(**{"max_flows": 65536, "seed": b"test", **options})
        self.flows = []
        self.told = []
        self.reading = reading
        cs = self.core.state
        for name in listen:
            cs.wanted |= 1 << names.EVENTS.index(name)
        cs.event_context = <void *>self
        cs.event = event_told
        if handlers:
            cs.match = every_flow
            cs.start_masks[("syn", "established", "data").index(start)] = 1
            cs.sides_masks[CLIENT] = sides & 1
            cs.sides_masks[SERVER] = sides >> 1 & 1
            self.core.ask(0, names.OVERLAPS.index(policy) | (8 if deliver == "acked" else 0), False)
        cs.hooks[HOOK_FLOW_START] = flow_born
        cs.hook_contexts[HOOK_FLOW_START] = <void *>self

    cdef void note_event(self, const Event *e):
        self.told.append({
            "event": names.EVENTS[e.kind], "side": e.side, "hook": e.hook, "time_ns": e.time_ns,
            "flow": None if e.flow == NULL or e.flow.views == NULL else <object>e.flow.views,
            "a": e.a, "b": e.b, "c": e.c, "packet": e.packet != NULL,
            "old": PyBytes_FromStringAndSize(<const char *>e.old, e.old_length if e.old else 0),
            "new": PyBytes_FromStringAndSize(<const char *>e.new, e.new_length if e.new else 0),
        })

    def anomalies(self):
        """The kinds of the anomalies told, in order."""
        return [names.anomaly_name(e["a"]) for e in self.told if e["event"] == "Anomaly"]

    def input(self, data, int64_t time_ns, **meta):
        """One frame, in a burst of its own."""
        self.take([FrameBox(data, time_ns, **meta)])

    def burst(self, frames, clocked=False):
        """(bytes, ns) pairs as one burst, at most 64; `clocked`: ns are stamps, not time."""
        self.take([FrameBox(data, ns) for data, ns in frames], clocked)

    cdef take(self, list boxes, bint clocked=False):
        cdef aio_frame frames[AIO_BURST_MAX]
        cdef unsigned n = <unsigned>len(boxes), i = 0
        cdef int64_t now
        cdef Core core = self.core
        for i, box in enumerate(boxes):
            frames[i] = (<FrameBox>box).frame
        core.relieve()
        core.prepare(frames, n)
        i = 0
        while i < n:
            now = frames[i].time_ns
            if clocked:
                now = clock_step(&core.state.clock, now, frames[min(i + 1, n - 1)].time_ns)
            while records_full(core.state) or (core.state.wheel.next_ns <= now
                                               and not core.advance(now)):
                self.interruptions += 1
                self.consume()
            core.take(i, now)
            i += 1
            if core.state.full:
                self.interruptions += 1
                self.consume()
        self.consume()

    def tick(self, int64_t now):
        """Time without a frame."""
        while not self.core.advance(now):
            self.interruptions += 1
            self.consume()
        self.consume()

    def close_all(self, reason="CAPTURE_END"):
        number = names.CLOSE_REASONS.index(reason)
        while not self.core.close_flows(number):
            self.interruptions += 1
            self.consume()
        self.consume()

    cdef consume(self):
        cdef uint32_t i
        cdef Record *r
        for i in range(self.core.state.n_records):
            r = &self.core.state.records[i]
            if r.flow.views == NULL:
                raise AssertionError("a record behind the flow's last")
            self.consume_one(<FlowLog>r.flow.views, r)
        self.core.end_burst()

    cdef consume_one(self, FlowLog log, const Record *r):
        if r.kind == RECORD_START:
            log.begin(r)
        elif r.kind == RECORD_FLIP:
            log.read_other(r)
        elif r.kind == RECORD_CLOSE:
            log.end(r)
        elif r.kind == RECORD_ESTABLISHED:
            log.events.append(("established", r.time_ns))
        elif self.reading:
            log.read()

    def forget(self):
        """Lets go of flows that are still open, as when their handlers ended."""
        for log in self.flows:
            (<FlowLog>log).let_go()

    def counters(self):
        """Those that are not 0."""
        return {name: n for name, n in self.core.counters().items() if n}

    def usage(self):
        return self.core.usage()

    def seed(self):
        """Of the hash of flow keys."""
        return PyBytes_FromStringAndSize(<const char *>&self.core.state.table.seed, sizeof(KeySeed))

    def probe_most(self):
        """How far from its home the farthest entry of the index stands."""
        cdef const FlowTable *t = &self.core.state.table
        cdef uint32_t i, most = 0
        for i in range(t.mask + 1):
            if t.slots[i].index:
                most = max(most, (i - (t.slots[i].hash & t.mask)) & t.mask)
        return most

    def timers(self):
        """Now, the wheel's tick and next tick, and {entry: (slot, due tick)}."""
        cdef Wheel *w = &self.core.state.wheel
        cdef uint32_t slot, i
        found = {}
        for slot in range(1025):
            i = w.head[slot]
            while i:
                found[i] = (slot, w.flows[i].timer_tick)
                i = w.flows[i].timer_next
        return self.core.state.now, w.tick, w.next_tick, found
