"""Reads what an error quotes as a packet of its own, looks its flow up, counts and tells."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos._engine.be cimport be16, be32
from aiomos._engine.events cimport EVENT_ICMP, HOOK_RECEIVER
from aiomos._engine.extra cimport Extra, extra_need
from aiomos._engine.flow cimport FLOW_CLIENT_LOW, Flow
from aiomos._engine.flowkey cimport flow_key
from aiomos._engine.flowscope cimport flow_scope
from aiomos._engine.flowtable cimport table_find
from aiomos._engine.limits cimport CLIENT, PROTO_TCP, PROTO_UDP, SERVER
from aiomos._engine.seq cimport seq_ge, seq_lt
from aiomos._engine.shim cimport aio_frame_copy
from aiomos._engine.state cimport C_ICMP_ERRORS, C_MEMORY, event_raise

cdef enum:
    QUOTE_AT = 8              # behind the header of the error
    MAX_EXTENSIONS = 8


cdef bint icmp_arrives(CoreState *cs, Packet *p) noexcept nogil:
    cdef Quote q
    cdef Packet quoted
    cdef Flow *f
    if not icmp_quoted(p, &q, &quoted):
        return False
    flow_key(&quoted, &cs.table.seed,
             flow_scope(p, &cs.table.seed, cs.config.key_scope) if cs.config.key_scope else 0)
    f = table_find(&cs.table, &quoted)
    if f == NULL:
        return False
    error_of(cs, f, &quoted, &q)
    return True


cdef bint icmp_quoted(const Packet *p, Quote *q, Packet *quoted) noexcept nogil:
    if p.protocol != PROTO_ICMP and p.protocol != PROTO_ICMP6:
        return False
    # Offsets in a contiguous copy of a frame are those of the frame.
    q.length = aio_frame_copy(p.frame, p.payload_off, min(p.payload_cap, <uint32_t>QUOTE_MAX),
                              q.raw)
    return is_error(p, q) and read_quote(p, q, quoted)


cdef inline bint is_error(const Packet *p, const Quote *q) noexcept nogil:
    """RFC 1122 section 3.2.2: unreachable, quench, redirect, time, parameter; RFC 4443: to 127."""
    cdef uint8_t kind = q.raw[0]
    if q.length < QUOTE_AT:
        return False
    if p.protocol == PROTO_ICMP6:
        return p.ip_version == 6 and 1 <= kind <= 127
    return (p.protocol == PROTO_ICMP and p.ip_version == 4
            and (3 <= kind <= 5 or kind == 11 or kind == 12))


cdef bint read_quote(const Packet *p, Quote *q, Packet *quoted) noexcept nogil:
    """Fills what a flow key needs; the quoted packet may be cut behind its ports."""
    memset(quoted, 0, sizeof(Packet))
    quoted.ip = q.raw + QUOTE_AT
    quoted.ip_version = p.ip_version
    if not (quotes_ip4(q, quoted) if p.ip_version == 4 else quotes_ip6(q, quoted)):
        return False
    if quoted.protocol != PROTO_TCP and quoted.protocol != PROTO_UDP:
        return False
    if q.off + 4 > q.length:
        return False
    quoted.sport = be16(q.raw + q.off)
    quoted.dport = be16(q.raw + q.off + 2)
    return True


cdef bint quotes_ip4(Quote *q, Packet *quoted) noexcept nogil:
    cdef const uint8_t *h = q.raw + QUOTE_AT
    cdef uint32_t header = (h[0] & 15) << 2
    if q.length < QUOTE_AT + 20 or h[0] >> 4 != 4 or header < 20:
        return False
    quoted.protocol = h[9]
    q.off = QUOTE_AT + header
    return be16(h + 6) & 0x1FFF == 0      # ports are in the first fragment alone


cdef bint quotes_ip6(Quote *q, Packet *quoted) noexcept nogil:
    cdef const uint8_t *h = q.raw + QUOTE_AT
    cdef int left = MAX_EXTENSIONS
    if q.length < QUOTE_AT + 40 or h[0] >> 4 != 6:
        return False
    quoted.protocol = h[6]
    q.off = QUOTE_AT + 40
    while left and is_extension(quoted.protocol):
        left -= 1
        if q.off + 8 > q.length:
            return False
        h = q.raw + q.off
        if quoted.protocol == 44 and be16(h + 2) & 0xFFF8:
            return False
        q.off += extension_size(quoted.protocol, h)
        quoted.protocol = h[0]
    return True


cdef inline bint is_extension(uint8_t protocol) noexcept nogil:
    return (protocol == 0 or protocol == 43 or protocol == 44 or protocol == 51
            or protocol == 60)


cdef inline uint32_t extension_size(uint8_t protocol, const uint8_t *h) noexcept nogil:
    if protocol == 44:
        return 8
    if protocol == 51:
        return (<uint32_t>h[1] + 2) << 2
    return (<uint32_t>h[1] + 1) << 3


cdef void error_of(CoreState *cs, Flow *f, const Packet *quoted, const Quote *q) noexcept nogil:
    cdef int s = CLIENT if quoted.from_low == ((f.flags & FLOW_CLIENT_LOW) != 0) else SERVER
    cdef Extra *e = extra_need(&cs.extras, &cs.pool, f, 0)
    cs.counters[C_ICMP_ERRORS] += 1
    if e == NULL:
        cs.counters[C_MEMORY] += 1
    else:
        e.icmp_errors[s] += 1
    cs.talker = <uint8_t>(1 - s)          # it is the quoted packet's sender that is told
    event_raise(cs, f, EVENT_ICMP, s, HOOK_RECEIVER, <uint16_t>(q.raw[0] << 8 | q.raw[1]),
                be32(q.raw + 4), outstanding(f, quoted, q, s))


cdef inline bint outstanding(const Flow *f, const Packet *quoted, const Quote *q,
                             int s) noexcept nogil:
    """Whether a stack would believe it: the quoted segment was sent and not acknowledged
    (RFC 5927 section 4.1). Of UDP there is nothing to compare."""
    cdef uint32_t seq
    if quoted.protocol != PROTO_TCP or q.off + 8 > q.length:
        return quoted.protocol != PROTO_TCP
    seq = be32(q.raw + q.off + 4)
    return seq_ge(seq, f.h[1 - s].ack) and seq_lt(seq, f.h[s].top)
