"""Engine time from the stamps of frames (semantics.md 4): never back, and no jump believed
that the next frame takes back, nor one of more than 30 days."""
from libc.stdint cimport int64_t, uint64_t

cdef struct Clock:
    int64_t now               # engine time, ns
    int64_t offset            # engine time = stamp + offset
    int64_t last_stamp
    bint started
    uint64_t steps_back       # stamps before their predecessor: time stood still
    uint64_t jumps            # stamps re-based

# Takes a stamp up to an hour after the last one, which is what most are; False: this is none.
cdef inline bint clock_forward(Clock *c, int64_t stamp) noexcept nogil:
    if (<uint64_t>stamp - <uint64_t>c.last_stamp > 3600 * <uint64_t>1000000000
            or not c.started):
        return False
    c.last_stamp = stamp
    c.now = max(c.now, stamp + c.offset)
    return True

# A stamp that can only be judged together with the one after it.
cdef bint clock_needs_next(const Clock *c, int64_t stamp) noexcept nogil
# Takes a stamp; next_stamp is that of the frame after it, or the same stamp when none comes.
cdef int64_t clock_step(Clock *c, int64_t stamp, int64_t next_stamp) noexcept nogil
# No frame has come: the machine's own clock, by which a live source stamps, says so much.
cdef int64_t clock_idle(Clock *c, int64_t wall) noexcept nogil
# Engine time when the machine's clock says so much; moves nothing.
cdef int64_t clock_wall(const Clock *c, int64_t wall) noexcept nogil
