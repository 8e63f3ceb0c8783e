"""The canonical key of a flow: the same for both directions, hashed with a secret seed.

IPv4: the key itself, in two words; with a digest over it where the network is part of the key
(flowscope.pxd). IPv6: two seeded 64-bit digests of it; the full
addresses are compared once more before a match is believed (flowtable.pyx).
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from aiomos._engine.be cimport raw32, raw64
from aiomos._engine.intrinsics cimport aio_mum
from aiomos._engine.wire cimport Packet, packet_dst, packet_src

cdef struct KeySeed:
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d

cdef inline uint64_t key_tail(const Packet *p, uint16_t low, uint16_t high) noexcept nogil:
    return (<uint64_t>low << 48 | <uint64_t>high << 32
            | <uint64_t>p.protocol << 8 | p.ip_version)

cdef inline void key_ip4(Packet *p) noexcept nogil:
    cdef uint64_t src = raw32(p.ip + 12), dst = raw32(p.ip + 16)
    p.from_low = src < dst or (src == dst and p.sport <= p.dport)
    if p.from_low:
        p.k0 = src << 32 | dst
        p.k1 = key_tail(p, p.sport, p.dport)
    else:
        p.k0 = dst << 32 | src
        p.k1 = key_tail(p, p.dport, p.sport)

cdef inline bint src_is_low6(const Packet *p) noexcept nogil:
    cdef const uint8_t *src = p.ip + 8
    cdef const uint8_t *dst = p.ip + 24
    if raw64(src) != raw64(dst):
        return raw64(src) < raw64(dst)
    if raw64(src + 8) != raw64(dst + 8):
        return raw64(src + 8) < raw64(dst + 8)
    return p.sport <= p.dport

cdef inline void key_ip6(Packet *p, const KeySeed *seed) noexcept nogil:
    cdef const uint8_t *low = p.ip + 8
    cdef const uint8_t *high = p.ip + 24
    cdef uint64_t tail, x, y
    p.from_low = src_is_low6(p)
    if p.from_low:
        tail = key_tail(p, p.sport, p.dport)
    else:
        low, high = high, low
        tail = key_tail(p, p.dport, p.sport)
    x = aio_mum(raw64(low) ^ seed.c, raw64(low + 8) ^ seed.d)
    y = aio_mum(raw64(high) ^ seed.d, raw64(high + 8) ^ seed.a)
    p.k0 = aio_mum(x ^ seed.b, y ^ tail ^ seed.c) ^ x
    p.k1 = aio_mum(y ^ seed.a, x ^ tail ^ seed.d) ^ tail

cdef inline uint32_t place_of(uint64_t folded) noexcept nogil:
    """The place in a table for one product of a key and a seed. One product takes ports that
    follow each other to places that do: whether these lie apart or in few runs, the seed decides.
    A second one scatters them whatever the seed is (docs/decisions/0030)."""
    return <uint32_t>aio_mum(folded, <uint64_t>0x9E3779B97F4A7C15)

cdef inline uint32_t key_hash(uint64_t k0, uint64_t k1, const KeySeed *seed) noexcept nogil:
    return place_of(aio_mum(k0 ^ seed.a, k1 ^ seed.b))

# Fills k0, k1, hash and from_low of a decoded TCP or UDP packet; scope is which network it is
# in (flowscope.pxd), 0 when that is no part of the key.
cdef inline void flow_key(Packet *p, const KeySeed *seed, uint64_t scope) noexcept nogil:
    if p.ip_version == 4:
        key_ip4(p)
    else:
        key_ip6(p, seed)
    p.k0 ^= scope
    p.hash = key_hash(p.k0, p.k1, seed)
