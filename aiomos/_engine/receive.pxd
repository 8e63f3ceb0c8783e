"""What the receiver of one direction gets: in order, each byte once, holes as gaps.

Between tcp.pyx, which judges segments, and the stores below (stream, assembler); what leaves
the store, and holes, are delivery.pyx's. `s` is always the end that sent the bytes.
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.assembler cimport asm_first
from aiomos._engine.flow cimport Flow
from aiomos._engine.overlap cimport DELIVER_ACKED
from aiomos._engine.state cimport CoreState
from aiomos._engine.stream cimport Stream
from aiomos._engine.wire cimport Packet

# Payload of a segment whose first byte has number seq; hold: keep it early even if it is next.
cdef void receive_text(CoreState *cs, Flow *f, Packet *p, int s, uint32_t seq,
                       bint hold) noexcept nogil
# Forgets held bytes from seq on.
cdef void receive_held(Flow *f, int s, uint32_t seq) noexcept nogil
# Delivers held bytes that turned out to be next (data on a SYN that was acknowledged).
cdef void receive_release(CoreState *cs, Flow *f, int s) noexcept nogil
# Another policy for a side from here on (OverlapPolicy and DELIVER_ACKED).
cdef void receive_policy(CoreState *cs, Flow *f, int s, uint8_t policy) noexcept nogil

cdef inline uint32_t receive_next(const Flow *f, int s) noexcept nogil:
    """The number that the receiver of s's bytes expects next (its RCV.NXT)."""
    cdef const Stream *st = f.stream[s]
    if (st != NULL and st.policy & DELIVER_ACKED and st.n_pieces
            and asm_first(st) == f.h[s].nxt):
        return st.ready
    return f.h[s].nxt
