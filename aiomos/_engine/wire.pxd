"""From a frame to a view of its headers: length checked once, then trusted.

wire_decode() looks at the head part of a frame (shim.h) and fills a Packet. It never
allocates, never loops without a bound, and reads nothing outside [data, data + length).
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.limits cimport MAX_VLAN
from aiomos._engine.shim cimport aio_frame

# WireStatus: what became of a frame. Above WIRE_UDP no flow is looked up.
cdef enum:
    WIRE_TCP = 0
    WIRE_UDP = 1
    WIRE_OTHER = 2           # IP, but neither TCP nor UDP
    WIRE_FRAGMENT = 3        # a fragment of a datagram
    WIRE_NOT_IP = 4          # ARP, LLDP, a tunnel not decoded yet, ...
    WIRE_NEED_LINEAR = 5     # headers go on behind the contiguous part: copy together, try again
    WIRE_BAD_LINK = 6        # a link type that is not decoded
    WIRE_TRUNCATED = 7       # the capture cut a header
    WIRE_BAD_ETHER = 8       # tag or header of the link layer is cut short on the wire
    WIRE_BAD_IP4_HEADER = 9  # version, header length
    WIRE_BAD_IP4_LENGTH = 10 # total length under the header's, or beyond the frame
    WIRE_BAD_IP6_HEADER = 11
    WIRE_BAD_IP6_LENGTH = 12
    WIRE_BAD_IP6_EXT = 13    # an extension header that does not fit, or too many
    WIRE_BAD_TCP_HEADER = 14 # data offset under 5 words or beyond the datagram
    WIRE_BAD_UDP_LENGTH = 15
    WIRE_STATUSES = 16

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
    uint16_t vlan[MAX_VLAN]      # TCI, outermost first
    # Of a fragment only; its part of the datagram is the payload. Its headers are [ip, l4),
    # for IPv6 without the fragment header, which stands at l4.
    uint32_t frag_id
    uint16_t frag_off            # in bytes
    uint16_t frag_named          # IPv6: where, from ip, the header before it names this one
    uint8_t frag_flags           # FRAG_*

cdef void wire_decode(Packet *p, const aio_frame *frame, const uint8_t *data,
                      uint32_t length) noexcept nogil
# Goes on at the IP header at `off` of a contiguous frame that stands for the one p was decoded
# from: a datagram put together of fragments. What p says of the layers around it stays.
cdef void wire_decode_ip(Packet *p, const aio_frame *frame, uint32_t off) noexcept nogil
cdef bint wire_link_known(uint16_t link_type) noexcept nogil

cdef inline const uint8_t *packet_src(const Packet *p) noexcept nogil:
    return p.ip + (12 if p.ip_version == 4 else 8)

cdef inline const uint8_t *packet_dst(const Packet *p) noexcept nogil:
    return p.ip + (16 if p.ip_version == 4 else 24)
