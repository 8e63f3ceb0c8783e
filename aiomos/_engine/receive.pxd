"""What the receiver of one direction gets: in order, each byte once, holes as gaps.

Between tcp.pyx, which judges segments, and the stores below (stream, assembler).
`s` is always the end that sent the bytes.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# Payload of a segment whose first byte has number seq; hold: keep it early even if it is next.
cdef void receive_text(CoreState *cs, Flow *f, Packet *p, int s, uint32_t seq,
                       bint hold) noexcept nogil
# The peer acknowledged up to ack, and not all of that was seen.
cdef void receive_acked(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil
# s has shown more of what it sent: what its peer had acknowledged of it before counts now.
cdef void receive_shown(CoreState *cs, Flow *f, int s) noexcept nogil
# A FIN was noted in the half of s: the end, once everything before it is here.
cdef void receive_fin(CoreState *cs, Flow *f, int s) noexcept nogil
# Forgets held bytes from seq on.
cdef void receive_held(Flow *f, int s, uint32_t seq) noexcept nogil
# Delivers held bytes that turned out to be next (data on a SYN that was acknowledged).
cdef void receive_release(CoreState *cs, Flow *f, int s) noexcept nogil
# Turns holes whose time has come into gaps.
cdef void receive_hole_due(CoreState *cs, Flow *f, int s) noexcept nogil
# Turns all holes into gaps: the flow ends.
cdef void receive_flush(CoreState *cs, Flow *f, int s) noexcept nogil
