"""How frames of each link type begin, Ethernet apart (wire.pyx)."""
from libc.stdint cimport uint16_t

from aiomos._engine.walk cimport Cut

cdef bint link_known(uint16_t link_type) noexcept nogil
# Steps over the header of the link layer.
cdef void link_open(Cut *c, uint16_t link_type) noexcept nogil
# 802.2 behind a length field or an 802.11 header.
cdef void llc_open(Cut *c) noexcept nogil
cdef void ppp_open(Cut *c) noexcept nogil
