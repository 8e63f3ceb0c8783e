"""Copies and checksums: counted, told, left out."""
from libc.stdint cimport uint8_t

from aiomos._engine.copies cimport copies_seen
from aiomos._engine.events cimport ANOMALY_BAD_CHECKSUM, EVENT_ANOMALY, HOOK_SENDER
from aiomos._engine.flow cimport FLOW_CLIENT_LOW, FLOW_CLOSED, Flow
from aiomos._engine.flowtable cimport table_find
from aiomos._engine.limits cimport CLIENT, SCRATCH_SIZE, SERVER
from aiomos._engine.shim cimport aio_frame_copy
from aiomos._engine.state cimport (C_BAD_CHECKSUM, C_DUPLICATES, event_raise, event_wanted)
from aiomos._engine.sums cimport SUM_RIGHT, SUM_WRONG_IP, sums_judge
from aiomos._engine.wire cimport WIRE_FRAGMENT, WIRE_UDP


cdef bint packet_is_first(CoreState *cs, const Packet *p, uint64_t tag) noexcept nogil:
    cdef const uint8_t *base = p.frame.data
    cdef const uint8_t *data = base
    if p.linear:
        data = base = cs.scratch
    elif p.frame.head_len < p.frame.cap_len:    # in segments: one pass over them
        aio_frame_copy(p.frame, 0, SCRATCH_SIZE, cs.scratch)
        data = cs.scratch
    if p.frame.cap_len > SCRATCH_SIZE or not copies_seen(&cs.copies, p, data, base, tag, cs.now):
        return True
    cs.counters[C_DUPLICATES] += 1
    return False


cdef bint packet_is_sound(CoreState *cs, const Packet *p) noexcept nogil:
    cdef int result
    if p.status > WIRE_FRAGMENT:
        return True
    result = sums_judge(&cs.sums, p)
    if result == SUM_RIGHT:
        return True
    cs.counters[C_BAD_CHECKSUM] += 1
    if event_wanted(cs, EVENT_ANOMALY):
        tell(cs, p, 0 if result == SUM_WRONG_IP else p.protocol)
    return False


cdef void tell(CoreState *cs, const Packet *p, uint8_t of) noexcept nogil:
    cdef Flow *f = NULL
    cdef int side = CLIENT
    if p.status <= WIRE_UDP and of:
        f = table_find(&cs.table, p)
    if f != NULL and f.flags & FLOW_CLOSED:     # its last event was its end
        f = NULL
    if f != NULL and p.from_low != ((f.flags & FLOW_CLIENT_LOW) != 0):
        side = SERVER
    event_raise(cs, f, EVENT_ANOMALY, side, HOOK_SENDER, ANOMALY_BAD_CHECKSUM, of, 0)
