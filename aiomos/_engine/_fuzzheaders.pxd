"""Headers in front of a packet under construction: network, tunnels, link layers."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

# A packet from `at` on; headers grow downwards, into room that the caller left there.
cdef struct Out:
    uint8_t *at
    uint32_t size

cdef void push16(Out *o, uint32_t value) noexcept nogil
cdef uint64_t add_up(const uint8_t *at, uint32_t size, uint64_t total) noexcept nogil
cdef uint16_t folded(uint64_t total) noexcept nogil
# The checksum of a TCP, UDP or ICMPv6 packet between the ends that `who` names.
cdef uint16_t transport_sum(const Out *o, uint8_t who, uint8_t protocol) noexcept nogil
# `fragment` is the field of IPv4: flags, and the offset in 8-byte units.
cdef void push_ip(Out *o, uint8_t who, uint8_t protocol, uint32_t fragment,
                  uint32_t ident) noexcept nogil
cdef uint16_t wrap_plain(Out *o, int link, uint8_t tag, bint six) noexcept nogil
cdef void wrap_tunnel(Out *o, int link, uint8_t tag, bint six) noexcept nogil

cdef inline uint8_t *push(Out *o, uint32_t size) noexcept nogil:
    """A header of zeros in front."""
    o.at -= size
    o.size += size
    memset(o.at, 0, size)
    return o.at

cdef inline void put16(uint8_t *at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 8)
    at[1] = <uint8_t>value

cdef inline void put32(uint8_t *at, uint32_t value) noexcept nogil:
    put16(at, value >> 16)
    put16(at + 2, value)

cdef inline bint is_ip6(uint8_t who) noexcept nogil:
    return who & 7 == 5 or who & 7 == 6
