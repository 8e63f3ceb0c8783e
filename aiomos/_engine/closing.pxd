"""How a connection ends: RST, FIN, idle time, or from outside; the steps that tcp.pyx calls.

`s` is the end that sent the segment (CLIENT or SERVER).
"""
from libc.stdint cimport uint8_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# Second check of RFC 9293 section 3.10.7.4; timely: its timestamp, if it has one, is not old.
cdef void rst_arrives(CoreState *cs, Flow *f, Packet *p, int s, bint timely) noexcept nogil
# The receiver of a doubtful RST of s goes on: it did not take it.
cdef void rst_disproved(CoreState *cs, Flow *f, int s) noexcept nogil
# Eighth step, as the sender's stack sees it; False: its peer has nothing to take.
cdef bint fin_sent(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
# ... and as the receiver's does, which has placed it with the text (receive_text).
cdef void fin_received(CoreState *cs, Flow *f, int s) noexcept nogil
# Whether the FIN of this side is acknowledged, now that it was met.
cdef void fin_acked(CoreState *cs, Flow *f, int side) noexcept nogil
# Ends a flow whose two FINs were received and acknowledged.
cdef void close_if_done(CoreState *cs, Flow *f) noexcept nogil
# The wheel looks at the flow: holes, idle time, end of lingering.
cdef void tcp_timer(CoreState *cs, Flow *f) noexcept nogil
# Ends a flow from outside (capture end, shutdown, reuse): holes become gaps first.
cdef void tcp_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil
