"""What the SYNs of one end offered, where they contradict each other: its numbers and options.

Before a connection is established, an end may have said more than one ISN: it begins anew, or
somebody sends SYNs for it. Which one counts, the other end says by what it acknowledges. One
besides the present one is remembered, with its options; of more, what is forgotten is taken from
that acknowledgement (docs/decisions/0050).
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.flow cimport Flow, Half
from aiomos._engine.tcpopt cimport TcpOptions

# Options of a SYN in one byte, as Flow.other_offer keeps them: its scale, and these.
cdef enum:
    OFFER_SCALE = 0x0F
    OFFER_SCALING = 0x10
    OFFER_TIMESTAMPS = 0x20
    OFFER_SIGNED = 0x40

cdef uint8_t offer_in(const TcpOptions *o, uint8_t signatures) noexcept nogil
# The end has offered this, and no other.
cdef void offer_take(Half *h, uint8_t offer) noexcept nogil

# Another ISN of an end, to be remembered: the present one before it is left, or the one of a SYN
# that came when the present one had been answered.
cdef void offer_leave(Flow *f, int side, uint32_t next_isn) noexcept nogil
cdef void offer_note(Flow *f, int side, uint32_t isn, uint8_t offer) noexcept nogil
# The other end acknowledges a SYN. False: none that was offered, as far as is remembered.
cdef bint offer_chosen(Flow *f, int side, uint32_t ack) noexcept nogil
# One that was forgotten, if any was: its number is what the acknowledgement says.
cdef bint offer_recalled(Flow *f, int side, uint32_t ack) noexcept nogil
# Sequence numbers of an end that was not heard yet, from what its peer acknowledges.
cdef void offer_infer(Flow *f, int side, uint32_t ack) noexcept nogil

cdef inline uint8_t assumed_scale() noexcept nogil:
    """Of an end whose SYN was not seen: no window is too narrow."""
    return 14
