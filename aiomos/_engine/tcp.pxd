"""A TCP connection as both its ends see it: RFC 9293 section 3.10.7.4, one function a step,
written once with the sending end as an argument.

tcp_arrives() takes a segment of end `s` (CLIENT or SERVER). It updates what `s` is known to
have sent and acknowledged, and what its peer has thereby received. Nothing raises: what is
not acceptable is counted and leaves the flow as it was. How connections begin is in
handshake.pyx, how they end in closing.pyx.
"""
from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# A TcpResult (handshake.pxd).
cdef int tcp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
