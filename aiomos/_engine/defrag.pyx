"""Which datagram a fragment belongs to, whether it fits, and whether that is whole now."""
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from aiomos._engine.be cimport put16, raw32, raw64
from aiomos._engine.checksum cimport checksum_of
from aiomos._engine.flowkey cimport place_of
from aiomos._engine.intrinsics cimport aio_mum, unlikely
from aiomos._engine.pool cimport pool_get_fragment as pool_get, pool_put_fragment as pool_put
from aiomos._engine.shim cimport aio_frame_copy
from aiomos._engine.wire cimport FRAG_DF, FRAG_MORE, packet_dst, packet_src

cdef enum:
    SIZE_UNKNOWN = 0xFFFFFFFF
    BUCKETS_MOST = 1 << 16


cdef int defrag_init(Defrag *d, Pool *pool) noexcept nogil:
    cdef uint32_t buckets = 64
    while buckets < d.most and buckets < BUCKETS_MOST:
        buckets *= 2
    d.pool = pool
    d.mask = buckets - 1
    d.buckets = <Datagram **>calloc(buckets, sizeof(Datagram *))
    return -1 if d.buckets == NULL else 0


cdef void defrag_free(Defrag *d) noexcept nogil:
    if d.buckets != NULL:
        defrag_clear(d)
        free(d.buckets)
        d.buckets = NULL


cdef void defrag_clear(Defrag *d) noexcept nogil:
    cdef int six
    for six in range(2):
        while d.oldest[six] != NULL:
            leave(d, d.oldest[six], COUNT_UNFINISHED)


cdef bint defrag_shed(Defrag *d) noexcept nogil:
    return shed(d, NULL)


cdef void defrag_expire(Defrag *d, int64_t now) noexcept nogil:
    cdef int six
    for six in range(2):
        while d.oldest[six] != NULL and now - d.oldest[six].born_ns >= d.patience[six]:
            leave(d, d.oldest[six], COUNT_TIMEOUT)


# ---- keys -------------------------------------------------------------------------------


cdef inline void key_of(FragmentKey *key, const Packet *p, uint64_t tag) noexcept nogil:
    cdef const uint8_t *src = packet_src(p)
    cdef const uint8_t *dst = packet_dst(p)
    memset(key, 0, sizeof(FragmentKey))
    key.tag = tag
    if p.ip_version == 4:
        key.source[0] = raw32(src)
        key.destination[0] = raw32(dst)
        key.ident = <uint64_t>p.frag_id << 32 | <uint64_t>p.protocol << 8 | 4
    else:
        key.source = [raw64(src), raw64(src + 8)]
        key.destination = [raw64(dst), raw64(dst + 8)]
        key.ident = <uint64_t>p.frag_id << 32 | 6


cdef inline uint32_t hash_of(const FragmentKey *key, const KeySeed *seed) noexcept nogil:
    cdef uint64_t x = aio_mum(key.source[0] ^ seed.a, key.source[1] ^ seed.b)
    cdef uint64_t y = aio_mum(key.destination[0] ^ seed.c, key.destination[1] ^ seed.d)
    return place_of(aio_mum(x ^ key.ident ^ seed.b, y ^ key.tag ^ seed.a))


cdef Datagram *find(const Defrag *d, const FragmentKey *key, uint32_t hash) noexcept nogil:
    cdef Datagram *g = d.buckets[hash & d.mask]
    while g != NULL and (g.hash != hash or memcmp(&g.key, key, sizeof(FragmentKey)) != 0):
        g = g.chain
    return g


# ---- memory, under the budget -------------------------------------------------------------


cdef void *block_of(Defrag *d, uint32_t size, uint32_t *got, const Datagram *keep) noexcept nogil:
    """A block; the oldest datagrams go for it, but not `keep`. NULL: there is none."""
    cdef void *block
    while d.bytes + size > d.budget and shed(d, keep):
        pass
    if d.bytes + size > d.budget:
        return NULL
    block = pool_get(d.pool, size, got)
    if block != NULL:
        d.bytes += got[0]
    return block


cdef void block_back(Defrag *d, void *block, uint32_t room) noexcept nogil:
    d.bytes -= room
    pool_put(d.pool, block, room)


cdef bint shed(Defrag *d, const Datagram *keep) noexcept nogil:
    """The datagram that began first goes; False: there is no other."""
    cdef Datagram *a = d.oldest[0]
    cdef Datagram *b = d.oldest[1]
    if a == keep and a != NULL:
        a = a.newer
    if b == keep and b != NULL:
        b = b.newer
    if a == NULL or (b != NULL and b.born_ns < a.born_ns):
        a = b
    if a == NULL:
        return False
    leave(d, a, COUNT_SHED)
    return True


cdef Datagram *begin(Defrag *d, const FragmentKey *key, uint32_t hash, int64_t now) noexcept nogil:
    cdef uint32_t room = 0
    cdef Datagram *g
    while d.held >= d.most and shed(d, NULL):
        pass
    g = <Datagram *>block_of(d, sizeof(Datagram), &room, NULL)
    if g == NULL:
        return NULL
    memset(g, 0, sizeof(Datagram))
    g.room = room
    g.key = key[0]
    g.hash = hash
    g.born_ns = now
    g.size = SIZE_UNKNOWN
    g.six = (key.ident & 0xFF) == 6
    g.chain = d.buckets[hash & d.mask]
    d.buckets[hash & d.mask] = g
    g.older = d.newest[g.six]
    if g.older != NULL:
        g.older.newer = g
    else:
        d.oldest[g.six] = g
    d.newest[g.six] = g
    d.held += 1
    return g


cdef void empty(Defrag *d, Datagram *g) noexcept nogil:
    """Gives back what a datagram holds, but for itself."""
    cdef Fragment *f
    while g.first != NULL:
        f = g.first
        g.first = f.next
        block_back(d, f, f.room)
    if g.head != NULL:
        block_back(d, g.head, g.head_room)
        g.head = NULL


cdef void unlink(Defrag *d, Datagram *g) noexcept nogil:
    cdef Datagram **at = &d.buckets[g.hash & d.mask]
    while at[0] != g:
        at = &at[0].chain
    at[0] = g.chain
    if g.older != NULL:
        g.older.newer = g.newer
    else:
        d.oldest[g.six] = g.newer
    if g.newer != NULL:
        g.newer.older = g.older
    else:
        d.newest[g.six] = g.older
    d.held -= 1


cdef void release(Defrag *d, Datagram *g) noexcept nogil:
    empty(d, g)
    unlink(d, g)
    block_back(d, g, g.room)


cdef void leave(Defrag *d, Datagram *g, int reason) noexcept nogil:
    if not g.given_up:                  # then it was counted already
        d.counters[reason] += 1
    release(d, g)


cdef int give_up(Defrag *d, Datagram *g, int reason) noexcept nogil:
    """Its fragments go, it stays: what still comes of it is dropped too (RFC 5722 section 4)."""
    d.counters[reason] += 1
    empty(d, g)
    g.given_up = True
    return DEFRAG_DROPPED


# ---- one fragment -------------------------------------------------------------------------


cdef int defrag_add(Defrag *d, const Packet *p, uint64_t tag, int64_t now, uint32_t *notes,
                    Datagram **found) noexcept nogil:
    cdef FragmentKey key
    cdef uint32_t hash, length = length_of(p, notes)
    cdef Datagram *g
    defrag_expire(d, now)
    if unlikely(length == 0):
        d.counters[COUNT_MALFORMED] += 1
        return DEFRAG_DROPPED
    key_of(&key, p, tag)
    hash = hash_of(&key, &d.seed)
    g = find(d, &key, hash)
    if g == NULL:
        g = begin(d, &key, hash, now)
        if g == NULL:
            d.counters[COUNT_REFUSED] += 1
            return DEFRAG_DROPPED
    if g.given_up:
        d.counters[COUNT_LATE] += 1
        return DEFRAG_DROPPED
    found[0] = g
    return place(d, g, p, length, notes)


cdef uint32_t length_of(const Packet *p, uint32_t *notes) noexcept nogil:
    """Bytes that count of a fragment; 0: it is none. Only the last may have any length: IPv6
    discards another fragment, IPv4's stacks (Linux, BSD) take the whole units of it."""
    cdef uint32_t length = p.payload_len
    notes[0] = NOTE_DF if p.frag_flags & FRAG_DF else 0
    if p.frag_flags & FRAG_MORE:
        if length & 7:
            notes[0] |= NOTE_MALFORMED
            length = length & ~<uint32_t>7 if p.ip_version == 4 else 0
        if length < FRAGMENT_SMALL:
            notes[0] |= NOTE_SMALL
    if length == 0:
        notes[0] |= NOTE_MALFORMED
    return length


cdef int place(Defrag *d, Datagram *g, const Packet *p, uint32_t length,
               uint32_t *notes) noexcept nogil:
    """Checks a fragment against its datagram and keeps it."""
    cdef uint32_t end = p.frag_off + length
    cdef Fragment *before
    if end > DATAGRAM_MAX:
        notes[0] |= NOTE_TOO_LARGE
        return give_up(d, g, COUNT_TOO_LARGE)
    if contradicts(g, end, (p.frag_flags & FRAG_MORE) == 0):
        notes[0] |= NOTE_SIZE
        return give_up(d, g, COUNT_BAD_SIZE)
    before = neighbour(g, p.frag_off)
    if overlaps(g, before, p.frag_off, end):
        if is_known(d, g, before, p, length):
            d.counters[COUNT_DUPLICATE] += 1
            return DEFRAG_DROPPED
        notes[0] |= NOTE_INCONSISTENCY if differs(g, p, length) else NOTE_OVERLAP
        if d.policy == OVERLAP_DISCARD:
            return give_up(d, g, COUNT_OVERLAPPING)
        g.overlapping = True
    if g.count == FRAGMENT_MOST:
        notes[0] |= NOTE_TOO_MANY
        return give_up(d, g, COUNT_TOO_MANY)
    if not keep(d, g, p, before, length) or not keep_head(d, g, p):
        return give_up(d, g, COUNT_REFUSED)
    if (p.frag_flags & FRAG_MORE) == 0:
        g.size = end
    return settle(d, g, notes)


cdef inline bint contradicts(const Datagram *g, uint32_t end, bint last) noexcept nogil:
    """Whether a fragment that ends there cannot be of a datagram of the size known."""
    if g.size != SIZE_UNKNOWN:
        return end > g.size or (last and end != g.size)
    return last and end < g.end


cdef int settle(Defrag *d, Datagram *g, uint32_t *notes) noexcept nogil:
    """Whether the datagram is whole, and of a size that IP can say."""
    if g.head == NULL or g.have < g.size or not covered(g):
        return DEFRAG_KEPT
    if g.head_length + g.size - (40 if g.six else 0) > DATAGRAM_MAX:
        notes[0] |= NOTE_TOO_LARGE
        return give_up(d, g, COUNT_TOO_LARGE)
    return DEFRAG_WHOLE


# ---- ranges -------------------------------------------------------------------------------


cdef inline uint32_t end_of(const Fragment *f) noexcept nogil:
    return <uint32_t>f.offset + f.length


cdef inline const uint8_t *bytes_of(const Fragment *f) noexcept nogil:
    return <const uint8_t *>f + sizeof(Fragment)


cdef Fragment *neighbour(Datagram *g, uint32_t offset) noexcept nogil:
    """The last fragment that begins at offset or before it; NULL: none. They mostly come in
    order, or in reverse."""
    cdef Fragment *f = g.first
    if f == NULL or f.offset > offset:
        return NULL
    if g.last.offset <= offset:
        return g.last
    while f.next != NULL and f.next.offset <= offset:
        f = f.next
    return f


cdef inline Fragment *after(const Datagram *g, const Fragment *before) noexcept nogil:
    return g.first if before == NULL else before.next


cdef bint overlaps(const Datagram *g, const Fragment *before, uint32_t offset,
                   uint32_t end) noexcept nogil:
    """Where fragments may overlap, a long one may reach over those that begin behind it: then
    all of them are looked at."""
    cdef const Fragment *f
    if g.overlapping:
        f = g.first
        while f != NULL and f.offset < end:
            if end_of(f) > offset:
                return True
            f = f.next
        return False
    f = after(g, before)
    return (before != NULL and end_of(before) > offset) or (f != NULL and f.offset < end)


cdef bint is_known(const Defrag *d, const Datagram *g, const Fragment *f, const Packet *p,
                   uint32_t length) noexcept nogil:
    """Whether this very fragment is there already, byte for byte. Not one that tells the size,
    and not where it would win back bytes from another that came after its twin."""
    if (p.frag_flags & FRAG_MORE) == 0 and g.size == SIZE_UNKNOWN:
        return False
    if g.overlapping and d.policy == OVERLAP_LAST:
        return False
    return (f != NULL and f.offset == p.frag_off and f.length == length
            and same_bytes(f, p, length))


cdef bint differs(const Datagram *g, const Packet *p, uint32_t length) noexcept nogil:
    """Whether any byte of it is another than one that was there."""
    cdef const Fragment *f = g.first
    while f != NULL and f.offset < p.frag_off + length:
        if end_of(f) > p.frag_off and not same_bytes(f, p, length):
            return True
        f = f.next
    return False


cdef bint same_bytes(const Fragment *f, const Packet *p, uint32_t length) noexcept nogil:
    """Compares what both have of the bytes they share."""
    cdef uint32_t start = max(<uint32_t>f.offset, <uint32_t>p.frag_off)
    cdef uint32_t end = min(<uint32_t>f.offset + f.kept, p.frag_off + min(length, p.payload_cap))
    cdef uint32_t n
    cdef uint8_t buffer[256]
    while start < end:
        n = min(end - start, <uint32_t>sizeof(buffer))
        copy_payload(p, start - p.frag_off, n, buffer)
        if memcmp(buffer, bytes_of(f) + (start - f.offset), n) != 0:
            return False
        start += n
    return True


cdef bint covered(const Datagram *g) noexcept nogil:
    cdef const Fragment *f = g.first
    cdef uint32_t reach = 0
    while f != NULL and f.offset <= reach:
        reach = max(reach, end_of(f))
        f = f.next
    return reach >= g.size


# ---- keeping ------------------------------------------------------------------------------


cdef void copy_payload(const Packet *p, uint32_t skip, uint32_t n, uint8_t *out) noexcept nogil:
    """Bytes of a fragment's part of the datagram, wherever they lie."""
    cdef const uint8_t *start = p.l4 if p.ip_version == 4 else p.l4 + 8
    if p.linear or p.payload_off + skip + n <= p.frame.head_len:
        memcpy(out, start + skip, n)
    else:
        aio_frame_copy(p.frame, p.payload_off + skip, n, out)


cdef bint keep(Defrag *d, Datagram *g, const Packet *p, Fragment *before,
               uint32_t length) noexcept nogil:
    cdef uint32_t room = 0, kept = min(length, p.payload_cap)
    cdef Fragment *f = <Fragment *>block_of(d, sizeof(Fragment) + kept, &room, g)
    if f == NULL:
        return False
    f.offset = p.frag_off
    f.length = <uint16_t>length
    f.kept = <uint16_t>kept
    f.room = room
    copy_payload(p, 0, kept, <uint8_t *>f + sizeof(Fragment))
    f.next = after(g, before)
    if before == NULL:
        g.first = f
    else:
        before.next = f
    if f.next == NULL:
        g.last = f
    paint(d, g, f)
    g.count += 1
    g.have += length
    g.end = max(g.end, end_of(f))
    return True


cdef void paint(const Defrag *d, Datagram *g, Fragment *f) noexcept nogil:
    """What is written later wins: under "first" that is what came first."""
    if d.policy == OVERLAP_LAST and g.paint_last != NULL:
        f.painted = NULL
        g.paint_last.painted = f
        g.paint_last = f
        return
    f.painted = g.paint_first
    if g.paint_first == NULL:
        g.paint_last = f
    g.paint_first = f


cdef bint keep_head(Defrag *d, Datagram *g, const Packet *p) noexcept nogil:
    """The headers of a datagram are those of its first fragment."""
    cdef uint32_t length = <uint32_t>(p.l4 - p.ip)
    if p.frag_off != 0 or (g.head != NULL and d.policy != OVERLAP_LAST):
        return True
    if g.head != NULL:
        block_back(d, g.head, g.head_room)
    g.head = <uint8_t *>block_of(d, length, &g.head_room, g)
    if g.head == NULL:
        return False
    memcpy(g.head, p.ip, length)
    g.head_length = <uint16_t>length
    g.named = p.frag_named
    g.next_header = p.protocol
    return True


# ---- whole --------------------------------------------------------------------------------


cdef uint32_t defrag_rebuild(Defrag *d, Datagram *g, uint8_t *out) noexcept nogil:
    cdef const Fragment *f = g.paint_first
    cdef uint8_t *body = out + g.head_length
    cdef uint32_t captured = g.size
    memcpy(out, g.head, g.head_length)
    while f != NULL:
        memcpy(body + f.offset, bytes_of(f), f.kept)
        if f.kept < f.length:
            captured = min(captured, <uint32_t>f.offset + f.kept)
        f = f.painted
    captured += g.head_length
    finish_head(g, out)
    d.counters[COUNT_REASSEMBLED] += 1
    release(d, g)
    return captured


cdef void finish_head(const Datagram *g, uint8_t *head) noexcept nogil:
    """Headers as if the datagram had never been in pieces."""
    if g.six:
        put16(head + 4, <uint16_t>(defrag_size(g) - 40))
        head[g.named] = g.next_header
        return
    put16(head + 2, <uint16_t>defrag_size(g))
    memset(head + 6, 0, 2)
    memset(head + 10, 0, 2)
    put16(head + 10, checksum_of(head, g.head_length))
