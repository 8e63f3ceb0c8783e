"""The loop over headers, Ethernet with VLAN tags, IPv4, IPv6 with extension headers, TCP, UDP.

What most frames are, Ethernet, IP, TCP, goes straight through without the loop.
"""
from aiomos._engine.be cimport be16, be32
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.links cimport link_known, link_open, llc_open, ppp_open
from aiomos._engine.tunnels cimport mpls_open, pppoe_open, protocol_known, protocol_open, type_open
from aiomos._engine.udptunnels cimport port_open, tunnel_port
from aiomos._engine.walk cimport (DECODE_AH, DECODE_VLAN, ETHER_IP4, ETHER_IP6, LAYER_AH, LAYER_END,
                                  LAYER_ETHER, LAYER_ETHER_TYPE, LAYER_IP, LAYER_LLC, LAYER_MPLS,
                                  LAYER_OTHER_TYPE, LAYER_PORT, LAYER_PPP, LAYER_PPPOE,
                                  LAYER_PROTOCOL, Cut, cut_at, decodes, is_tag, short_of)

cdef enum:
    LINK_ETHERNET = 1
    MAX_HEADERS = 32      # headers of one frame that the loop goes over
    MAX_TAGS = 16         # VLAN tags walked in one stack
    MAX_EXTENSIONS = 16   # IPv6 extension headers walked in one packet
    WIRE_INSIDE = 255     # status while there is a header to go on with (Cut.layer)


cdef bint wire_link_known(uint16_t link_type) noexcept nogil:
    return link_known(link_type)


cdef void wire_decode(Packet *p, const aio_frame *frame, const uint8_t *data, uint32_t length,
                      uint32_t decoders) noexcept nogil:
    cdef Cut c
    c.data = data
    c.length = length
    c.captured = frame.cap_len
    c.wire = frame.wire_len if frame.wire_len > frame.cap_len else frame.cap_len
    c.decoders = decoders
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
    p.n_tunnels = 0
    if likely(frame.link_type == LINK_ETHERNET):
        decode_ethernet(p, &c)
    else:
        link_open(&c, frame.link_type)
        p.status = c.status if c.layer == LAYER_END else WIRE_INSIDE
    if unlikely(p.status == WIRE_INSIDE):
        walk(p, &c)


cdef void wire_decode_ip(Packet *p, const aio_frame *frame, uint32_t off,
                         uint32_t decoders) noexcept nogil:
    cdef Cut c
    c.data = frame.data
    c.length = frame.cap_len
    c.captured = frame.cap_len
    c.wire = frame.wire_len
    c.decoders = decoders
    p.frame = frame
    p.linear = 0
    p.payload_len = 0
    p.payload_cap = 0
    decode_ip_any(p, &c, off)
    if p.status == WIRE_INSIDE:
        walk(p, &c)


# ---- the loop ----------------------------------------------------------------------------


cdef inline void go_on(Packet *p, Cut *c, uint8_t layer, uint32_t off) noexcept nogil:
    p.status = WIRE_INSIDE
    c.layer = layer
    c.off = off


cdef void walk(Packet *p, Cut *c) noexcept nogil:
    """From header to header until the packet is known.

    An encapsulation is left closed where nothing readable is in it: then the packet is the one
    that carries it.
    """
    cdef Packet outer
    cdef int headers = 0
    outer.status = WIRE_NOT_IP
    while p.status == WIRE_INSIDE:
        headers += 1
        if headers > MAX_HEADERS:
            p.status = WIRE_TOO_DEEP
        elif c.layer == LAYER_ETHER:
            decode_inner_ethernet(p, c)
        elif c.layer == LAYER_ETHER_TYPE:
            decode_ether_type(p, c, c.kind, c.off)
        elif c.layer == LAYER_IP:
            decode_ip_any(p, c, c.off)
        elif c.layer == LAYER_AH:
            decode_ah(p, c)
        else:
            if c.layer == LAYER_PROTOCOL or c.layer == LAYER_PORT:
                outer = p[0]
                outer.status = WIRE_OTHER if c.layer == LAYER_PROTOCOL else WIRE_UDP
            open_layer(p, c)
    if outer.status != WIRE_NOT_IP and stays_closed(p, &outer):
        p[0] = outer


cdef inline bint stays_closed(const Packet *p, const Packet *outer) noexcept nogil:
    """What is in UDP was a guess by port: a malformed packet in there is none."""
    if p.status == WIRE_NOT_IP:
        return True
    return outer.status == WIRE_UDP and p.status >= WIRE_BAD_ETHER and p.status < WIRE_TOO_DEEP


cdef void open_layer(Packet *p, Cut *c) noexcept nogil:
    c.opened = 0
    if c.layer == LAYER_OTHER_TYPE:
        type_open(c)
    elif c.layer == LAYER_LLC:
        llc_open(c)
    elif c.layer == LAYER_PPP:
        ppp_open(c)
    elif c.layer == LAYER_PPPOE:
        pppoe_open(c)
    elif c.layer == LAYER_MPLS:
        mpls_open(c)
    elif c.layer == LAYER_PROTOCOL:
        protocol_open(c)
    else:
        port_open(c)
    if c.layer == LAYER_END:
        p.status = c.status
    elif c.opened:
        note_tunnel(p, c)


cdef void note_tunnel(Packet *p, Cut *c) noexcept nogil:
    cdef Tunnel *t
    if p.n_tunnels == MAX_TUNNELS:
        p.status = WIRE_TOO_DEEP
        return
    t = &p.tunnel[p.n_tunnels]
    p.n_tunnels += 1
    t.kind = c.opened
    t.id = c.id
    t.has_id = c.has_id
    t.ip = p.ip
    t.ip_version = p.ip_version


# ---- Ethernet ----------------------------------------------------------------------------


cdef inline void keep_tag(Packet *p, uint16_t tci) noexcept nogil:
    if p.n_vlan < MAX_VLAN:
        p.vlan[p.n_vlan] = tci
        p.n_vlan += 1


cdef void decode_ethernet(Packet *p, Cut *c) noexcept nogil:
    cdef uint32_t i
    if unlikely(c.length < 14):
        p.status = short_of(c, 14, WIRE_BAD_ETHER)
        return
    p.link = c.data
    for i in range(min(<uint32_t>p.frame.n_vlan, <uint32_t>2)):
        keep_tag(p, p.frame.vlan[i])
    decode_ether_type(p, c, be16(c.data + 12), 14)


cdef void decode_inner_ethernet(Packet *p, Cut *c) noexcept nogil:
    """The addresses of a flow stay those of the frame that was captured."""
    if c.off + 14 > c.length:
        p.status = short_of(c, c.off + 14, WIRE_BAD_TUNNEL)
        return
    decode_ether_type(p, c, be16(c.data + c.off + 12), c.off + 14)


cdef void decode_ether_type(Packet *p, Cut *c, uint16_t kind, uint32_t off) noexcept nogil:
    """Network layer behind an EtherType, whose payload begins at off."""
    cdef int tags = 0
    while unlikely(is_tag(kind) and decodes(c, DECODE_VLAN)):
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
    else:
        c.kind = kind
        go_on(p, c, LAYER_OTHER_TYPE, off)


# ---- IP ----------------------------------------------------------------------------------


cdef void decode_ip_any(Packet *p, Cut *c, uint32_t off) noexcept nogil:
    """IP whose version only its first half-byte tells."""
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


cdef inline void set_payload(Packet *p, Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    """Transport data at off, `length` bytes of it by the network header."""
    p.payload_off = off
    p.payload_len = length
    if off >= c.captured:
        p.payload_cap = 0
    else:
        p.payload_cap = min(length, c.captured - off)


cdef void decode_ip4(Packet *p, Cut *c, uint32_t off) noexcept nogil:
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
        if off + header > c.length:
            p.status = short_of(c, off + header, WIRE_BAD_IP4_HEADER)
            return
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


cdef void decode_ip6(Packet *p, Cut *c, uint32_t off) noexcept nogil:
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


cdef void walk_extensions(Packet *p, Cut *c, uint32_t off, uint32_t left) noexcept nogil:
    """Extension headers (RFC 8200 section 4) down to a transport header."""
    cdef uint32_t size, named = off - 40 + 6     # the byte that names the header at off
    cdef uint32_t ip = off - 40
    cdef int walked = 0
    while walked < MAX_EXTENSIONS:
        walked += 1
        if not is_extension(p.protocol) or (p.protocol == 51 and not decodes(c, DECODE_AH)):
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


cdef void decode_transport(Packet *p, Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    p.l4 = c.data + off
    if likely(p.protocol == 6):
        decode_tcp(p, c, off, length)
    elif p.protocol == 17:
        decode_udp(p, c, off, length)
    else:
        decode_other(p, c, off, length)


cdef void decode_other(Packet *p, Cut *c, uint32_t off, uint32_t length) noexcept nogil:
    set_payload(p, c, off, length)
    p.status = WIRE_OTHER
    if protocol_known(p.protocol):
        cut_at(c, off + length)
        c.kind = p.protocol
        c.version = p.ip_version
        go_on(p, c, LAYER_PROTOCOL, off)
    elif p.protocol == 51 and decodes(c, DECODE_AH):   # over IPv4; IPv6 has it in its chain
        cut_at(c, off + length)
        go_on(p, c, LAYER_AH, off)


cdef void decode_ah(Packet *p, Cut *c) noexcept nogil:
    """RFC 4302 section 2: next header, length in words less two. What it proves is not checked."""
    cdef uint32_t off = c.off, size
    if off + 12 > c.length:
        p.status = short_of(c, off + 12, WIRE_BAD_TUNNEL)
        return
    size = extension_size(p, c.data + off)
    if off + size > c.wire:
        p.status = WIRE_BAD_TUNNEL
        return
    p.protocol = c.data[off]
    decode_transport(p, c, off + size, c.wire - off - size)


# ---- TCP, UDP ----------------------------------------------------------------------------


cdef void decode_tcp(Packet *p, Cut *c, uint32_t off, uint32_t length) noexcept nogil:
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


cdef void decode_udp(Packet *p, Cut *c, uint32_t off, uint32_t length) noexcept nogil:
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
    if unlikely(tunnel_port(p.dport) or tunnel_port(p.sport)) and p.payload_len:
        c.sport = p.sport
        c.dport = p.dport
        cut_at(c, off + size)
        go_on(p, c, LAYER_PORT, off + 8)
