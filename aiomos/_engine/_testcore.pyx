"""Hook of the test suite onto the core: every flow has a reader (with -Dtesting_hooks=true)."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aiomos._engine import names
from aiomos._engine._testframes cimport FrameBox
from aiomos._engine._teststreams cimport read_all
from aiomos._engine.clock cimport clock_step
from aiomos._engine.core cimport Core
from aiomos._engine.events cimport Event
from aiomos._engine.flow cimport Flow
from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.flowtable cimport FlowTable
from aiomos._engine.life cimport flow_unpin, flow_unviewed
from aiomos._engine.limits cimport CLIENT, PROTO_UDP, SERVER
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame
from aiomos._engine.state cimport (HOOK_FLOW_START, RECORD_CLOSE, RECORD_ESTABLISHED, RECORD_FLIP,
                                   RECORD_START, Record, records_full)
from aiomos._engine.stream cimport (STREAM_EOF, Cursor, cursor_attach, cursor_available,
                                    cursor_consume, cursor_data, cursor_detach)
from aiomos._engine.timers cimport Wheel
from aiomos._engine.udp cimport DatagramHeader
from aiomos._engine.facts import STATES
from aiomos._engine.wire cimport Packet


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
        core.prepare(frames, 0, n)
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
