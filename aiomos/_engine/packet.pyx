"""Packet objects exist only where somebody asked for packets."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

import ipaddress

from aiomos._engine import names
from aiomos._engine.shim cimport aio_frame_copy
from aiomos._engine.wire cimport WIRE_TCP, WIRE_UDP

cdef extern from *:
    """
    static PyObject *aio_new_packet(PyObject *cls, PyObject *no_args)
    { return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, no_args, NULL); }
    """
    object aio_new_packet(object cls, object no_args)

cdef tuple NO_ARGS = ()


cdef PacketBase packet_borrow(object cls, const WirePacket *p):
    cdef PacketBase packet = <PacketBase>aio_new_packet(cls, NO_ARGS)
    packet.frame = p.frame
    packet.lent = True
    packet.time_ns = p.frame.time_ns
    packet.wire_len = p.frame.wire_len
    packet.cap_len = p.frame.cap_len
    packet.link_type = p.frame.link_type
    packet.status = p.status
    packet.ip_version = p.ip_version
    packet.protocol = p.protocol
    if p.ip_version and not p.linear:
        packet.ip_off = <uint32_t>(p.ip - p.frame.data)
    elif p.status <= WIRE_UDP:          # offsets count in the contiguous copy, as in contents()
        packet.ip_off = p.payload_off - p.l4_len - <uint32_t>(p.l4 - p.ip)
    if p.status <= WIRE_UDP:
        packet.sport = p.sport
        packet.dport = p.dport
        packet.payload_off = p.payload_off
        packet.payload_len = p.payload_cap
    if p.status == WIRE_TCP:
        packet.tcp_flags = p.flags
        packet.seq = p.seq
        packet.ack = p.ack
    return packet


cdef PacketBase packet_copy(object cls, const WirePacket *p):
    cdef PacketBase packet = packet_borrow(cls, p)
    packet.contents()
    packet_end(packet)
    return packet


cdef void packet_end(PacketBase packet) noexcept:
    packet.frame = NULL
    packet.lent = False


cdef class PacketBase:
    """Engine side of a packet."""

    cdef bytes contents(self):
        if self.data is not None:
            return self.data
        if self.frame == NULL:
            raise RuntimeError("a borrowed packet is gone after its handler returned: "
                               "keep bytes(packet), or make the handler async def")
        self.data = PyBytes_FromStringAndSize(NULL, self.cap_len)
        aio_frame_copy(self.frame, 0, self.cap_len, <unsigned char *>PyBytes_AS_STRING(self.data))
        return self.data

    def __bytes__(self):
        return self.contents()

    def __len__(self):
        return self.cap_len

    @property
    def kind(self):
        """What the decoder made of it: one of names.STATUSES, "tcp" for example."""
        return names.STATUSES[self.status]

    @property
    def payload(self):
        """Transport payload of a TCP or UDP packet, as far as captured; b"" of any other."""
        return self.contents()[self.payload_off:self.payload_off + self.payload_len]

    @property
    def source(self):
        """Source IP address as text; "" where there is none."""
        return self.address(12, 8)

    @property
    def destination(self):
        """Destination IP address as text; "" where there is none."""
        return self.address(16, 24)

    def address(self, int at4, int at6):
        """The address at these places of an IPv4 or IPv6 header."""
        if self.ip_version == 0 or self.ip_off == 0 and self.link_type == 1:
            return ""
        at = self.ip_off + (at4 if self.ip_version == 4 else at6)
        raw = self.contents()[at:at + (4 if self.ip_version == 4 else 16)]
        return str(ipaddress.ip_address(raw)) if len(raw) in (4, 16) else ""
