"""Arm, disarm, advance. Advancing jumps from one occupied slot to the next, so a step of
ten years costs no more than one of a second."""
from libc.string cimport memset

from aiomos._engine.flow cimport FLOW_IN_WHEEL
from aiomos._engine.intrinsics cimport ctz64

cdef uint64_t NEVER = 0x7FFFFFFFFFFFFFFF
cdef uint64_t FARTHEST = 0x7FFFFFFE      # ticks: 26 days; looked at then, and armed again


cdef void wheel_init(Wheel *w, Flow *flows) noexcept nogil:
    memset(w, 0, sizeof(Wheel))
    w.flows = flows
    set_next(w, 0)      # so that the first one who compares comes by and starts the wheel


cdef void wheel_start(Wheel *w, int64_t now_ns) noexcept nogil:
    w.tick = max(w.tick, <uint64_t>now_ns >> TICK_SHIFT)


cdef inline void set_next(Wheel *w, uint64_t tick) noexcept nogil:
    w.next_tick = tick
    w.next_ns = <int64_t>(tick << TICK_SHIFT)


cdef inline uint64_t tick_of(int64_t ns) noexcept nogil:
    """The first tick that is not before ns: nothing fires early."""
    if ns <= 0:
        return 0
    return (<uint64_t>ns + (<uint64_t>1 << TICK_SHIFT) - 1) >> TICK_SHIFT


cdef void wheel_arm(Wheel *w, Flow *f, int64_t due_ns) noexcept nogil:
    cdef uint64_t tick = tick_of(due_ns)
    if tick < w.tick:
        tick = w.tick
    if tick - w.tick > FARTHEST:
        tick = w.tick + FARTHEST
    if f.flags & FLOW_IN_WHEEL:
        if f.timer_slot == SLOT_FIRING or f.timer_tick == <uint32_t>tick:
            return
        wheel_disarm(w, f)
    place(w, f, tick)
    if tick < w.next_tick:
        set_next(w, tick)


cdef inline int level_of(uint64_t delta) noexcept nogil:
    if delta < 256:
        return 0
    if delta < 65536:
        return 1
    return 2 if delta < 16777216 else 3


cdef void place(Wheel *w, Flow *f, uint64_t tick) noexcept nogil:
    cdef int level = level_of(tick - w.tick)
    cdef uint32_t slot = <uint32_t>(tick >> (8 * level)) & 255
    f.timer_tick = <uint32_t>tick
    push_front(w, f, <uint16_t>(level * WHEEL_SLOTS + slot))
    w.busy[level][slot >> 6] |= <uint64_t>1 << (slot & 63)
    w.armed += 1


cdef inline void push_front(Wheel *w, Flow *f, uint16_t slot) noexcept nogil:
    f.timer_slot = slot
    f.timer_prev = 0
    f.timer_next = w.head[slot]
    if f.timer_next:
        w.flows[f.timer_next].timer_prev = f.index
    w.head[slot] = f.index
    f.flags |= FLOW_IN_WHEEL


cdef void wheel_disarm(Wheel *w, Flow *f) noexcept nogil:
    if not f.flags & FLOW_IN_WHEEL:
        return
    f.flags &= ~<uint32_t>FLOW_IN_WHEEL
    if f.timer_next:
        w.flows[f.timer_next].timer_prev = f.timer_prev
    if f.timer_prev:
        w.flows[f.timer_prev].timer_next = f.timer_next
    else:
        w.head[f.timer_slot] = f.timer_next
        if f.timer_next == 0:
            clear_busy(w, f.timer_slot)
    w.armed -= 1


cdef inline void clear_busy(Wheel *w, uint16_t slot) noexcept nogil:
    if slot != SLOT_FIRING:
        w.busy[slot >> 8][(slot & 255) >> 6] &= ~(<uint64_t>1 << (slot & 63))


cdef int next_busy(const uint64_t *busy, uint32_t start) noexcept nogil:
    """Distance from slot start, around the circle, to the first occupied one; -1: none."""
    cdef uint32_t i, word, slot
    cdef uint64_t bits
    for i in range(5):
        word = ((start >> 6) + i) & 3
        bits = busy[word]
        if i == 0:
            bits &= ~<uint64_t>0 << (start & 63)
        elif i == 4:
            bits &= (<uint64_t>1 << (start & 63)) - 1
        if bits:
            slot = (word << 6) + ctz64(bits)
            return <int>((slot - start) & 255)
    return -1


cdef uint64_t event_tick(const Wheel *w, int level) noexcept nogil:
    """When the first occupied slot of a level must be looked at."""
    cdef uint64_t position = w.tick >> (8 * level)
    cdef int distance
    if level == 0:
        distance = next_busy(w.busy[0], <uint32_t>position & 255)
        return NEVER if distance < 0 else position + distance
    # A slot of a higher level is due when the wheel reaches its first tick; the slot the
    # wheel stands in was emptied then, so what is there now belongs to the next turn.
    distance = next_busy(w.busy[level], <uint32_t>(position + 1) & 255)
    if distance < 0:
        return NEVER
    return (position + 1 + distance) << (8 * level)


cdef int next_event(Wheel *w, uint64_t *tick) noexcept nogil:
    """The level whose slot comes first, higher levels before lower ones at equal ticks."""
    cdef int level, found = -1
    cdef uint64_t t
    tick[0] = NEVER
    for level in range(WHEEL_LEVELS - 1, -1, -1):
        t = event_tick(w, level)
        if t < tick[0]:
            tick[0] = t
            found = level
    return found


cdef void cascade(Wheel *w, int level) noexcept nogil:
    """Spreads the slot that the wheel has reached over the levels below."""
    cdef uint16_t slot = <uint16_t>(level * WHEEL_SLOTS + ((w.tick >> (8 * level)) & 255))
    cdef uint32_t index = w.head[slot]
    cdef Flow *f
    w.head[slot] = 0
    clear_busy(w, slot)
    while index:
        f = &w.flows[index]
        index = f.timer_next
        w.armed -= 1
        place(w, f, w.tick + <uint32_t>(f.timer_tick - <uint32_t>w.tick))


cdef void fire(Wheel *w) noexcept nogil:
    """Moves the slot of the present tick to the list of those that have come due."""
    cdef uint16_t slot = <uint16_t>(w.tick & 255)
    cdef uint32_t index = w.head[slot]
    w.head[SLOT_FIRING] = index
    w.head[slot] = 0
    clear_busy(w, slot)
    while index:
        w.flows[index].timer_slot = SLOT_FIRING
        index = w.flows[index].timer_next


cdef Flow *wheel_pop(Wheel *w, int64_t now_ns) noexcept nogil:
    cdef uint64_t now = <uint64_t>now_ns >> TICK_SHIFT
    cdef uint64_t tick = 0
    cdef int level
    cdef Flow *f
    while w.head[SLOT_FIRING] == 0:
        level = next_event(w, &tick)
        if level < 0 or tick > now:
            set_next(w, min(tick, NEVER >> TICK_SHIFT))
            w.tick = max(w.tick, now)
            return NULL
        w.tick = tick
        if level == 0:
            fire(w)
        while level:        # the lower slots that begin here as well: they are not looked for again
            cascade(w, level)
            level -= 1
    f = &w.flows[w.head[SLOT_FIRING]]
    wheel_disarm(w, f)
    w.looks += 1
    return f
