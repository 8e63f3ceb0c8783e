"""MPLS, PPPoE, PBB, Cisco metadata; IP in IP, EtherIP, GRE and what goes in it."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos._engine.be cimport be16, be32
from aiomos._engine.walk cimport (DECODE_4IN6, DECODE_6IN4, DECODE_6IN6, DECODE_CMD, DECODE_EOIP,
                                  DECODE_ERSPAN, DECODE_ETHERIP, DECODE_GRE, DECODE_IPIP,
                                  DECODE_MPLS, DECODE_NVGRE, DECODE_PBB, DECODE_PPPOE, DECODE_PPTP,
                                  ETHER_ARP, ETHER_BRIDGED, ETHER_CMD, ETHER_IP4, ETHER_IP6,
                                  ETHER_MPLS, ETHER_MPLS_UPSTREAM, ETHER_PBB, ETHER_PPPOE,
                                  LAYER_ETHER, LAYER_IP, LAYER_LLC, LAYER_MPLS, LAYER_PPP,
                                  LAYER_PPPOE, WIRE_BAD_TUNNEL, WIRE_NOT_IP, cut_at, decodes,
                                  is_tag, lacks, opened, opened_as, walk_end, walk_on, walk_type)

cdef enum:
    MAX_LABELS = 16       # of one MPLS stack
    LABEL_ENTROPY = 7     # the label behind this one is a hash (RFC 6790)
    MAX_ROUTES = 16       # source route entries of one GRE header

# GRE header: flags, then protocol types that are no EtherTypes.
cdef enum:
    GRE_CHECKSUM = 0x8000
    GRE_ROUTING = 0x4000
    GRE_KEY = 0x2000
    GRE_SEQUENCE = 0x1000
    GRE_ACK = 0x0080      # version 1
    GRE_VERSION = 0x0007
    GRE_PPP = 0x880B
    GRE_ERSPAN = 0x88BE   # types I and II
    GRE_ERSPAN3 = 0x22EB
    GRE_EOIP = 0x6400
    FIRST_ETHER_TYPE = 0x0600

# Virtual subnets of NVGRE; a key outside these is one of plain GRE (RFC 7637 section 3.2).
cdef enum:
    VSID_FIRST = 0x001000
    VSID_LAST = 0xFFFFFE


# ---- by EtherType ------------------------------------------------------------------------


cdef void type_open(Cut *c) noexcept nogil:
    cdef uint16_t kind = c.kind
    if kind <= 1500:
        walk_on(c, 0, LAYER_LLC)
    elif kind == ETHER_MPLS or kind == ETHER_MPLS_UPSTREAM:
        walk_on(c, 0, LAYER_MPLS)
    elif kind == ETHER_PPPOE:
        walk_on(c, 0, LAYER_PPPOE)
    elif kind == ETHER_PBB:
        open_pbb(c)
    elif kind == ETHER_CMD:
        open_metadata(c)
    elif kind == ETHER_BRIDGED:
        walk_on(c, 0, LAYER_ETHER)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void pppoe_open(Cut *c) noexcept nogil:
    """RFC 2516 section 4, session stage."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t length
    if not decodes(c, DECODE_PPPOE):
        walk_end(c, WIRE_NOT_IP)
        return
    if lacks(c, 6, WIRE_BAD_TUNNEL):
        return
    length = be16(h + 4)
    if h[0] != 0x11 or h[1] != 0 or c.off + 6 + length > c.wire:
        walk_end(c, WIRE_BAD_TUNNEL)
        return
    opened_as(c, DECODE_PPPOE, be16(h + 2))
    cut_at(c, c.off + 6 + length)
    walk_on(c, 6, LAYER_PPP)


cdef void open_pbb(Cut *c) noexcept nogil:
    """IEEE 802.1ah: the service tag, then the customer's frame."""
    if not decodes(c, DECODE_PBB):
        walk_end(c, WIRE_NOT_IP)
    elif not lacks(c, 4, WIRE_BAD_TUNNEL):
        opened_as(c, DECODE_PBB, be32(c.data + c.off) & 0xFFFFFF)
        walk_on(c, 4, LAYER_ETHER)


cdef void open_metadata(Cut *c) noexcept nogil:
    """Cisco metadata: version, length in words, options; then an EtherType."""
    cdef uint32_t size
    if not decodes(c, DECODE_CMD):
        walk_end(c, WIRE_NOT_IP)
        return
    if lacks(c, 2, WIRE_BAD_TUNNEL):
        return
    size = 2 + (<uint32_t>c.data[c.off + 1] << 2)
    if not lacks(c, size + 2, WIRE_BAD_TUNNEL):
        walk_type(c, size + 2, be16(c.data + c.off + size))


# ---- MPLS --------------------------------------------------------------------------------


cdef void mpls_open(Cut *c) noexcept nogil:
    """RFC 3032: labels down to the bottom of the stack. Told is the one that says whose it is."""
    cdef uint32_t label = 0, above, told = 0
    cdef int left = MAX_LABELS
    if not decodes(c, DECODE_MPLS):
        walk_end(c, WIRE_NOT_IP)
        return
    while left:
        left -= 1
        if lacks(c, 4, WIRE_BAD_TUNNEL):
            return
        above = label
        label = be32(c.data + c.off) >> 12
        if label != LABEL_ENTROPY and above != LABEL_ENTROPY:
            told = label
        c.off += 4
        if c.data[c.off - 2] & 1:
            opened_as(c, DECODE_MPLS, told)
            guess_payload(c)
            return
    walk_end(c, WIRE_BAD_TUNNEL)


cdef void guess_payload(Cut *c) noexcept nogil:
    """Nothing says what a label carries. IP begins with its version; a first half-byte of zero
    is a pseudo-wire's control word (RFC 4385 section 3); any other may be an address."""
    cdef uint8_t first
    if lacks(c, 4, WIRE_BAD_TUNNEL):
        return
    first = c.data[c.off] >> 4
    if (first == 4 and looks_ip4(c)) or (first == 6 and looks_ip6(c)):
        walk_on(c, 0, LAYER_IP)
    elif lacks(c, 18, WIRE_NOT_IP):
        return
    elif first == 0:
        if looks_ether(c, c.off + 4):
            walk_on(c, 4, LAYER_ETHER)
        else:
            walk_end(c, WIRE_NOT_IP)
    elif looks_ether(c, c.off):
        walk_on(c, 0, LAYER_ETHER)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef inline bint looks_ip4(const Cut *c) noexcept nogil:
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t header = (h[0] & 15) << 2
    cdef uint32_t total = be16(h + 2)
    return header >= 20 and header <= total and total <= c.wire - c.off


cdef inline bint looks_ip6(Cut *c) noexcept nogil:
    if c.off + 6 > c.length:
        return True
    return 40 + <uint32_t>be16(c.data + c.off + 4) <= c.wire - c.off


cdef inline bint looks_ether(const Cut *c, uint32_t at) noexcept nogil:
    cdef uint16_t kind
    if at + 14 > c.length:
        return False
    kind = be16(c.data + at + 12)
    if kind <= 1500:
        return at + 14 + kind <= c.wire
    return (kind == ETHER_IP4 or kind == ETHER_IP6 or kind == ETHER_ARP or is_tag(kind)
            or kind == ETHER_MPLS or kind == ETHER_PPPOE)


# ---- by IP protocol ----------------------------------------------------------------------


cdef void protocol_open(Cut *c) noexcept nogil:
    if c.kind == 4:
        open_ip(c, 4, DECODE_IPIP if c.version == 4 else DECODE_4IN6)
    elif c.kind == 41:
        open_ip(c, 6, DECODE_6IN4 if c.version == 4 else DECODE_6IN6)
    elif c.kind == 47:
        open_gre(c)
    elif c.kind == 97:
        open_etherip(c)
    elif c.kind == 137:                   # RFC 4023
        walk_on(c, 0, LAYER_MPLS)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void open_ip(Cut *c, uint8_t version, uint8_t decoder) noexcept nogil:
    if lacks(c, 1, WIRE_BAD_TUNNEL):
        return
    if not decodes(c, decoder) or c.data[c.off] >> 4 != version:
        walk_end(c, WIRE_NOT_IP)
        return
    opened(c, decoder)
    walk_on(c, 0, LAYER_IP)


cdef void open_etherip(Cut *c) noexcept nogil:
    """RFC 3378: version 3, twelve bits of nothing."""
    if lacks(c, 2, WIRE_BAD_TUNNEL):
        return
    if not decodes(c, DECODE_ETHERIP) or c.data[c.off] >> 4 != 3:
        walk_end(c, WIRE_NOT_IP)
        return
    opened(c, DECODE_ETHERIP)
    walk_on(c, 2, LAYER_ETHER)


# ---- GRE ---------------------------------------------------------------------------------


cdef void open_gre(Cut *c) noexcept nogil:
    cdef uint16_t flags
    if lacks(c, 4, WIRE_BAD_TUNNEL):
        return
    flags = be16(c.data + c.off)
    if flags & GRE_VERSION == 0:
        open_gre0(c, flags)
    elif flags & (GRE_VERSION | GRE_KEY) == 1 | GRE_KEY:
        open_gre1(c, flags)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void open_gre0(Cut *c, uint16_t flags) noexcept nogil:
    """RFC 2784 with key and sequence number (RFC 2890) and the older routing field (RFC 1701)."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t size = 4, key = 0
    if flags & (GRE_CHECKSUM | GRE_ROUTING):
        size += 4
    if flags & GRE_KEY:
        size += 4
    if flags & GRE_SEQUENCE:
        size += 4
    if lacks(c, size, WIRE_BAD_TUNNEL):
        return
    if flags & GRE_KEY:
        key = be32(h + (8 if flags & (GRE_CHECKSUM | GRE_ROUTING) else 4))
    c.off += size
    if flags & GRE_ROUTING and not pass_routes(c):
        return
    open_gre_payload(c, flags, be16(h + 2), key)


cdef bint pass_routes(Cut *c) noexcept nogil:
    """Source route entries: address family, offset, length; one of zeros is the last."""
    cdef int left = MAX_ROUTES
    cdef uint32_t family, length
    while left:
        left -= 1
        if lacks(c, 4, WIRE_BAD_TUNNEL):
            return False
        family = be16(c.data + c.off)
        length = c.data[c.off + 3]
        c.off += 4
        if family == 0 and length == 0:
            return True
        c.off += length
    walk_end(c, WIRE_BAD_TUNNEL)
    return False


cdef void open_gre_payload(Cut *c, uint16_t flags, uint16_t kind, uint32_t key) noexcept nogil:
    if kind == GRE_ERSPAN or kind == GRE_ERSPAN3:
        open_erspan(c, kind, flags & GRE_SEQUENCE)
        return
    if not is_gre_type(kind):
        walk_end(c, WIRE_NOT_IP)
        return
    if flags & GRE_KEY == 0:
        opened(c, DECODE_GRE)
    elif kind == ETHER_BRIDGED and VSID_FIRST <= key >> 8 <= VSID_LAST:
        opened_as(c, DECODE_NVGRE, key >> 8)     # the last eight bits tell flows apart
    else:
        opened_as(c, DECODE_GRE, key)
    if not decodes(c, c.opened):
        walk_end(c, WIRE_NOT_IP)
    elif kind == GRE_PPP:
        walk_on(c, 0, LAYER_PPP)
    else:
        walk_type(c, 0, kind)


cdef inline bint is_gre_type(uint16_t kind) noexcept nogil:
    """Keep-alives have type 0; 802.2 lengths have no place here."""
    return kind >= FIRST_ETHER_TYPE


cdef void open_erspan(Cut *c, uint16_t kind, bint numbered) noexcept nogil:
    """A mirrored frame: type I has no header at all, II eight bytes, III twelve or twenty."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t size = 8 if kind == GRE_ERSPAN else 12
    if not decodes(c, DECODE_ERSPAN):
        walk_end(c, WIRE_NOT_IP)
        return
    if kind == GRE_ERSPAN and not numbered:
        opened(c, DECODE_ERSPAN)
        walk_on(c, 0, LAYER_ETHER)
        return
    if lacks(c, size, WIRE_BAD_TUNNEL):
        return
    if h[0] >> 4 != (1 if kind == GRE_ERSPAN else 2):
        walk_end(c, WIRE_NOT_IP)
        return
    if kind == GRE_ERSPAN3 and h[11] & 1:        # a platform's own header behind it
        size += 8
    opened_as(c, DECODE_ERSPAN, be16(h + 2) & 0x3FF)
    walk_on(c, size, LAYER_ETHER)


cdef void open_gre1(Cut *c, uint16_t flags) noexcept nogil:
    """Enhanced GRE: its key is a payload length and an identifier."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint16_t kind = be16(h + 2)
    if kind == GRE_PPP:
        open_pptp(c, flags)
    elif kind == GRE_EOIP:
        open_eoip(c)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void open_pptp(Cut *c, uint16_t flags) noexcept nogil:
    """RFC 2637 section 4.1. Without a sequence number it is an acknowledgement alone."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t size = 12 + (4 if flags & GRE_ACK else 0)
    if not decodes(c, DECODE_PPTP) or flags & GRE_SEQUENCE == 0:
        walk_end(c, WIRE_NOT_IP)
        return
    if lacks(c, size, WIRE_BAD_TUNNEL):
        return
    if c.off + size + be16(h + 4) > c.wire:
        walk_end(c, WIRE_BAD_TUNNEL)
        return
    opened_as(c, DECODE_PPTP, be16(h + 6))
    cut_at(c, c.off + size + be16(h + 4))
    walk_on(c, size, LAYER_PPP)


cdef void open_eoip(Cut *c) noexcept nogil:
    """MikroTik's Ethernet over IP; the identifier is in the other byte order."""
    cdef const uint8_t *h = c.data + c.off
    if not decodes(c, DECODE_EOIP):
        walk_end(c, WIRE_NOT_IP)
        return
    if lacks(c, 8, WIRE_BAD_TUNNEL):
        return
    if c.off + 8 + be16(h + 4) > c.wire:
        walk_end(c, WIRE_BAD_TUNNEL)
        return
    opened_as(c, DECODE_EOIP, h[6] | <uint32_t>h[7] << 8)
    cut_at(c, c.off + 8 + be16(h + 4))
    walk_on(c, 8, LAYER_ETHER)
