"""Fragments in, datagrams out."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove

from aiomos._engine.defrag cimport (DEFRAG_WHOLE, NOTE_DF, NOTE_INCONSISTENCY, NOTE_MALFORMED,
                                    NOTE_OVERLAP, NOTE_SIZE, NOTE_SMALL, NOTE_TOO_LARGE,
                                    NOTE_TOO_MANY, Datagram, defrag_add, defrag_rebuild,
                                    defrag_size)
from aiomos._engine.events cimport (ANOMALY_FRAGMENT_INCONSISTENCY, ANOMALY_FRAGMENT_MALFORMED,
                                    ANOMALY_FRAGMENT_OVERLAP, ANOMALY_FRAGMENT_SIZE,
                                    ANOMALY_FRAGMENT_SMALL, ANOMALY_FRAGMENT_TOO_LARGE,
                                    ANOMALY_FRAGMENT_WITH_DF, ANOMALY_FRAGMENTS_TOO_MANY,
                                    EVENT_ANOMALY, HOOK_SENDER)
from aiomos._engine.limits cimport CLIENT, SCRATCH_SIZE
from aiomos._engine.shim cimport AIO_CSUM_GOOD, AIO_CSUM_NOT_FILLED, AIO_CSUM_UNKNOWN
from aiomos._engine.state cimport event_raise
from aiomos._engine.wire cimport wire_decode_ip

cdef enum:
    LINK_RAW = 101


cdef bint fragment_arrives(CoreState *cs, Defrag *d, Packet *p, uint64_t tag) noexcept nogil:
    cdef Datagram *g = NULL
    cdef uint32_t notes = 0
    cdef int result = defrag_add(d, p, tag, cs.now, &notes, &g)
    if notes:
        tell(cs, p, notes)
    if result != DEFRAG_WHOLE:
        return False
    rebuild(cs, d, p, g)
    return True


# ---- events -----------------------------------------------------------------------------


cdef inline void anomaly(CoreState *cs, uint32_t seen, int kind, uint32_t says) noexcept nogil:
    if seen:
        event_raise(cs, NULL, EVENT_ANOMALY, CLIENT, HOOK_SENDER, kind, says, 0)


cdef void tell(CoreState *cs, const Packet *p, uint32_t notes) noexcept nogil:
    cdef uint32_t end = p.frag_off + p.payload_len
    anomaly(cs, notes & NOTE_DF, ANOMALY_FRAGMENT_WITH_DF, p.frag_off)
    anomaly(cs, notes & NOTE_MALFORMED, ANOMALY_FRAGMENT_MALFORMED, p.payload_len)
    anomaly(cs, notes & NOTE_SMALL, ANOMALY_FRAGMENT_SMALL, p.payload_len)
    anomaly(cs, notes & NOTE_TOO_LARGE, ANOMALY_FRAGMENT_TOO_LARGE, end)
    anomaly(cs, notes & NOTE_SIZE, ANOMALY_FRAGMENT_SIZE, end)
    anomaly(cs, notes & NOTE_OVERLAP, ANOMALY_FRAGMENT_OVERLAP, p.frag_off)
    anomaly(cs, notes & NOTE_INCONSISTENCY, ANOMALY_FRAGMENT_INCONSISTENCY, p.frag_off)
    anomaly(cs, notes & NOTE_TOO_MANY, ANOMALY_FRAGMENTS_TOO_MANY, 0)


# ---- the datagram -----------------------------------------------------------------------


cdef void rebuild(CoreState *cs, Defrag *d, Packet *p, Datagram *g) noexcept nogil:
    """Layers in front of the last fragment, then the datagram, in one contiguous frame."""
    cdef const uint8_t *base = p.frame.data
    cdef uint32_t front, captured, size = defrag_size(g)
    if p.linear:
        base = cs.scratch
    front = <uint32_t>(p.ip - base)
    if p.frame != &cs.rebuilt:
        cs.rebuilt = p.frame[0]
    if front + size > SCRATCH_SIZE:     # absurdly deep: then the datagram alone
        front = 0
        p.link = NULL
        cs.rebuilt.link_type = LINK_RAW
    memmove(cs.scratch, base, front)
    if p.link != NULL:
        p.link = cs.scratch + (p.link - base)
    captured = defrag_rebuild(d, g, cs.scratch + front)
    cs.rebuilt.data = cs.scratch
    cs.rebuilt.next = NULL
    cs.rebuilt.owner = NULL             # nobody's to retain or to send
    cs.rebuilt.head_len = front + captured
    cs.rebuilt.cap_len = front + captured
    cs.rebuilt.wire_len = front + size
    cs.rebuilt.csum_ip = AIO_CSUM_GOOD  # made here; those of the fragments were looked at
    if cs.rebuilt.csum_l4 != AIO_CSUM_NOT_FILLED:
        cs.rebuilt.csum_l4 = AIO_CSUM_UNKNOWN   # no device sees it across fragments
    wire_decode_ip(p, &cs.rebuilt, front, cs.config.decoders)
