"""Encapsulations named by an EtherType or an IP protocol.

Each *_open() reads the header at Cut.off, steps behind it, and says what follows; with a header
that does not fit, or something inside that is not decoded, the walk ends.
"""
from libc.stdint cimport uint8_t

from aiomos._engine.walk cimport Cut

cdef inline bint protocol_known(uint8_t protocol) noexcept nogil:
    """IPv4, IPv6, GRE, EtherIP, MPLS: IP protocols that carry packets."""
    return (protocol == 4 or protocol == 41 or protocol == 47 or protocol == 97
            or protocol == 137)

# What Cut.kind names, an EtherType other than IP and VLAN tags, or a length.
cdef void type_open(Cut *c) noexcept nogil
cdef void mpls_open(Cut *c) noexcept nogil
cdef void pppoe_open(Cut *c) noexcept nogil
# What Cut.kind names, an IP protocol; see protocol_known().
cdef void protocol_open(Cut *c) noexcept nogil
