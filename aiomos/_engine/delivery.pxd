"""What leaves for the readers of one direction, other than a segment that is next: bytes from
the store, holes as gaps, the end.

Bytes are handed out when they are next in order (deliver="arrival"), or when, besides, the
receiver has acknowledged them (deliver="acked"); until then they wait in the store, and later
copies compete with them. nxt of the sender's half is the first byte not handed out. `s` is
always the end that sent the bytes.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.flow cimport HALF_ACKING, Flow, Half
from aiomos._engine.intrinsics cimport unlikely
from aiomos._engine.life cimport flow_tell
from aiomos._engine.overlap cimport DELIVER_ACKED
from aiomos._engine.state cimport CoreState
from aiomos._engine.stream cimport Stream

cdef enum:
    DELIVERY_FAR = 1 << 30    # of sequence numbers: behind all that can be in the store

# The peer acknowledged up to ack, and not all of that was handed out.
cdef void delivery_acked(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil
# s has shown more of what it sent: what its peer had acknowledged of it before counts now.
cdef void delivery_shown(CoreState *cs, Flow *f, int s) noexcept nogil
# A FIN of s was noted: the end, if everything before it is handed out; forgotten, if bytes have
# taken its place.
cdef void delivery_fin(CoreState *cs, Flow *f, int s) noexcept nogil
# A FIN is next.
cdef void delivery_end(CoreState *cs, Flow *f, int s) noexcept nogil
# Turns holes whose time has come into gaps.
cdef void delivery_hole_due(CoreState *cs, Flow *f, int s) noexcept nogil
# Turns all holes into gaps, hands out what waits: the flow ends.
cdef void delivery_flush(CoreState *cs, Flow *f, int s) noexcept nogil

# Early bytes that have become next, up to `upto`; those for which memory is refused: a gap.
cdef void delivery_drain(CoreState *cs, Flow *f, int s, uint32_t upto) noexcept nogil
# A gap behind the last byte handed out. nxt is the caller's to advance.
cdef void delivery_give_up(CoreState *cs, Flow *f, int s, uint32_t length,
                           uint32_t cause) noexcept nogil
# Gives up the bytes [nxt, upto) and delivers what follows them; False: there are none.
cdef bint delivery_make_gap(CoreState *cs, Flow *f, int s, uint32_t upto,
                            uint32_t cause) noexcept nogil
# Looks after the hole in front. Of a receiver that is not in the capture, what it acknowledges
# will never be known: bytes up to `unseen` are due after a time of their own.
cdef void delivery_watch(CoreState *cs, Flow *f, int s, uint32_t unseen) noexcept nogil
# The hole may be filled; perhaps there is another one behind it.
cdef void delivery_settle(CoreState *cs, Flow *f, int s) noexcept nogil
# Bytes were handed out: `length` of them at this stream offset, n of them at data.
cdef void delivery_tell_new(CoreState *cs, Flow *f, int s, uint64_t offset, uint32_t length,
                            const uint8_t *data, uint32_t n) noexcept nogil

cdef inline void delivery_advance(Half *snd, uint32_t n) noexcept nogil:
    snd.nxt += n
    snd.offset += n

cdef inline uint32_t delivery_all(const Flow *f, int s) noexcept nogil:
    return f.h[s].nxt + DELIVERY_FAR

cdef inline uint32_t delivery_due(const Flow *f, int s) noexcept nogil:
    """Up to where bytes may be handed out, if they are there."""
    if not f.stream[s].policy & DELIVER_ACKED:
        return delivery_all(f, s)
    return f.h[1 - s].ack if f.h[1 - s].flags & HALF_ACKING else f.h[s].nxt

cdef inline void delivery_done(CoreState *cs, Flow *f, int s) noexcept nogil:
    """Bytes were handed out: what follows from that."""
    cdef Stream *st = f.stream[s]
    if unlikely(st.grace_due):
        delivery_settle(cs, f, s)
    if unlikely(st.fill >= st.full):
        cs.full = True
    flow_tell(cs, f, s)
