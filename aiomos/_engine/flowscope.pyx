"""Digests of VLAN tags and of encapsulations."""
from libc.stdint cimport uint32_t

from aiomos._engine.be cimport raw32, raw64
from aiomos._engine.intrinsics cimport aio_mum
from aiomos._engine.walk cimport (DECODE_EOIP, DECODE_ERSPAN, DECODE_GENEVE, DECODE_GRE,
                                  DECODE_NVGRE, DECODE_PBB, DECODE_PPPOE, DECODE_VXLAN)
from aiomos._engine.wire cimport Tunnel


cdef inline uint64_t mix(uint64_t x, uint64_t secret) noexcept nogil:
    """Never multiplies by 0, which would forget x (tests have poor seeds)."""
    return aio_mum(x, secret | 1)


cdef uint64_t flow_scope(const Packet *p, const KeySeed *seed, uint8_t what) noexcept nogil:
    cdef uint64_t scope = 0
    if what & SCOPE_VLAN:
        scope = vlan_scope(p, seed)
    if what & SCOPE_TUNNEL:
        scope = tunnel_scope(p, seed, scope)
    return scope


cdef uint64_t vlan_scope(const Packet *p, const KeySeed *seed) noexcept nogil:
    """Identifiers of the tags. 0 stands for no VLAN: such a tag only says a priority."""
    cdef uint64_t found = 0
    cdef uint32_t i
    for i in range(p.n_vlan):
        if p.vlan[i] & 0xFFF:
            found = found << 12 | (p.vlan[i] & 0xFFF)
    return mix(found ^ seed.a, seed.b) if found else 0


cdef uint64_t tunnel_scope(const Packet *p, const KeySeed *seed, uint64_t scope) noexcept nogil:
    cdef uint32_t i
    for i in range(p.n_tunnels):
        scope = mix(scope ^ seed.c ^ identity(&p.tunnel[i], seed), seed.d)
    return scope


cdef uint64_t identity(const Tunnel *t, const KeySeed *seed) noexcept nogil:
    """Its number where both directions have the same, else the pair of its ends."""
    cdef uint64_t kind = <uint64_t>t.kind << 32
    if has_common_id(t.kind):
        return kind | t.id
    if t.ip == NULL:
        return kind               # MPLS: each direction has labels of its own
    return kind ^ mix(ends(t, seed), seed.a)


cdef inline bint has_common_id(uint8_t kind) noexcept nogil:
    return (kind == DECODE_VXLAN or kind == DECODE_GENEVE or kind == DECODE_NVGRE
            or kind == DECODE_GRE or kind == DECODE_EOIP or kind == DECODE_ERSPAN
            or kind == DECODE_PBB or kind == DECODE_PPPOE)


cdef inline uint64_t ends(const Tunnel *t, const KeySeed *seed) noexcept nogil:
    """The same whichever of the two is the source."""
    if t.ip_version == 4:
        return (mix(raw32(t.ip + 12) ^ seed.a, seed.b)
                + mix(raw32(t.ip + 16) ^ seed.a, seed.b))
    return (mix(mix(raw64(t.ip + 8) ^ seed.a, seed.b) ^ raw64(t.ip + 16), seed.c)
            + mix(mix(raw64(t.ip + 24) ^ seed.a, seed.b) ^ raw64(t.ip + 32), seed.c))
