"""A TCP connection as both its ends see it: RFC 9293 section 3.10.7.4, one function a step,
written once with the sending end as an argument.

tcp_arrives() takes a segment of end `s` (CLIENT or SERVER). It updates what `s` is known to
have sent and acknowledged, and what its peer has thereby received. Nothing raises: what is
not acceptable is counted and leaves the flow as it was.
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# What tcp_arrives() asks the core to do.
cdef enum TcpResult:
    TCP_DONE = 0
    TCP_REOPEN = 1            # the segment is the SYN of another connection on this tuple
    TCP_REOPEN_ANSWERED = 2   # it is the SYN-ACK of one whose SYN was seen before (reuse_isn)

# Whether a segment without a flow may begin one, and which end sent it (CLIENT or SERVER);
# -1: it may not.
cdef int tcp_may_open(const CoreState *cs, const Packet *p) noexcept nogil
cdef int tcp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
# The flow begins with a SYN that was seen earlier (TCP_REOPEN_ANSWERED).
cdef void tcp_assume_syn(CoreState *cs, Flow *f, int s, uint32_t isn, uint8_t scale) noexcept nogil
# The wheel looks at the flow: holes, idle time, end of lingering.
cdef void tcp_timer(CoreState *cs, Flow *f) noexcept nogil
# Ends a flow from outside (capture end, shutdown, reuse): holes become gaps first.
cdef void tcp_close(CoreState *cs, Flow *f, uint8_t reason) noexcept nogil
