"""Linux cooked, loopback, raw IP, PPP, Cisco HDLC, FDDI, 802.11; and the 802.2 header."""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.be cimport be16, be32
from aiomos._engine.walk cimport (DECODE_PPP, DECODE_SNAP, DECODE_WIFI, ETHER_IP4, ETHER_IP6,
                                  ETHER_MPLS, LAYER_IP, LAYER_LLC, LAYER_PPP, LAYER_PPPOE,
                                  WIRE_BAD_ETHER, WIRE_BAD_LINK, WIRE_NOT_IP, WIRE_PROTECTED,
                                  decodes, lacks, walk_end, walk_on, walk_type)

# LINKTYPE_* numbers of the pcap registry.
cdef enum:
    LINK_NULL = 0
    LINK_ETHERNET = 1
    LINK_PPP = 9
    LINK_FDDI = 10
    LINK_RAW_BSD = 12
    LINK_RAW_OPENBSD = 14
    LINK_PPP_HDLC = 50
    LINK_PPP_ETHER = 51
    LINK_RAW = 101
    LINK_C_HDLC = 104
    LINK_IEEE802_11 = 105
    LINK_LOOP = 108
    LINK_SLL = 113
    LINK_RADIOTAP = 127
    LINK_PPP_WITH_DIR = 204
    LINK_IPV4 = 228
    LINK_IPV6 = 229
    LINK_SLL2 = 276

# PPP protocol numbers (RFC 1661 section 2; IANA).
cdef enum:
    PPP_IP4 = 0x0021
    PPP_IP6 = 0x0057
    PPP_MPLS = 0x0281
    PPP_MPLS_UPSTREAM = 0x0283

# 802.11 frame control, its first byte and its second.
cdef enum:
    WIFI_VERSION = 0x03
    WIFI_TYPE = 0x0C
    WIFI_DATA = 0x08
    WIFI_NO_DATA = 0x40
    WIFI_QOS = 0x80
    WIFI_TO_AND_FROM = 0x03
    WIFI_MORE_FRAGMENTS = 0x04
    WIFI_ENCRYPTED = 0x40
    WIFI_ORDER = 0x80
    WIFI_AGGREGATE = 0x80     # of the QoS field: an A-MSDU

# Flags field of radiotap.
cdef enum:
    RADIOTAP_PADDED = 0x20    # 802.11 header padded to four bytes
    RADIOTAP_BAD_FCS = 0x40


cdef bint link_known(uint16_t link_type) noexcept nogil:
    return link_type in (LINK_NULL, LINK_ETHERNET, LINK_PPP, LINK_FDDI, LINK_RAW_BSD,
                         LINK_RAW_OPENBSD, LINK_PPP_HDLC, LINK_PPP_ETHER, LINK_RAW, LINK_C_HDLC,
                         LINK_IEEE802_11, LINK_LOOP, LINK_SLL, LINK_RADIOTAP, LINK_PPP_WITH_DIR,
                         LINK_IPV4, LINK_IPV6, LINK_SLL2)


cdef void link_open(Cut *c, uint16_t link) noexcept nogil:
    c.off = 0
    if link == LINK_SLL:
        open_typed(c, 16, 14)
    elif link == LINK_SLL2:
        open_typed(c, 20, 0)
    elif link == LINK_C_HDLC:
        open_typed(c, 4, 2)
    elif link == LINK_NULL or link == LINK_LOOP:
        # The address family here is the capturing host's, in its byte order and with its number
        # for IPv6; the version says the same and is portable.
        walk_on(c, 4, LAYER_IP)
    elif link in (LINK_RAW, LINK_IPV4, LINK_IPV6, LINK_RAW_BSD, LINK_RAW_OPENBSD):
        walk_on(c, 0, LAYER_IP)
    elif link == LINK_FDDI:
        walk_on(c, 13, LAYER_LLC)
    else:
        open_dial_or_air(c, link)


cdef void open_dial_or_air(Cut *c, uint16_t link) noexcept nogil:
    if link == LINK_PPP:
        walk_on(c, 0, LAYER_PPP)
    elif link == LINK_PPP_WITH_DIR:       # a byte in front: received or sent
        walk_on(c, 1, LAYER_PPP)
    elif link == LINK_PPP_HDLC:
        open_serial(c)
    elif link == LINK_PPP_ETHER:
        walk_on(c, 0, LAYER_PPPOE)
    elif link == LINK_IEEE802_11:
        open_wifi(c, False)
    elif link == LINK_RADIOTAP:
        open_radiotap(c)
    else:
        walk_end(c, WIRE_BAD_LINK)


cdef void open_typed(Cut *c, uint32_t size, uint32_t at) noexcept nogil:
    """A header of fixed size with an EtherType at a fixed place."""
    if not lacks(c, size, WIRE_BAD_ETHER):
        walk_type(c, size, be16(c.data + at))


cdef void open_serial(Cut *c) noexcept nogil:
    """PPP in HDLC-like framing, or Cisco's own: its address byte is 0x0F or 0x8F."""
    if lacks(c, 1, WIRE_BAD_ETHER):
        return
    if c.data[0] & 0x7F == 0x0F:
        open_typed(c, 4, 2)
    else:
        walk_on(c, 0, LAYER_PPP)


# ---- 802.2, PPP --------------------------------------------------------------------------


cdef void llc_open(Cut *c) noexcept nogil:
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t oui
    if lacks(c, 8, WIRE_NOT_IP):
        return
    if not decodes(c, DECODE_SNAP):
        walk_end(c, WIRE_NOT_IP)
        return
    oui = be32(h + 2) & 0xFFFFFF
    if be32(h) >> 8 == 0xAAAA03 and (oui == 0 or oui == 0xF8):   # RFC 1042, IEEE 802.1H
        walk_type(c, 8, be16(h + 6))
    elif be32(h) >> 8 == 0x060603:        # IP has an access point of its own
        walk_on(c, 3, LAYER_IP)
    else:
        walk_end(c, WIRE_NOT_IP)


cdef void ppp_open(Cut *c) noexcept nogil:
    """RFC 1661 section 2; address, control and half of the protocol field may be left out."""
    cdef uint32_t protocol
    if not decodes(c, DECODE_PPP):
        walk_end(c, WIRE_NOT_IP)
        return
    if lacks(c, 2, WIRE_NOT_IP):
        return
    if c.data[c.off] == 0xFF and c.data[c.off + 1] == 0x03:
        c.off += 2
        if lacks(c, 2, WIRE_NOT_IP):
            return
    protocol = c.data[c.off]
    c.off += 1
    if protocol & 1 == 0:
        protocol = protocol << 8 | c.data[c.off]
        c.off += 1
    if protocol == PPP_IP4:
        walk_type(c, 0, ETHER_IP4)
    elif protocol == PPP_IP6:
        walk_type(c, 0, ETHER_IP6)
    elif protocol == PPP_MPLS or protocol == PPP_MPLS_UPSTREAM:
        walk_type(c, 0, ETHER_MPLS)
    else:
        walk_end(c, WIRE_NOT_IP)


# ---- 802.11 ------------------------------------------------------------------------------


cdef inline uint32_t le16(const uint8_t *h) noexcept nogil:
    return h[0] | <uint32_t>h[1] << 8


cdef void open_radiotap(Cut *c) noexcept nogil:
    cdef uint32_t size
    cdef uint8_t flags
    if lacks(c, 8, WIRE_BAD_ETHER):
        return
    size = le16(c.data + 2)
    if c.data[0] != 0 or size < 8:
        walk_end(c, WIRE_BAD_ETHER)
        return
    if lacks(c, size, WIRE_BAD_ETHER):
        return
    flags = radiotap_flags(c.data, size)
    if flags & RADIOTAP_BAD_FCS:          # no station takes it
        walk_end(c, WIRE_BAD_ETHER)
        return
    c.off = size
    open_wifi(c, flags & RADIOTAP_PADDED)


cdef uint8_t radiotap_flags(const uint8_t *h, uint32_t size) noexcept nogil:
    """The flags field, second of those that the first word of the bitmap announces."""
    cdef uint32_t at = 4
    if h[4] & 2 == 0:
        return 0
    while at + 4 <= size and h[at + 3] & 0x80:   # more words of the bitmap
        at += 4
    at += 4
    if h[4] & 1:                          # the clock of the air in front: eight bytes, aligned
        at = ((at + 7) & ~<uint32_t>7) + 8
    return h[at] if at < size else 0


cdef void open_wifi(Cut *c, bint padded) noexcept nogil:
    """Data frames, with QoS and with four addresses; an aggregate's first frame alone."""
    cdef const uint8_t *h = c.data + c.off
    cdef uint32_t size
    if lacks(c, 2, WIRE_BAD_ETHER):
        return
    if not decodes(c, DECODE_WIFI) or not carries_data(h):
        walk_end(c, WIRE_NOT_IP)
        return
    if h[1] & WIFI_ENCRYPTED:
        walk_end(c, WIRE_PROTECTED)
        return
    size = wifi_size(h)
    if lacks(c, size, WIRE_BAD_ETHER):
        return
    # Fragments of 802.11 are not put together; IP does not send packets that need it.
    if h[1] & WIFI_MORE_FRAGMENTS or h[22] & 0x0F:
        walk_end(c, WIRE_NOT_IP)
        return
    if padded:
        size = (size + 3) & ~<uint32_t>3
    if h[0] & WIFI_QOS and h[wifi_qos_at(h)] & WIFI_AGGREGATE:
        size += 14                        # addresses and length of the first frame inside
    walk_on(c, size, LAYER_LLC)


cdef inline bint carries_data(const uint8_t *h) noexcept nogil:
    return h[0] & (WIFI_VERSION | WIFI_TYPE | WIFI_NO_DATA) == WIFI_DATA


cdef inline uint32_t wifi_qos_at(const uint8_t *h) noexcept nogil:
    """Where the QoS field stands: behind three addresses, or four between access points."""
    return 30 if h[1] & WIFI_TO_AND_FROM == WIFI_TO_AND_FROM else 24


cdef inline uint32_t wifi_size(const uint8_t *h) noexcept nogil:
    cdef uint32_t size = wifi_qos_at(h)
    if h[0] & WIFI_QOS:
        size += 6 if h[1] & WIFI_ORDER else 2    # with the HT control field
    return size
