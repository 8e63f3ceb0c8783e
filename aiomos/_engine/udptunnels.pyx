"""VXLAN, VXLAN-GPE, Geneve, GTP-U, Teredo, L2TP."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos._engine.be cimport be16, be32
from aiomos._engine.walk cimport (DECODE_GENEVE, DECODE_GTPU, DECODE_L2TP, DECODE_TEREDO,
                                  DECODE_VXLAN, ETHER_IP4, ETHER_IP6, ETHER_MPLS,
                                  LAYER_ETHER, LAYER_IP, LAYER_PPP, WIRE_BAD_TUNNEL, WIRE_NOT_IP,
                                  cut_at, decodes, lacks, opened, opened_as, walk_end, walk_on,
                                  walk_type)

cdef enum:
    VXLAN_HAS_VNI = 0x08
    VXLAN_HAS_TYPE = 0x04         # of the GPE draft

cdef enum:
    GTP_VERSION_1 = 0x30          # with "protocol type" GTP
    GTP_VERSION = 0xF0
    GTP_EXTENSION = 0x04
    GTP_OPTIONAL = 0x07           # any of the three that make the header four bytes longer
    GTP_PACKET = 0xFF             # message type: a user's packet
    MAX_GTP_EXTENSIONS = 16

cdef enum:
    L2TP_LENGTH = 0x4000
    L2TP_SEQUENCE = 0x0800
    L2TP_OFFSET = 0x0200
    L2TP_FIXED = 0xB4FF           # control bit, reserved bits, version
    L2TP_DATA = 0x0002


cdef void port_open(Cut *c) noexcept nogil:
    cdef uint16_t port = c.dport
    if not tunnel_port(port):
        port = c.sport            # an answer of a server to a client's own port
    if port == PORT_VXLAN or port == PORT_VXLAN_OLD or port == PORT_VXLAN_GPE:
        open_vxlan(c)
    elif port == PORT_GENEVE:
        open_geneve(c)
    elif port == PORT_GTPU:
        open_gtp(c)
    elif port == PORT_TEREDO:
        open_teredo(c)
    else:
        open_l2tp(c)


# Whether the decoder is off, or n bytes are not at hand; then the walk has ended.
cdef inline bint shut(Cut *c, int decoder, uint32_t n) noexcept nogil:
    if not decodes(c, decoder):
        walk_end(c, WIRE_NOT_IP)
        return True
    return lacks(c, n, WIRE_BAD_TUNNEL)


cdef void open_vxlan(Cut *c) noexcept nogil:
    """RFC 7348 section 5; draft-ietf-nvo3-vxlan-gpe says what follows, where its bit is set."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint8_t following = 3
    if shut(c, DECODE_VXLAN, 8):
        return
    if h[0] & VXLAN_HAS_VNI == 0:
        walk_end(c, WIRE_NOT_IP)
        return
    opened_as(c, DECODE_VXLAN, be32(h + 4) >> 8)
    if h[0] & VXLAN_HAS_TYPE:
        following = h[3]
    if following == 1:
        walk_type(c, 8, ETHER_IP4)
    elif following == 2:
        walk_type(c, 8, ETHER_IP6)
    elif following == 3:
        walk_on(c, 8, LAYER_ETHER)
    elif following == 5:
        walk_type(c, 8, ETHER_MPLS)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void open_geneve(Cut *c) noexcept nogil:
    """RFC 8926 section 3.4."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t size
    if shut(c, DECODE_GENEVE, 8):
        return
    if h[0] >> 6 != 0 or be16(h + 2) < 0x0600:
        walk_end(c, WIRE_NOT_IP)
        return
    size = 8 + ((h[0] & 0x3F) << 2)
    if not lacks(c, size, WIRE_BAD_TUNNEL):
        opened_as(c, DECODE_GENEVE, be32(h + 4) >> 8)
        walk_type(c, size, be16(h + 2))


# ---- GTP-U -------------------------------------------------------------------------------


cdef void open_gtp(Cut *c) noexcept nogil:
    """3GPP TS 29.281 section 5.1. What the user sends is IP; nothing says so."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t length
    if shut(c, DECODE_GTPU, 8):
        return
    length = be16(h + 2)
    if h[0] & GTP_VERSION != GTP_VERSION_1 or h[1] != GTP_PACKET or c.off + 8 + length > c.wire:
        walk_end(c, WIRE_NOT_IP)
        return
    opened_as(c, DECODE_GTPU, be32(h + 4))
    cut_at(c, c.off + 8 + length)
    c.off += 8
    if h[0] & GTP_OPTIONAL and not pass_gtp_options(c, h[0] & GTP_EXTENSION):
        return
    walk_on(c, 0, LAYER_IP)


cdef bint pass_gtp_options(Cut *c, bint extended) noexcept nogil:
    """Sequence number, N-PDU number, type of the first extension; extensions in words."""
    cdef int left = MAX_GTP_EXTENSIONS
    cdef uint32_t size
    cdef uint8_t following
    if lacks(c, 4, WIRE_BAD_TUNNEL):
        return False
    following = c.data[c.off + 3] if extended else 0
    c.off += 4
    while left:
        left -= 1
        if following == 0:
            return True
        if lacks(c, 1, WIRE_BAD_TUNNEL):
            return False
        size = <uint32_t>c.data[c.off] << 2
        if size == 0:
            break
        if lacks(c, size, WIRE_BAD_TUNNEL):
            return False
        c.off += size
        following = c.data[c.off - 1]
    walk_end(c, WIRE_BAD_TUNNEL)
    return False


# ---- Teredo, L2TP ------------------------------------------------------------------------


cdef void open_teredo(Cut *c) noexcept nogil:
    """RFC 4380 section 5.1.1: authentication and origin may stand in front, in this order."""
    cdef const uint8_t *h = c.data + c.off
    if shut(c, DECODE_TEREDO, 4):
        return
    if be16(h) == 1:
        c.off += 13 + h[2] + <uint32_t>h[3]
        if lacks(c, 4, WIRE_BAD_TUNNEL):
            return
        h = c.data + c.off
    if be16(h) == 0:
        c.off += 8
        if lacks(c, 1, WIRE_BAD_TUNNEL):
            return
    if c.data[c.off] >> 4 != 6:
        walk_end(c, WIRE_NOT_IP)
        return
    opened(c, DECODE_TEREDO)
    walk_on(c, 0, LAYER_IP)


cdef void open_l2tp(Cut *c) noexcept nogil:
    """RFC 2661 section 3.1, data messages. Told is the tunnel's number above the session's."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint16_t flags
    cdef uint32_t size = 6
    if shut(c, DECODE_L2TP, 6):
        return
    flags = be16(h)
    if flags & L2TP_FIXED != L2TP_DATA:
        walk_end(c, WIRE_NOT_IP)
        return
    size += (2 if flags & L2TP_LENGTH else 0) + (4 if flags & L2TP_SEQUENCE else 0)
    if lacks(c, size + (2 if flags & L2TP_OFFSET else 0), WIRE_BAD_TUNNEL):
        return
    if flags & L2TP_OFFSET:
        size += 2 + <uint32_t>be16(h + size)
    if flags & L2TP_LENGTH:
        if be16(h + 2) < size or c.off + be16(h + 2) > c.wire:
            walk_end(c, WIRE_BAD_TUNNEL)
            return
        cut_at(c, c.off + be16(h + 2))
        h += 2
    opened_as(c, DECODE_L2TP, be32(h + 2))
    walk_on(c, size, LAYER_PPP)
