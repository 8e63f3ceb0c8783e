"""ICMP and ICMPv6 errors, tied to the flow whose packet they quote."""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

cdef enum:
    PROTO_ICMP = 1
    PROTO_ICMP6 = 58
    QUOTE_MAX = 192           # as much as is looked at: headers of 8, 40 and 128, and 16

# What an error says and what it quotes.
cdef struct Quote:
    uint8_t raw[QUOTE_MAX]
    uint32_t length
    uint32_t off              # of the transport header that is quoted

# Fills q, and of the TCP or UDP packet that it quotes what a flow key needs; quoted points into
# q. False: p is no ICMP error, or quotes none.
cdef bint icmp_quoted(const Packet *p, Quote *q, Packet *quoted) noexcept nogil

# Looks at an ICMP packet; False: it is no error, or quotes no flow that is known.
cdef bint icmp_arrives(CoreState *cs, Packet *p) noexcept nogil
