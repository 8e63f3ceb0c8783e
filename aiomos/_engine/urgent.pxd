"""Urgent data: which byte it is, and whether it is part of the stream (RFC 6093).

As in every stack in use, the pointer names the byte before it: one byte is urgent, the last one
announced. `s` is the end that sent it.
"""
from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# Text of a segment that carries the URG flag, or of a side with HALF_URGENT.
# how: TEXT_FIN if it ends with a FIN.
cdef void urgent_text(CoreState *cs, Flow *f, Packet *p, int s, int how) noexcept nogil
