"""Hooks of the test suite onto clock, pool, timers and flow table (with -Dtesting_hooks=true)."""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from aiomos._engine._testframes cimport FrameBox
from aiomos._engine.clock cimport Clock, clock_needs_next, clock_step
from aiomos._engine.flow cimport FLOW_CLIENT_LOW, FLOW_IN_WHEEL, Flow
from aiomos._engine.flowkey cimport KeySeed, flow_key
from aiomos._engine.flowtable cimport (FlowTable, table_add, table_find, table_free, table_init,
                                       table_release, table_unlink)
from aiomos._engine.pool cimport Pool, pool_clear, pool_get, pool_init, pool_put
from aiomos._engine.timers cimport (Wheel, wheel_arm, wheel_disarm, wheel_init, wheel_pop,
                                    wheel_start)
from aiomos._engine.wire cimport DECODE_ALL, Packet, packet_dst, packet_src, wire_decode

FLOW_SIZE = sizeof(Flow)
HOT_FLOW_SIZE = <size_t>&(<Flow *>NULL).views


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
