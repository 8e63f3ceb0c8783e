"""Sums over frames in any number of segments; the table of addresses."""
from libc.stdint cimport uint16_t
from libc.stdlib cimport calloc, free

from aiomos._engine.be cimport be16, raw32, raw64
from aiomos._engine.checksum cimport (checksum_right, sum_20_bytes, sum_bytes, sum_fold, swap16,
                                      swap32)
from aiomos._engine.flowkey cimport place_of
from aiomos._engine.intrinsics cimport aio_mum, likely
from aiomos._engine.limits cimport PROTO_TCP
from aiomos._engine.shim cimport (AIO_CSUM_BAD, AIO_CSUM_UNKNOWN, AIO_DIR_OUT, aio_frame, aio_seg)
from aiomos._engine.wire cimport WIRE_UDP, packet_dst, packet_src

cdef enum:
    ROUTING = 43


cdef int sums_init(Sums *s) noexcept nogil:
    s.judged = <Judged *>calloc(JUDGED_SLOTS, sizeof(Judged))
    return -1 if s.judged == NULL else 0


cdef void sums_free(Sums *s) noexcept nogil:
    free(s.judged)
    s.judged = NULL


cdef int sums_judge(Sums *s, const Packet *p) noexcept nogil:
    if s.not_own and p.frame.direction & AIO_DIR_OUT:
        return SUM_RIGHT
    if p.ip_version == 4 and not header_right(p):
        return SUM_WRONG_IP
    if p.status > WIRE_UDP or trusted(s, p):
        return SUM_RIGHT
    if p.frame.csum_l4 == AIO_CSUM_BAD:
        return SUM_WRONG_TRANSPORT
    if p.frame.csum_l4 != AIO_CSUM_UNKNOWN:
        return SUM_RIGHT
    return note(s, p, transport_right(p))


# ---- sums ------------------------------------------------------------------------------------


cdef bint header_right(const Packet *p) noexcept nogil:
    if p.frame.csum_ip == AIO_CSUM_BAD:
        return False
    if p.frame.csum_ip != AIO_CSUM_UNKNOWN or not at_hand(p):
        return True
    if likely(p.ip[0] & 15 == 5):
        return checksum_right(sum_20_bytes(p.ip))
    return checksum_right(sum_bytes(p.ip, (p.ip[0] & 15) << 2, 0))   # AH may be behind it


cdef inline bint at_hand(const Packet *p) noexcept nogil:
    """Whether the whole IP header is contiguous: of TCP and UDP it always is."""
    if p.status <= WIRE_UDP:
        return True
    return p.payload_off <= (p.frame.cap_len if p.linear else p.frame.head_len)


cdef uint64_t sum_frame(const aio_frame *frame, uint32_t off, uint32_t n) noexcept nogil:
    """Bytes [off, off + n) of a frame in pieces; behind an odd one bytes change places."""
    cdef const uint8_t *data = frame.data
    cdef const aio_seg *following = frame.next
    cdef uint32_t size = frame.head_len, take
    cdef uint64_t total = 0
    cdef uint16_t part
    cdef bint odd = False
    while n:
        if off < size:
            take = min(n, size - off)
            part = sum_fold(sum_bytes(data + off, take, 0))
            total += swap16(part) if odd else part
            odd ^= take & 1
            n -= take
            off = size
        off -= size
        if following == NULL:
            break
        data = following.data
        size = following.len
        following = following.next
    return total


cdef inline uint64_t pseudo_header(const Packet *p, uint32_t length) noexcept nogil:
    """RFC 9293 section 3.1, RFC 8200 section 8.1."""
    cdef uint64_t words = swap32(length) + <uint64_t>swap16(p.protocol)
    if p.ip_version == 4:
        return words + raw32(packet_src(p)) + raw32(packet_dst(p))
    return sum_bytes(packet_src(p), 32, words)


cdef bint transport_right(const Packet *p) noexcept nogil:
    cdef uint32_t header = (p.l4[12] >> 4) << 2 if p.protocol == PROTO_TCP else 8
    cdef uint32_t length = header + p.payload_len, off = p.payload_off - header
    if off + length > p.frame.cap_len or not_judged(p):
        return True
    if p.protocol != PROTO_TCP and be16(p.l4 + 6) == 0:
        return p.ip_version == 4        # none was made; IPv6 has no such (RFC 8200 section 8.1)
    if likely(off + length <= p.frame.head_len):
        return checksum_right(sum_bytes(p.frame.data + off, length, pseudo_header(p, length)))
    return checksum_right(sum_frame(p.frame, off, length) + sum_fold(pseudo_header(p, length)))


cdef bint not_judged(const Packet *p) noexcept nogil:
    """Headers that say too little, or stand for others."""
    cdef const uint8_t *h = p.ip + 40
    cdef uint8_t kind
    if p.ip_version == 4:
        return be16(p.ip + 2) == 0
    if be16(p.ip + 4) == 0:
        return True
    kind = p.ip[6]
    while h < p.l4:
        if kind == ROUTING and h[3]:
            return True
        kind, h = h[0], h + following_at(kind, h)
    return False


cdef inline uint32_t following_at(uint8_t kind, const uint8_t *h) noexcept nogil:
    if kind == 44:
        return 8
    if kind == 51:
        return (<uint32_t>h[1] + 2) << 2
    return (<uint32_t>h[1] + 1) << 3


# ---- addresses -------------------------------------------------------------------------------


cdef Judged *slot_of(Sums *s, const Packet *p, Judged *who) noexcept nogil:
    """Where the sender's address has its place; *who becomes what stands there when it does."""
    cdef const uint8_t *src = packet_src(p)
    cdef uint64_t h
    who.version = p.ip_version
    who.wrong = who.sound = 0
    if likely(p.ip_version == 4):
        who.address = [raw32(src), 0]
    else:
        who.address = [raw64(src), raw64(src + 8)]
    h = aio_mum(who.address[0] ^ s.seed.a, who.address[1] ^ s.seed.b)
    return &s.judged[place_of(h) & (JUDGED_SLOTS - 1)]


cdef inline bint is_for(const Judged *slot, const Judged *who) noexcept nogil:
    return (slot.version == who.version and slot.address[0] == who.address[0]
            and slot.address[1] == who.address[1])


cdef bint trusted(Sums *s, const Packet *p) noexcept nogil:
    cdef Judged who
    cdef const Judged *slot
    if s.given_up == 0:
        return False
    slot = slot_of(s, p, &who)
    return slot.wrong == JUDGED_FIRST and is_for(slot, &who)


cdef int note(Sums *s, const Packet *p, bint right) noexcept nogil:
    """Writes a segment down while its address is being judged; its SumResult."""
    cdef Judged who
    cdef Judged *slot = slot_of(s, p, &who)
    if not is_for(slot, &who):
        if slot.wrong == JUDGED_FIRST:
            return SUM_RIGHT if right else SUM_WRONG_TRANSPORT
        slot[0] = who
    if right:
        slot.sound = True
        return SUM_RIGHT
    if not slot.sound:
        slot.wrong += 1
        s.given_up += slot.wrong == JUDGED_FIRST
    return SUM_WRONG_TRANSPORT
