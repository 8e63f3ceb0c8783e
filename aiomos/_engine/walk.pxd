"""From header to header: what decoders hand each other, and the encapsulations by name.

A decoder that meets another header behind its own says what it is (Cut.layer) and where it
begins (Cut.off). wire.pyx holds the loop that goes on there, links.pyx how frames of each link
type begin, tunnels.pyx and udptunnels.pyx what carries whole packets or frames. None of them
calls another, so nothing recurses and the depth is bounded in one place.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

# WireStatus: what became of a frame. Above WIRE_UDP no flow is looked up.
cdef enum:
    WIRE_TCP = 0
    WIRE_UDP = 1
    WIRE_OTHER = 2           # IP, but neither TCP nor UDP
    WIRE_FRAGMENT = 3        # a fragment of a datagram
    WIRE_NOT_IP = 4          # ARP, LLDP, a network protocol that is not decoded, ...
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
    WIRE_BAD_TUNNEL = 16     # a header of an encapsulation that does not fit
    WIRE_TOO_DEEP = 17       # more headers or more encapsulations than are followed
    WIRE_PROTECTED = 18      # an 802.11 frame that is encrypted
    WIRE_STATUSES = 19
    WIRE_ELSEWHERE = 254     # for a moment: another worker's, of which nothing was decoded

# Decoder: what can be switched off, a bit of Cut.decoders each; names.DECODERS has the same
# list. Those from DECODE_MPLS on put a packet into another network's and are told as tunnels.
cdef enum:
    DECODE_VLAN = 0
    DECODE_SNAP = 1           # 802.2 LLC with SNAP (RFC 1042), which 802.11 needs too
    DECODE_CMD = 2            # Cisco metadata
    DECODE_AH = 3             # RFC 4302
    DECODE_PPP = 4            # RFC 1661, 1662
    DECODE_WIFI = 5           # IEEE 802.11
    DECODE_MPLS = 6           # RFC 3032, pseudo-wires RFC 4448
    DECODE_PPPOE = 7          # RFC 2516
    DECODE_PBB = 8            # IEEE 802.1ah
    DECODE_GRE = 9            # RFC 2784, 2890, 1701
    DECODE_NVGRE = 10         # RFC 7637
    DECODE_ERSPAN = 11        # types I, II and III
    DECODE_PPTP = 12          # RFC 2637
    DECODE_EOIP = 13
    DECODE_ETHERIP = 14       # RFC 3378
    DECODE_IPIP = 15          # RFC 2003
    DECODE_6IN4 = 16          # RFC 4213
    DECODE_4IN6 = 17          # RFC 2473
    DECODE_6IN6 = 18
    DECODE_L2TP = 19          # RFC 2661
    DECODE_TEREDO = 20        # RFC 4380
    DECODE_VXLAN = 21         # RFC 7348, with the GPE draft
    DECODE_GENEVE = 22        # RFC 8926
    DECODE_GTPU = 23          # 3GPP TS 29.281
    DECODERS = 24

cdef enum:
    DECODE_ALL = (1 << DECODERS) - 1

# Layer: what the header at Cut.off is.
cdef enum:
    LAYER_END = 0             # nothing: Cut.status says why
    LAYER_ETHER = 1           # an Ethernet frame
    LAYER_ETHER_TYPE = 2      # what Cut.kind, an EtherType, says
    LAYER_IP = 3              # IP of the version that its first half-byte says
    LAYER_OTHER_TYPE = 4      # what Cut.kind says, and it is neither IP nor a VLAN tag
    LAYER_LLC = 5
    LAYER_PPP = 6
    LAYER_PPPOE = 7
    LAYER_MPLS = 8
    LAYER_PROTOCOL = 9        # payload of IP version Cut.version; Cut.kind is its protocol
    LAYER_PORT = 10           # payload of UDP between Cut.sport and Cut.dport
    LAYER_AH = 11             # an authentication header over IPv4

cdef enum:
    ETHER_IP4 = 0x0800
    ETHER_ARP = 0x0806
    ETHER_BRIDGED = 0x6558    # "transparent Ethernet bridging": a whole frame
    ETHER_VLAN = 0x8100
    ETHER_IP6 = 0x86DD
    ETHER_MPLS = 0x8847
    ETHER_MPLS_UPSTREAM = 0x8848
    ETHER_PPPOE = 0x8864
    ETHER_QINQ = 0x88A8
    ETHER_PBB = 0x88E7
    ETHER_CMD = 0x8909
    ETHER_QINQ_OLD = 0x9100
    ETHER_QINQ_OLD2 = 0x9200

# Where a decoder stands: what is left to read, and what of it the wire had. The three ends move
# inwards with every header that says how long its payload is.
cdef struct Cut:
    const uint8_t *data
    uint32_t length       # contiguous bytes
    uint32_t captured     # bytes of the frame that were captured
    uint32_t wire         # bytes of the frame that were on the wire
    uint32_t decoders     # bit mask of Decoder
    uint32_t off          # where the next header begins
    uint32_t id           # of the encapsulation that was opened
    uint16_t kind         # EtherType or IP protocol
    uint16_t sport
    uint16_t dport
    uint8_t version       # of the IP header around it
    uint8_t layer         # LAYER_*
    uint8_t status        # at LAYER_END: a WireStatus
    uint8_t opened        # the Decoder of an encapsulation just opened; 0: none
    uint8_t has_id

cdef inline bint decodes(const Cut *c, int decoder) noexcept nogil:
    return c.decoders >> decoder & 1

cdef inline uint8_t short_of(const Cut *c, uint32_t need, uint8_t bad) noexcept nogil:
    """Why bytes up to `need` are not at hand: cut by segments, by the capture, or never sent."""
    if need <= c.captured:
        return WIRE_NEED_LINEAR
    if need <= c.wire:
        return WIRE_TRUNCATED
    return bad

cdef inline void walk_end(Cut *c, uint8_t status) noexcept nogil:
    c.layer = LAYER_END
    c.status = status

# Whether the next n bytes are not at hand; then the walk has ended, with the reason.
cdef inline bint lacks(Cut *c, uint32_t n, uint8_t bad) noexcept nogil:
    if c.off + n <= c.length:
        return False
    walk_end(c, short_of(c, c.off + n, bad))
    return True

# What follows behind n bytes of header.
cdef inline void walk_on(Cut *c, uint32_t n, uint8_t layer) noexcept nogil:
    c.off += n
    c.layer = layer

cdef inline void walk_type(Cut *c, uint32_t n, uint16_t ether_type) noexcept nogil:
    c.kind = ether_type
    walk_on(c, n, LAYER_ETHER_TYPE)

# The payload ends at `end`; what lies behind is padding.
cdef inline void cut_at(Cut *c, uint32_t end) noexcept nogil:
    c.wire = min(c.wire, end)
    c.captured = min(c.captured, end)
    c.length = min(c.length, end)

cdef inline void opened(Cut *c, uint8_t decoder) noexcept nogil:
    c.opened = decoder
    c.has_id = 0
    c.id = 0

cdef inline void opened_as(Cut *c, uint8_t decoder, uint32_t id) noexcept nogil:
    c.opened = decoder
    c.has_id = 1
    c.id = id

cdef inline bint is_tag(uint16_t kind) noexcept nogil:
    return (kind == ETHER_VLAN or kind == ETHER_QINQ or kind == ETHER_QINQ_OLD
            or kind == ETHER_QINQ_OLD2)
