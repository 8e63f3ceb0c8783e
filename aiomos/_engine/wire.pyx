"""Link layers, VLAN tags, IPv4, IPv6 with its extension headers, TCP and UDP headers."""
from aiomos._engine.be cimport be16, be32
from aiomos._engine.intrinsics cimport likely, unlikely

# LINKTYPE_* numbers of the pcap registry.
cdef enum:
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_RAW = 101
    LINK_LOOP = 108
    LINK_SLL = 113
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_SLL2 = 276

cdef enum:
    ETHER_IP4 = 0x0800
    ETHER_IP6 = 0x86DD
    ETHER_VLAN = 0x8100
    ETHER_QINQ = 0x88A8
    ETHER_QINQ_OLD = 0x9100
    ETHER_QINQ_OLD2 = 0x9200

cdef enum:
    MAX_TAGS = 16         # tags walked in one frame
    MAX_EXTENSIONS = 16   # IPv6 extension headers walked in one packet

# Where a decoder stands: what is left to read, and what of it the wire had.
cdef struct Cut:
    const uint8_t *data
    uint32_t length       # contiguous bytes
    uint32_t captured     # bytes of the frame that were captured
    uint32_t wire         # bytes of the frame that were on the wire


cdef bint wire_link_known(uint16_t link_type) noexcept nogil:
    return link_type in (LINK_NULL, LINK_ETHERNET, LINK_RAW_BSD, LINK_RAW_OPENBSD, LINK_RAW,
                         LINK_LOOP, LINK_SLL, LINK_IPV4, LINK_IPV6, LINK_SLL2)


cdef inline uint8_t short_of(const Cut *c, uint32_t need, uint8_t bad) noexcept nogil:
    """Why bytes up to `need` are not at hand: cut by segments, by the capture, or never sent."""
    if need <= c.captured:
        return WIRE_NEED_LINEAR
    if need <= c.wire:
        return WIRE_TRUNCATED
    return bad


cdef void wire_decode(Packet *p, const aio_frame *frame, const uint8_t *data,
                      uint32_t length) noexcept nogil:
    cdef Cut c
    c.data = data
    c.length = length
    c.captured = frame.cap_len
    c.wire = frame.wire_len if frame.wire_len > frame.cap_len else frame.cap_len
    p.frame = frame
    p.link = NULL
    p.ip = NULL
    p.l4 = NULL
    p.ip_version = 0
    p.protocol = 0
    p.linear = 0
    p.payload_len = 0
    p.payload_cap = 0
    p.n_vlan = 0
    if likely(frame.link_type == LINK_ETHERNET):
        decode_ethernet(p, &c)
    else:
        decode_link(p, &c)


cdef void wire_decode_ip(Packet *p, const aio_frame *frame, uint32_t off) noexcept nogil:
    cdef Cut c
    c.data = frame.data
    c.length = frame.cap_len
    c.captured = frame.cap_len
    c.wire = frame.wire_len
    p.frame = frame
    p.linear = 0
    p.payload_len = 0
    p.payload_cap = 0
    decode_ip_any(p, &c, off)


cdef inline void keep_tag(Packet *p, uint16_t tci) noexcept nogil:
    if p.n_vlan < MAX_VLAN:
        p.vlan[p.n_vlan] = tci
        p.n_vlan += 1


cdef void decode_ethernet(Packet *p, const Cut *c) noexcept nogil:
    cdef uint32_t i
    if unlikely(c.length < 14):
        p.status = short_of(c, 14, WIRE_BAD_ETHER)
        return
    p.link = c.data
    for i in range(min(<uint32_t>p.frame.n_vlan, <uint32_t>2)):
        keep_tag(p, p.frame.vlan[i])
    decode_ether_type(p, c, be16(c.data + 12), 14)


cdef void decode_ether_type(Packet *p, const Cut *c, uint16_t kind, uint32_t off) noexcept nogil:
    """Network layer behind an EtherType, whose payload begins at off."""
    cdef int tags = 0
    while unlikely(is_tag(kind)):
        if off + 4 > c.length or tags == MAX_TAGS:
            p.status = WIRE_BAD_ETHER if tags == MAX_TAGS else short_of(c, off + 4, WIRE_BAD_ETHER)
            return
        keep_tag(p, be16(c.data + off))
        kind = be16(c.data + off + 2)
        off += 4
        tags += 1
    p.ether_type = kind
    if likely(kind == ETHER_IP4):
        decode_ip4(p, c, off)
    elif kind == ETHER_IP6:
        decode_ip6(p, c, off)
    elif kind <= 1500:
        decode_llc(p, c, off)
    else:
        p.status = WIRE_NOT_IP


cdef inline bint is_tag(uint16_t kind) noexcept nogil:
    return (kind == ETHER_VLAN or kind == ETHER_QINQ or kind == ETHER_QINQ_OLD
            or kind == ETHER_QINQ_OLD2)


cdef void decode_llc(Packet *p, const Cut *c, uint32_t off) noexcept nogil:
    """IEEE 802.3 length field: an 802.2 header; SNAP (RFC 1042) names an EtherType again."""
    p.status = WIRE_NOT_IP
    if off + 8 > c.length or be32(c.data + off) >> 8 != 0xAAAA03 or be16(c.data + off + 3):
        return
    p.ether_type = be16(c.data + off + 6)
    if p.ether_type == ETHER_IP4:
        decode_ip4(p, c, off + 8)
    elif p.ether_type == ETHER_IP6:
        decode_ip6(p, c, off + 8)


cdef void decode_link(Packet *p, const Cut *c) noexcept nogil:
    """Every link type but Ethernet."""
    cdef uint16_t link = p.frame.link_type
    if link == LINK_SLL:
        decode_cooked(p, c, 16, 14)
    elif link == LINK_SLL2:
        decode_cooked(p, c, 20, 0)
    elif link == LINK_NULL or link == LINK_LOOP:
        decode_ip_any(p, c, 4)
    elif wire_link_known(link):
        decode_ip_any(p, c, 0)
    else:
        p.status = WIRE_BAD_LINK


cdef void decode_cooked(Packet *p, const Cut *c, uint32_t size, uint32_t at) noexcept nogil:
    """Linux "any" captures: an EtherType at a fixed place of a header of fixed size."""
    if c.length < size:
        p.status = short_of(c, size, WIRE_BAD_ETHER)
        return
    decode_ether_type(p, c, be16(c.data + at), size)


cdef void decode_ip_any(Packet *p, const Cut *c, uint32_t off) noexcept nogil:
    """IP whose version only its first half-byte tells.

    The loopback header in front holds an address family of the capturing host, in its
    byte order and with its number for IPv6; the version says the same and is portable.
    """
    if off + 1 > c.length:
        p.status = short_of(c, off + 1, WIRE_BAD_ETHER)
        return
    if c.data[off] >> 4 == 4:
        p.ether_type = ETHER_IP4
        decode_ip4(p, c, off)
    elif c.data[off] >> 4 == 6:
        p.ether_type = ETHER_IP6
        decode_ip6(p, c, off)
    else:
        p.status = WIRE_NOT_IP


cdef inline void set_payload(Packet *p, const Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    """Transport data at off, `length` bytes of it by the network header."""
    p.payload_off = off
    p.payload_len = length
    if off >= c.captured:
        p.payload_cap = 0
    else:
        p.payload_cap = min(length, c.captured - off)


cdef void decode_ip4(Packet *p, const Cut *c, uint32_t off) noexcept nogil:
    cdef const uint8_t *h = c.data + off
    cdef uint32_t header, total
    if unlikely(off + 20 > c.length):
        p.status = short_of(c, off + 20, WIRE_BAD_IP4_HEADER)
        return
    header = (h[0] & 15) << 2
    if unlikely(h[0] >> 4 != 4 or header < 20):
        p.status = WIRE_BAD_IP4_HEADER
        return
    total = be16(h + 2)
    if unlikely(total == 0):  # segmentation offload on the capturing host: as long as the frame
        total = c.wire - off
    if unlikely(total < header or total > c.wire - off):
        p.status = WIRE_BAD_IP4_LENGTH
        return
    p.ip = h
    p.ip_version = 4
    p.protocol = h[9]
    if unlikely(be16(h + 6) & 0x3FFF):
        note_fragment4(p, h)
        set_payload(p, c, off + header, total - header)
        return
    decode_transport(p, c, off + header, total - header)


cdef void note_fragment4(Packet *p, const uint8_t *h) noexcept nogil:
    cdef uint16_t field = be16(h + 6)
    p.status = WIRE_FRAGMENT
    p.l4 = h + ((h[0] & 15) << 2)
    p.frag_id = be16(h + 4)
    p.frag_off = <uint16_t>(field << 3)
    p.frag_flags = (FRAG_MORE if field & 0x2000 else 0) | (FRAG_DF if field & 0x4000 else 0)


cdef void note_fragment6(Packet *p, const uint8_t *h, uint32_t named) noexcept nogil:
    """RFC 8200 section 4.5; `named`: see Packet.frag_named."""
    cdef uint16_t field = be16(h + 2)
    p.status = WIRE_FRAGMENT
    p.l4 = h
    p.protocol = h[0]
    p.frag_id = be32(h + 4)
    p.frag_off = field & 0xFFF8
    p.frag_named = <uint16_t>named
    p.frag_flags = FRAG_MORE if field & 1 else 0


cdef void decode_ip6(Packet *p, const Cut *c, uint32_t off) noexcept nogil:
    cdef const uint8_t *h = c.data + off
    cdef uint32_t length
    if unlikely(off + 40 > c.length):
        p.status = short_of(c, off + 40, WIRE_BAD_IP6_HEADER)
        return
    if unlikely(h[0] >> 4 != 6):
        p.status = WIRE_BAD_IP6_HEADER
        return
    length = be16(h + 4)
    if unlikely(length == 0 and h[6] != 59):  # offload or jumbogram: as long as the frame
        length = c.wire - off - 40
    if unlikely(length > c.wire - off - 40):
        p.status = WIRE_BAD_IP6_LENGTH
        return
    p.ip = h
    p.ip_version = 6
    p.protocol = h[6]
    if likely(p.protocol == 6 or p.protocol == 17):
        decode_transport(p, c, off + 40, length)
    else:
        walk_extensions(p, c, off + 40, length)


cdef inline bint is_extension(uint8_t protocol) noexcept nogil:
    return (protocol == 0 or protocol == 43 or protocol == 44 or protocol == 51
            or protocol == 60 or protocol == 135 or protocol == 139 or protocol == 140)


cdef void walk_extensions(Packet *p, const Cut *c, uint32_t off, uint32_t left) noexcept nogil:
    """Extension headers (RFC 8200 section 4) down to a transport header."""
    cdef uint32_t size, named = off - 40 + 6     # the byte that names the header at off
    cdef uint32_t ip = off - 40
    cdef int walked = 0
    while walked < MAX_EXTENSIONS:
        walked += 1
        if not is_extension(p.protocol):
            decode_transport(p, c, off, left)
            return
        if off + 8 > c.length:
            p.status = short_of(c, off + 8, WIRE_BAD_IP6_EXT)
            return
        size = extension_size(p, c.data + off)
        if size > left:
            p.status = WIRE_BAD_IP6_EXT
            return
        if p.protocol == 44 and be16(c.data + off + 2) & 0xFFF9:
            note_fragment6(p, c.data + off, named - ip)
            set_payload(p, c, off + 8, left - 8)
            return
        p.protocol = c.data[off]
        named = off
        off += size
        left -= size
    p.status = WIRE_BAD_IP6_EXT


cdef inline uint32_t extension_size(const Packet *p, const uint8_t *h) noexcept nogil:
    if p.protocol == 44:
        return 8
    if p.protocol == 51:  # AH counts in words, less two (RFC 4302)
        return (<uint32_t>h[1] + 2) << 2
    return (<uint32_t>h[1] + 1) << 3


cdef void decode_transport(Packet *p, const Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    p.l4 = c.data + off
    if likely(p.protocol == 6):
        decode_tcp(p, c, off, length)
    elif p.protocol == 17:
        decode_udp(p, c, off, length)
    else:
        set_payload(p, c, off, length)
        p.status = WIRE_OTHER


cdef void decode_tcp(Packet *p, const Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    cdef const uint8_t *h = c.data + off
    cdef uint32_t header
    if unlikely(length < 20):
        p.status = WIRE_BAD_TCP_HEADER
        return
    if unlikely(off + 20 > c.length):
        p.status = short_of(c, off + 20, WIRE_BAD_TCP_HEADER)
        return
    header = (h[12] >> 4) << 2
    if unlikely(header < 20 or header > length):
        p.status = WIRE_BAD_TCP_HEADER
        return
    if unlikely(off + header > c.length and off + header <= c.captured):
        p.status = WIRE_NEED_LINEAR
        return
    p.sport = be16(h)
    p.dport = be16(h + 2)
    p.seq = be32(h + 4)
    p.ack = be32(h + 8)
    p.flags = h[13]
    p.window = be16(h + 14)
    # Options cut by the capture (snap length 54 is common) count as none.
    p.l4_len = <uint8_t>(header if off + header <= c.length else 20)
    set_payload(p, c, off + header, length - header)
    p.status = WIRE_TCP


cdef void decode_udp(Packet *p, const Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    cdef const uint8_t *h = c.data + off
    cdef uint32_t size
    if unlikely(length < 8):
        p.status = WIRE_BAD_UDP_LENGTH
        return
    if unlikely(off + 8 > c.length):
        p.status = short_of(c, off + 8, WIRE_BAD_UDP_LENGTH)
        return
    size = be16(h + 4)
    if size == 0 and length > 65535:  # jumbogram (RFC 2675)
        size = length
    if unlikely(size < 8 or size > length):
        p.status = WIRE_BAD_UDP_LENGTH
        return
    p.sport = be16(h)
    p.dport = be16(h + 2)
    p.l4_len = 8
    set_payload(p, c, off + 8, size - 8)
    p.status = WIRE_UDP
