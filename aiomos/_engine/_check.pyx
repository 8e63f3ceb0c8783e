"""Flow table, timer wheel, streams and out-of-order stores, each against what it promises."""
from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.flow cimport (FLOW_DYING, FLOW_IN_WHEEL, FLOW_UNLINKED, Flow)
from aiomos._engine.flowtable cimport FlowTable
from aiomos._engine.limits cimport PROTO_TCP
from aiomos._engine.pool cimport Pool
from aiomos._engine.seq cimport seq_diff, seq_lt
from aiomos._engine.state cimport RECORDS, CoreState
from aiomos._engine.stream cimport Cursor, GapMark, Piece, Stream
from aiomos._engine.timers cimport SLOT_FIRING, TICK_SHIFT, WHEEL_SLOTS, Wheel


cdef const char *check_core(CoreState *cs) noexcept nogil:
    cdef const char *wrong = check_table(&cs.table)
    if wrong == NULL:
        wrong = check_wheel(&cs.wheel, &cs.table)
    if wrong == NULL:
        wrong = check_flows(cs)
    if wrong == NULL:
        wrong = check_pool(&cs.pool)
    if wrong == NULL and cs.n_records > RECORDS:
        wrong = b"records: more than there is room for"
    return wrong


# ---- table -------------------------------------------------------------------------------


cdef const char *check_table(const FlowTable *t) noexcept nogil:
    cdef const char *wrong
    cdef uint32_t i, linked = 0
    for i in range(t.mask + 1):
        if t.slots[i].index:
            linked += 1
            wrong = check_slot(t, i)
            if wrong != NULL:
                return wrong
    if linked != t.linked:
        return b"table: another number of flows is linked than is counted"
    return check_free_list(t)


cdef const char *check_slot(const FlowTable *t, uint32_t i) noexcept nogil:
    """It names a living entry, which is found from its home slot."""
    cdef uint32_t index = t.slots[i].index
    cdef const Flow *f = &t.flows[index]
    cdef uint32_t home = t.slots[i].hash & t.mask
    if index > t.high or f.index != index:
        return b"table: a slot names an entry that is not its own"
    if f.flags & FLOW_UNLINKED:
        return b"table: a slot names an entry that was unlinked"
    while home != i:
        if t.slots[home].index == 0:
            return b"table: a flow cannot be found from its home slot"
        home = (home + 1) & t.mask
    return NULL


cdef const char *check_free_list(const FlowTable *t) noexcept nogil:
    cdef uint32_t i = t.free_head, n = 0
    while i:
        n += 1
        if i > t.high or n > t.high:
            return b"table: the free list runs in a circle, or out of the slab"
        if not t.flows[i].flags & FLOW_UNLINKED:
            return b"table: a linked entry is on the free list"
        if t.flows[i].flags & (FLOW_IN_WHEEL | FLOW_DYING) or t.flows[i].pins:
            return b"table: an entry on the free list is still in use"
        i = t.flows[i].timer_next
    if n + t.live != t.high:
        return b"table: entries are neither free nor in use, or both"
    return NULL


# ---- wheel -------------------------------------------------------------------------------


cdef const char *check_wheel(const Wheel *w, const FlowTable *t) noexcept nogil:
    cdef uint32_t slot, n = 0
    cdef const char *wrong
    for slot in range(SLOT_FIRING + 1):
        wrong = check_timer_list(w, t, slot, &n)
        if wrong != NULL:
            return wrong
    if n != w.armed:
        return b"wheel: another number of timers is armed than is counted"
    return NULL


cdef const char *check_timer_list(const Wheel *w, const FlowTable *t, uint32_t slot,
                                  uint32_t *n) noexcept nogil:
    cdef uint32_t i = w.head[slot], before = 0
    cdef const Flow *f
    if slot < SLOT_FIRING and (i != 0) != is_busy(w, slot):
        return b"wheel: the bit of a slot is not as the slot"
    while i:
        n[0] += 1
        if i > t.high or n[0] > t.high:
            return b"wheel: a list of timers runs in a circle, or out of the slab"
        f = &t.flows[i]
        if f.flags & FLOW_UNLINKED:
            return b"wheel: a timer is armed for a flow that is gone"
        if not f.flags & FLOW_IN_WHEEL or f.timer_slot != slot or f.timer_prev != before:
            return b"wheel: an entry does not know where it hangs"
        if slot < SLOT_FIRING and <int>(f.timer_tick - <uint32_t>w.tick) < 0:
            return b"wheel: a timer stands in the past"
        if slot < SLOT_FIRING and seq_lt(f.timer_tick, <uint32_t>w.next_tick):
            return b"wheel: a timer is due before the wheel will look"
        before = i
        i = f.timer_next
    return NULL


cdef inline bint is_busy(const Wheel *w, uint32_t slot) noexcept nogil:
    cdef uint32_t place = slot % WHEEL_SLOTS
    return w.busy[slot // WHEEL_SLOTS][place >> 6] >> (place & 63) & 1


# ---- flows and their streams ---------------------------------------------------------------


cdef const char *check_flows(CoreState *cs) noexcept nogil:
    cdef const char *wrong
    cdef Flow *f
    cdef uint32_t i
    cdef int side
    for i in range(1, cs.table.high + 1):
        f = &cs.table.flows[i]
        if not f.flags & FLOW_UNLINKED and not f.flags & FLOW_IN_WHEEL:
            return b"flow: nothing will ever look at it again"
        for side in range(2):
            if f.stream[side] == NULL or f.flags & FLOW_UNLINKED:
                continue
            wrong = check_stream(f.stream[side])
            if wrong == NULL and f.protocol == PROTO_TCP:
                wrong = check_early(f, side)
            if wrong == NULL:
                wrong = check_grace(f, f.stream[side])
            if wrong != NULL:
                return wrong
    return NULL


cdef const char *check_stream(const Stream *s) noexcept nogil:
    cdef const Cursor *c = s.cursors
    if <uint64_t>s.start + s.fill > s.size:
        return b"stream: more bytes than its block holds"
    if s.references == 0:
        return b"stream: kept, but nobody refers to it"
    while c != NULL:
        if c.stream != s or c.position < s.base or c.position > s.base + s.fill:
            return b"stream: a reader stands outside of what is kept"
        if c.gaps_passed < s.marks_gone or c.gaps_passed > s.marks_gone + s.n_marks:
            return b"stream: a reader has passed gaps that are not there"
        c = c.next
    return check_marks(s)


cdef const char *check_marks(const Stream *s) noexcept nogil:
    cdef uint32_t i
    cdef const GapMark *m
    if s.n_marks * sizeof(GapMark) > s.marks_size:
        return b"stream: more gaps than its list holds"
    for i in range(s.n_marks):
        m = &s.marks[i]
        if m.length == 0 or m.position > s.base + s.fill:
            return b"stream: a gap of no length, or behind the last byte"
        if i and m.offset < s.marks[i - 1].offset + s.marks[i - 1].length:
            return b"stream: gaps overlap"
    return NULL


cdef const char *check_early(const Flow *f, int side) noexcept nogil:
    """The out-of-order store: sorted, apart from each other, and counted right."""
    cdef const Stream *s = f.stream[side]
    cdef const Piece *p
    cdef uint64_t early = 0
    cdef uint32_t i, fins = 0
    if s.n_pieces * sizeof(Piece) > s.pieces_size:
        return b"early bytes: more pieces than the list holds"
    for i in range(s.n_pieces):
        p = &s.pieces[i]
        early += p.length
        fins += p.data == NULL
        if p.length == 0 or p.data != NULL and <uint64_t>p.skip + p.length > p.room:
            return b"early bytes: a piece is empty, or larger than its block"
        if i and seq_diff(p.seq, s.pieces[i - 1].seq + s.pieces[i - 1].length) < 0:
            return b"early bytes: pieces overlap, or are not in order"
    if fins != s.fins:
        return b"early bytes: another number of FINs is kept than is counted"
    if early != s.early:
        return b"early bytes: another number is kept than is counted"
    return NULL


cdef const char *check_grace(const Flow *f, const Stream *s) noexcept nogil:
    cdef uint64_t due
    if s.grace_due == 0:
        return NULL
    due = (<uint64_t>s.grace_due >> TICK_SHIFT) + 1
    if not f.flags & FLOW_IN_WHEEL or seq_diff(f.timer_tick, <uint32_t>due) > 0:
        return b"flow: nothing looks when its hole becomes a gap"
    return NULL


cdef const char *check_pool(const Pool *pool) noexcept nogil:
    if pool.used > pool.budget:
        return b"pool: more is given out than the budget allows"
    if (pool.blocks == 0) != (pool.used == 0):
        return b"pool: bytes without blocks, or blocks without bytes"
    return NULL
