"""ICMP and ICMPv6 errors, tied to the flow whose packet they quote."""
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

cdef enum:
    PROTO_ICMP = 1
    PROTO_ICMP6 = 58

# Looks at an ICMP packet; False: it is no error, or quotes no flow that is known.
cdef bint icmp_arrives(CoreState *cs, Packet *p) noexcept nogil
