"""How a connection begins: SYN, SYN-ACK, first acknowledgement, mid-stream, establishment.

`s` is the end that sent the segment (CLIENT or SERVER).
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.limits cimport FIN, RST, SYN
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# What a segment asks the core to do.
cdef enum TcpResult:
    TCP_DONE = 0
    TCP_REOPEN = 1            # the segment is the SYN of another connection on this tuple
    TCP_REOPEN_ANSWERED = 2   # it is the SYN-ACK of one whose SYN was seen before (other_isn)

# Whether a segment without a flow may begin one, and which end sent it (CLIENT or SERVER);
# -1: it may not.
cdef int tcp_may_open(CoreState *cs, const Packet *p) noexcept nogil
# The flow begins with a SYN that was seen earlier (TCP_REOPEN_ANSWERED).
cdef void tcp_assume_syn(CoreState *cs, Flow *f, int s, uint32_t isn, uint8_t offer) noexcept nogil

# Whether the segment belongs to another connection than the flow's: a TcpResult.
cdef int another_connection(Flow *f, const Packet *p, int s) noexcept nogil

# Fourth check of RFC 9293 section 3.10.7.4.
cdef void syn_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
cdef void synack_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
# The first acknowledgement of an end answers its peer's SYN; False: it answers nothing.
cdef bint first_ack(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
# The first segment of an end whose SYN was not seen.
cdef void pick_up(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
cdef void establish(CoreState *cs, Flow *f) noexcept nogil

cdef inline bint bad_flags(uint8_t flags) noexcept nogil:
    """Combinations that no stack sends: SYN or RST with others that contradict them, or none."""
    return ((flags & SYN and flags & (FIN | RST)) or (flags & RST and flags & FIN)
            or flags & 0x3F == 0)
