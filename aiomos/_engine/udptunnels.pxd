"""Encapsulations in UDP, guessed by port.

A port is only a hint: what does not hold a readable IP packet stays the datagram it is
(wire.pyx), so a flow that happens to use such a port is not lost.
"""
from libc.stdint cimport uint16_t

from aiomos._engine.walk cimport Cut

cdef enum:
    PORT_L2TP = 1701
    PORT_GTPU = 2152
    PORT_TEREDO = 3544
    PORT_VXLAN = 4789
    PORT_VXLAN_GPE = 4790
    PORT_GENEVE = 6081
    PORT_VXLAN_OLD = 8472     # what Linux took before there was a number

cdef inline bint tunnel_port(uint16_t port) noexcept nogil:
    return (port == PORT_L2TP or port == PORT_GTPU or port == PORT_TEREDO or port == PORT_VXLAN
            or port == PORT_VXLAN_GPE or port == PORT_GENEVE or port == PORT_VXLAN_OLD)

# The payload of UDP between Cut.sport and Cut.dport, one of which is such a port.
cdef void port_open(Cut *c) noexcept nogil
