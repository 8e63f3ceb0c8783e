"""Choosing once a flow: a few handlers, and a linear walk of the table."""
from libc.string cimport memcmp

from aiomos._engine.overlap cimport OVERLAP_FIRST, OVERLAP_MASK


cdef inline bint covers(const TargetPrefix *p, const uint8_t *address) noexcept nogil:
    cdef int whole = p.bits >> 3, rest = p.bits & 7
    if memcmp(p.address, address, whole):
        return False
    return rest == 0 or (p.address[whole] ^ address[whole]) >> (8 - rest) == 0


cdef uint8_t policy_of_receiver(const Targets *t, const Flow *f, int side) noexcept nogil:
    cdef uint32_t i
    for i in range(t.n_prefixes):
        if (t.prefixes[i].ip_version == f.ip_version
                and covers(&t.prefixes[i], f.address[1 - side])):
            return t.prefixes[i].policy
    return OVERLAP_FIRST


cdef uint8_t targets_choose(const Targets *t, const Flow *f, int side, uint64_t readers,
                            uint32_t *conflicts) noexcept nogil:
    cdef uint8_t chosen = t.usual, wish
    cdef bint decided = False
    cdef int i
    conflicts[0] = 0
    for i in range(MAX_HANDLERS):
        if not readers >> i & 1:
            continue
        wish = t.asked[i]
        if t.by_prefix >> i & 1:
            wish = (wish & <uint8_t>~OVERLAP_MASK) | policy_of_receiver(t, f, side)
        if not decided:
            chosen = wish
            decided = True
        conflicts[0] += wish != chosen
    return chosen
