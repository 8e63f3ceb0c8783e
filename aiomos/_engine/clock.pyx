"""Three cases: forward, a little back, and a jump."""

cdef int64_t HOUR = 3600 * <int64_t>1000000000
cdef int64_t MONTH = 720 * HOUR
cdef int64_t JUMP_STEP = 1000     # engine time given to a frame whose stamp is no time


cdef inline bint leaps(const Clock *c, int64_t stamp) noexcept nogil:
    return c.started and <uint64_t>stamp - <uint64_t>c.last_stamp - 1 >= <uint64_t>HOUR


cdef bint clock_needs_next(const Clock *c, int64_t stamp) noexcept nogil:
    return c.started and stamp > c.last_stamp and leaps(c, stamp)


cdef int64_t clock_step(Clock *c, int64_t stamp, int64_t next_stamp) noexcept nogil:
    cdef int64_t moved
    if not c.started:
        c.started = True
        c.now = stamp
        c.last_stamp = stamp
        return stamp
    moved = <int64_t>(<uint64_t>stamp - <uint64_t>c.last_stamp)
    if moved < -HOUR or moved > MONTH or (moved > HOUR and taken_back(stamp, next_stamp, moved)):
        c.jumps += 1
        c.now += JUMP_STEP
        c.offset = c.now - stamp
    elif moved < 0:
        c.steps_back += 1
    c.last_stamp = stamp
    c.now = max(c.now, stamp + c.offset)
    return c.now


cdef inline bint taken_back(int64_t stamp, int64_t next_stamp, int64_t moved) noexcept nogil:
    return next_stamp < stamp and <uint64_t>stamp - <uint64_t>next_stamp > <uint64_t>moved // 2


cdef int64_t clock_idle(Clock *c, int64_t wall) noexcept nogil:
    """The last stamp stays: a frame may still come that was stamped a moment before `wall`."""
    if not c.started:
        c.started = True
        c.last_stamp = wall
        c.now = wall
    elif wall + c.offset < c.now - HOUR:    # the machine's clock was set back
        c.jumps += 1
        c.now += JUMP_STEP
        c.offset = c.now - wall
        c.last_stamp = wall
    c.now = max(c.now, wall + c.offset)
    return c.now


cdef int64_t clock_wall(const Clock *c, int64_t wall) noexcept nogil:
    return wall + c.offset
