"""Sorts packets that are neither TCP nor UDP."""
from aiomos._engine.events cimport (ANOMALY_STATUS, EVENT_ANOMALY, ORPHAN_FRAGMENT,
                                    ORPHAN_MALFORMED, ORPHAN_NOT_IP, ORPHAN_PROTOCOL)
from aiomos._engine.icmp cimport PROTO_ICMP, PROTO_ICMP6, icmp_arrives
from aiomos._engine.wire cimport (WIRE_FRAGMENT, WIRE_OTHER, WIRE_PROTECTED, WIRE_TRUNCATED)


cdef void stray_packet(CoreState *cs, Packet *p) noexcept nogil:
    if p.status == WIRE_OTHER:
        if not ((p.protocol == PROTO_ICMP or p.protocol == PROTO_ICMP6) and icmp_arrives(cs, p)):
            stray(cs, ORPHAN_PROTOCOL)
    elif p.status == WIRE_FRAGMENT:
        stray(cs, ORPHAN_FRAGMENT)
    elif p.status < WIRE_TRUNCATED or p.status == WIRE_PROTECTED:
        stray(cs, ORPHAN_NOT_IP)
    else:
        event_raise(cs, NULL, EVENT_ANOMALY, CLIENT, HOOK_SENDER, ANOMALY_STATUS + p.status, 0, 0)
        stray(cs, ORPHAN_MALFORMED)
