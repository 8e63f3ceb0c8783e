"""A seeded hash of a packet, and a table of two ways that forgets the older."""
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from aiomos._engine.be cimport raw64
from aiomos._engine.intrinsics cimport aio_mum
from aiomos._engine.wire cimport WIRE_FRAGMENT

cdef enum:
    MAC_ADDRESSES = 12


cdef int copies_init(Copies *c) noexcept nogil:
    c.slots = <CopySlot *>calloc(COPY_SLOTS, sizeof(CopySlot))
    return -1 if c.slots == NULL else 0


cdef void copies_free(Copies *c) noexcept nogil:
    free(c.slots)
    c.slots = NULL


# ---- the hash ------------------------------------------------------------------------------


cdef uint64_t hash_bytes(const KeySeed *seed, const uint8_t *data, uint32_t n,
                         uint64_t h) noexcept nogil:
    """Sixteen bytes a step; the length is in it. The constant keeps a seed of zeros, as tests
    give, from multiplying everything away."""
    cdef uint64_t tail[2]
    cdef uint64_t odd = seed.c ^ <uint64_t>0x9E3779B97F4A7C15
    h ^= n
    while n >= 16:
        h = aio_mum(raw64(data) ^ seed.b ^ h, raw64(data + 8) ^ odd)
        data += 16
        n -= 16
    tail = [0, 0]
    memcpy(tail, data, n)
    return aio_mum(tail[0] ^ seed.d ^ h, tail[1] ^ odd)


cdef inline uint32_t end_of(const Packet *p) noexcept nogil:
    """Where the packet ends in its frame: trailing padding is the link's."""
    if p.status <= WIRE_FRAGMENT:
        return p.payload_off + p.payload_cap
    return p.frame.cap_len


cdef uint64_t hash_packet(const Copies *c, const Packet *p, const uint8_t *data, uint32_t off,
                          uint64_t tag) noexcept nogil:
    """From the network header on; of that header a copy without what routers change."""
    cdef uint8_t head[40]
    cdef uint32_t size = 20 if p.ip_version == 4 else 40
    cdef uint32_t end = min(end_of(p), p.frame.cap_len)
    cdef uint64_t h = tag ^ c.seed.a
    memcpy(head, data + off, size)
    if p.ip_version == 4:
        head[8] = head[10] = head[11] = 0
    else:
        head[7] = 0
    h = hash_bytes(&c.seed, head, size, h)
    off += size
    return hash_bytes(&c.seed, data + off, end - off if end > off else 0, h ^ p.payload_len)


cdef uint64_t hash_frame(const Copies *c, const Packet *p, const uint8_t *data) noexcept nogil:
    cdef uint32_t off = MAC_ADDRESSES if p.link != NULL else 0
    if p.frame.cap_len < off:
        off = 0
    return hash_bytes(&c.seed, data + off, p.frame.cap_len - off,
                      <uint64_t>p.frame.wire_len << 32)


# ---- the table -------------------------------------------------------------------------------


cdef bint copies_seen(Copies *c, const Packet *p, const uint8_t *data, const uint8_t *base,
                      uint64_t tag, int64_t now) noexcept nogil:
    cdef uint64_t h
    cdef CopySlot *pair
    cdef int i
    if p.ip != NULL:
        h = hash_packet(c, p, data, <uint32_t>(p.ip - base), tag) | 1   # 0: an empty slot
    else:
        h = hash_frame(c, p, data) | 1
    pair = &c.slots[(h >> 20) & (COPY_SLOTS - 2)]
    for i in range(2):
        if pair[i].hash == h and now - pair[i].time_ns < c.window_ns:
            return True
    i = 1 if pair[1].hash == h or (pair[0].hash != h and pair[1].time_ns < pair[0].time_ns) else 0
    pair[i].hash = h
    pair[i].time_ns = now
    return False
