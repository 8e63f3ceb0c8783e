"""UDP as flows: the first datagram's sender is the client, idle time ends them.

Datagrams wait in one queue a flow (the stream of the client's side), both directions in
order of arrival, each behind a DatagramHeader.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

cdef struct DatagramHeader:
    int64_t time_ns           # capture stamp
    uint32_t length           # bytes that follow
    uint32_t sender           # CLIENT or SERVER

cdef enum:
    DATAGRAM_QUEUE = 1 << 20  # bytes kept at the most for a handler that does not come

cdef void udp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil
cdef void udp_timer(CoreState *cs, Flow *f) noexcept nogil
