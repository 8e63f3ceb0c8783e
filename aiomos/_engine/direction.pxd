"""Which end opened a connection whose SYN was not seen: guessed once, corrected once.

The roles alone change (FLOW_FLIPPED, flow_role()): the ends, their numbers and their bytes stay
where they are (docs/decisions/0034).
"""
from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# By the ports of its first segment, which end sent that: CLIENT or SERVER.
cdef int direction_guess(const Packet *p) noexcept nogil
# End s, taken up without its SYN, sends it (or its SYN-ACK) after all, with the right number.
cdef void direction_shown(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
