"""From a frame to a view of its headers: length checked once, then trusted.

wire_decode() looks at the head part of a frame (shim.h) and fills a Packet. It never
allocates, never loops without a bound, and reads nothing outside [data, data + length).
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.limits cimport MAX_VLAN
from aiomos._engine.shim cimport aio_frame
# Taken from here by everybody else: what became of a frame, and what can be switched off.
from aiomos._engine.walk cimport (DECODE_ALL, DECODE_MPLS, WIRE_BAD_ETHER, WIRE_BAD_IP4_HEADER,
                                  WIRE_BAD_IP4_LENGTH, WIRE_BAD_IP6_EXT, WIRE_BAD_IP6_HEADER,
                                  WIRE_BAD_IP6_LENGTH, WIRE_BAD_LINK, WIRE_BAD_TCP_HEADER,
                                  WIRE_BAD_TUNNEL, WIRE_BAD_UDP_LENGTH, WIRE_ELSEWHERE,
                                  WIRE_FRAGMENT,
                                  WIRE_NEED_LINEAR, WIRE_NOT_IP, WIRE_OTHER, WIRE_PROTECTED,
                                  WIRE_STATUSES, WIRE_TCP, WIRE_TOO_DEEP, WIRE_TRUNCATED, WIRE_UDP)

cdef enum:
    MAX_TUNNELS = 4              # encapsulations followed in one frame

# One encapsulation around a packet.
cdef struct Tunnel:
    const uint8_t *ip            # the IP header that carries it; NULL: the link layer does
    uint32_t id                  # virtual network, label, key, session
    uint8_t kind                 # Decoder, from DECODE_MPLS on
    uint8_t has_id
    uint8_t ip_version           # of `ip`

cdef enum:
    FRAG_MORE = 1
    FRAG_DF = 2              # "don't fragment", on a fragment

cdef struct Packet:
    const aio_frame *frame
    const uint8_t *link          # Ethernet header, NULL for other link types
    const uint8_t *ip            # innermost network header
    const uint8_t *l4
    uint64_t k0                  # canonical key (flowkey.pxd)
    uint64_t k1
    uint32_t hash
    uint32_t seq                 # TCP
    uint32_t ack
    uint32_t payload_off         # in the frame (or in the scratch copy)
    uint32_t payload_len         # by the headers
    uint32_t payload_cap         # of it captured
    uint16_t window              # as in the header, unscaled
    uint16_t sport
    uint16_t dport
    uint16_t ether_type          # of the innermost network layer
    uint8_t flags                # TCP flags
    uint8_t l4_len               # bytes of TCP header with options
    uint8_t status               # WireStatus
    uint8_t protocol             # IP protocol number
    uint8_t ip_version           # 4, 6, or 0
    uint8_t from_low             # the sender is the canonical low end (flowkey.pxd)
    uint8_t n_vlan
    uint8_t linear               # payload_off counts in the scratch copy, not in the frame
    uint8_t n_tunnels
    uint16_t vlan[MAX_VLAN]      # TCI, outermost first, those inside tunnels too
    Tunnel tunnel[MAX_TUNNELS]   # outermost first
    # Of a fragment only; its part of the datagram is the payload. Its headers are [ip, l4),
    # for IPv6 without the fragment header, which stands at l4.
    uint32_t frag_id
    uint16_t frag_off            # in bytes
    uint16_t frag_named          # IPv6: where, from ip, the header before it names this one
    uint8_t frag_flags           # FRAG_*

# Decodes down to the innermost IP packet; decoders: bit mask of Decoder (walk.pxd).
cdef void wire_decode(Packet *p, const aio_frame *frame, const uint8_t *data, uint32_t length,
                      uint32_t decoders) noexcept nogil
# Goes on at the IP header at `off` of a contiguous frame that stands for the one p was decoded
# from: a datagram put together of fragments. What p says of the layers around it stays.
cdef void wire_decode_ip(Packet *p, const aio_frame *frame, uint32_t off,
                         uint32_t decoders) noexcept nogil
cdef bint wire_link_known(uint16_t link_type) noexcept nogil

cdef inline const uint8_t *packet_src(const Packet *p) noexcept nogil:
    return p.ip + (12 if p.ip_version == 4 else 8)

cdef inline const uint8_t *packet_dst(const Packet *p) noexcept nogil:
    return p.ip + (16 if p.ip_version == 4 else 24)
