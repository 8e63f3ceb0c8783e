"""Headers of the network and of what carries it, each put in front of what is there already."""
from libc.stdint cimport uint64_t
from libc.string cimport memset

from aiomos._engine.limits cimport PROTO_UDP


cdef void push16(Out *o, uint32_t value) noexcept nogil:
    put16(push(o, 2), value)


cdef uint64_t add_up(const uint8_t *at, uint32_t size, uint64_t total) noexcept nogil:
    """Sum for the Internet checksum (RFC 1071)."""
    cdef uint32_t i = 0
    while i + 1 < size:
        total += <uint32_t>at[i] << 8 | at[i + 1]
        i += 2
    return total + (<uint32_t>at[i] << 8 if i < size else 0)


cdef uint16_t folded(uint64_t total) noexcept nogil:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t>~total


cdef void put_addresses(uint8_t *at, uint8_t who) noexcept nogil:
    """Source, then destination: IPv6 for pairs 5 and 6, hosts of its own for pair 4."""
    cdef int speaker = who >> 3 & 1, i
    cdef int size = 16 if is_ip6(who) else 4
    memset(at, 0, 2 * size)
    for i in range(2):
        at[i * size] = 0xFD if size == 16 else 10
        at[i * size + 1] = 4 if who & 7 == 4 else 0
        at[i * size + size - 1] = 1 if i == speaker else 2


cdef uint16_t transport_sum(const Out *o, uint8_t who, uint8_t protocol) noexcept nogil:
    cdef uint8_t ends[32]
    cdef uint64_t head
    put_addresses(ends, who)
    head = add_up(ends, 32 if is_ip6(who) else 8, 0) + protocol + o.size
    return folded(add_up(o.at, o.size, head))


cdef void push_ip(Out *o, uint8_t who, uint8_t protocol, uint32_t fragment,
                  uint32_t ident) noexcept nogil:
    """`fragment` is the field of IPv4: flags, and the offset in 8-byte units."""
    cdef uint32_t size = o.size
    cdef uint8_t *h
    if is_ip6(who):
        if fragment != 0x4000:
            h = push(o, 8)
            h[0] = protocol
            put16(h + 2, (fragment & 0x1FFF) << 3 | fragment >> 13 & 1)
            put32(h + 4, ident)
            protocol = 44
        h = push(o, 40)
        h[0] = 0x60
        put16(h + 4, o.size - 40)
        h[6] = protocol
        h[7] = 64
        put_addresses(h + 8, who)
        return
    h = push(o, 20)
    h[0] = 0x45
    put16(h + 2, size + 20)
    put16(h + 4, ident)
    put16(h + 6, fragment)
    h[8] = 64
    h[9] = protocol
    put_addresses(h + 12, who)
    put16(h + 10, folded(add_up(h, 20, 0)))


# ---- link layers and tunnels -------------------------------------------------------------


cdef void push_ethernet(Out *o, uint32_t kind) noexcept nogil:
    cdef uint8_t *h = push(o, 14)
    h[0] = h[6] = 2
    h[5] = 2
    h[11] = 1
    put16(h + 12, kind)


cdef void push_outer(Out *o, uint8_t protocol) noexcept nogil:
    """Between two routers."""
    push_ip(o, 4, protocol, 0x4000, 2)


cdef void push_udp_outer(Out *o, uint32_t port) noexcept nogil:
    cdef uint8_t *h = push(o, 8)
    put16(h, port)
    put16(h + 2, port)
    put16(h + 4, o.size)
    push_outer(o, PROTO_UDP)


cdef uint16_t wrap_plain(Out *o, int link, uint8_t tag, bint six) noexcept nogil:
    """Links 0 to 7; the number of the link type."""
    cdef uint32_t kind = 0x86DD if six else 0x0800
    if link == 3:
        return 101
    if link == 7:
        return 229 if six else 228
    if link == 6:
        push(o, 4)[0] = 2
        return 0
    if link == 4:
        push16(o, kind)
        push(o, 14)
        return 113
    if link == 5:
        put16(push(o, 20), kind)
        return 276
    if link == 1 or link == 2:
        push16(o, kind)
        push16(o, tag)
        kind = 0x8100
    if link == 2:
        push16(o, kind)
        push16(o, tag >> 4)
        kind = 0x88A8
    push_ethernet(o, kind)
    return 1


cdef void wrap_tunnel(Out *o, int link, uint8_t tag, bint six) noexcept nogil:
    """Links 8 to 15: around the packet, inside Ethernet."""
    cdef uint8_t *h
    cdef uint32_t kind = 0x86DD if six else 0x0800
    cdef uint32_t outer = 0x0800
    if link == 8:
        push_outer(o, 41 if six else 4)
    elif link == 9:
        push16(o, kind)
        push16(o, 0)
        push_outer(o, 47)
    elif link == 10 or link == 14:
        push_ethernet(o, kind)
        h = push(o, 8)
        h[0] = 8 if link == 10 else 0
        put16(h + 2, 0 if link == 10 else 0x6558)
        h[6] = tag
        push_udp_outer(o, 4789 if link == 10 else 6081)
    elif link == 11:
        put32(push(o, 4), <uint32_t>tag << 12 | 0x140)
        outer = 0x8847
    elif link == 12:
        push16(o, 0x57 if six else 0x21)
        h = push(o, 6)
        h[0] = 0x11
        put16(h + 4, o.size - 6)
        outer = 0x8864
    elif link == 13:
        h = push(o, 8)
        h[0] = 0x30
        h[1] = 0xFF
        put16(h + 2, o.size - 8)
        push_udp_outer(o, 2152)
    else:
        push_ip(o, 6, 41 if six else 4, 0x4000, 2)
        outer = 0x86DD
    push_ethernet(o, outer)
