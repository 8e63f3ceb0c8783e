"""What most frames are, decoded in one go: TCP or UDP over IPv4 without options over Ethernet
without tags, all headers there and whole. wire.pyx knows the rest, and the same of these.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t

from aiomos._engine.be cimport be16, be32
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.shim cimport aio_frame
from aiomos._engine.udptunnels cimport tunnel_port
from aiomos._engine.walk cimport ETHER_IP4, WIRE_TCP, WIRE_UDP
from aiomos._engine.wire cimport Packet

cdef enum:
    USUAL_ETHERNET = 1        # LINKTYPE_ETHERNET
    USUAL_IP = 14             # where its headers begin
    USUAL_TRANSPORT = 34
    USUAL_LEAST = 54          # bytes looked at; the least frame on Ethernet has 60

# Bytes of the transport header; 0: it is something else, or malformed.
cdef inline int32_t usual_header(const aio_frame *frame) noexcept nogil:
    cdef const uint8_t *data = frame.data
    cdef const uint8_t *ip = data + USUAL_IP
    cdef uint32_t total
    if unlikely(frame.head_len < USUAL_LEAST or frame.link_type != USUAL_ETHERNET or frame.n_vlan):
        return 0
    if unlikely(be16(data + 12) != ETHER_IP4 or ip[0] != 0x45 or be16(ip + 6) & 0x3FFF):
        return 0
    total = be16(ip + 2)
    if unlikely(total > frame.cap_len - USUAL_IP):
        return 0
    # of a total under 20 the rest is negative: less than any header
    if likely(ip[9] == 6):
        return usual_tcp(data + USUAL_TRANSPORT, total - 20, frame.head_len)
    return usual_udp(data + USUAL_TRANSPORT, total - 20) if ip[9] == 17 else 0

cdef inline int32_t usual_tcp(const uint8_t *h, int32_t length, uint32_t head_len) noexcept nogil:
    cdef int32_t header = (h[12] >> 4) << 2
    if unlikely(header < 20 or header > length or <uint32_t>header > head_len - USUAL_TRANSPORT):
        return 0
    return header

cdef inline int32_t usual_udp(const uint8_t *h, int32_t length) noexcept nogil:
    cdef int32_t size = be16(h + 4)
    if unlikely(size < 8 or size > length):
        return 0
    return 0 if unlikely(tunnel_port(be16(h)) or tunnel_port(be16(h + 2))) else 8

# Fills p; header is what usual_header() says of the frame.
cdef inline void usual_decode(Packet *p, const aio_frame *frame, int32_t header) noexcept nogil:
    cdef const uint8_t *data = frame.data
    cdef const uint8_t *h = data + USUAL_TRANSPORT
    cdef uint32_t length = be16(data + USUAL_IP + 2) - 20
    p.frame = frame
    p.link = data
    p.ip = data + USUAL_IP
    p.l4 = h
    p.ether_type = ETHER_IP4
    p.ip_version = 4
    p.n_vlan = 0
    p.linear = 0
    p.n_tunnels = 0
    p.protocol = data[USUAL_IP + 9]
    p.sport = be16(h)
    p.dport = be16(h + 2)
    p.l4_len = <uint8_t>header
    if likely(p.protocol == 6):
        p.status = WIRE_TCP
        p.seq = be32(h + 4)
        p.ack = be32(h + 8)
        p.flags = h[13]
        p.window = be16(h + 14)
    else:
        p.status = WIRE_UDP
        length = be16(h + 4)
    p.payload_off = <uint32_t>(USUAL_TRANSPORT + header)
    p.payload_len = length - <uint32_t>header
    p.payload_cap = p.payload_len
