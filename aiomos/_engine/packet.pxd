"""A frame in a packet handler's hands: borrowed in place, or a copy."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from aiomos._engine.shim cimport aio_frame
from aiomos._engine.wire cimport Packet as WirePacket


cdef class PacketBase:
    cdef const aio_frame *frame         # NULL: a copy, or a loan that is over
    cdef bytes data                     # made when asked for
    cdef bint lent
    cdef readonly int64_t time_ns
    cdef readonly uint32_t wire_len
    cdef readonly uint32_t cap_len
    cdef readonly uint16_t link_type
    cdef readonly uint8_t ip_version
    cdef readonly uint8_t protocol
    cdef readonly uint8_t tcp_flags
    cdef readonly uint16_t sport
    cdef readonly uint16_t dport
    cdef readonly uint32_t seq
    cdef readonly uint32_t ack
    cdef uint32_t payload_off
    cdef uint32_t payload_len
    cdef uint32_t ip_off
    cdef uint8_t status

    cdef bytes contents(self)

cdef PacketBase packet_borrow(object cls, const WirePacket *p)
cdef PacketBase packet_copy(object cls, const WirePacket *p)
# The loan is over: what was not asked for is no longer there.
cdef void packet_end(PacketBase packet) noexcept
