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

# How receive_text() is to take a segment.
cdef enum:
    TEXT_PLAIN = 0
    TEXT_HOLD = 1             # keep it early even if it is next
    TEXT_FIN = 2              # with the FIN behind its last byte; the payload may be empty

# Payload of a segment whose first byte has number seq.
cdef void receive_text(CoreState *cs, Flow *f, Packet *p, int s, uint32_t seq,
                       int how) noexcept nogil
# Forgets held bytes from seq on.
cdef void receive_held(Flow *f, int s, uint32_t seq) noexcept nogil
# The receiver of s answers an overrun of its window, and acknowledges nothing of it.
cdef void receive_overrun_refused(Flow *f, int s) noexcept nogil
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
