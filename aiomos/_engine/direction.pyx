"""Client or server: a guess by port, then what a SYN says; see direction.pxd."""
from libc.stdint cimport uint64_t

from aiomos._engine.events cimport ANOMALY_DIRECTION_FLIPPED
from aiomos._engine.flow cimport (FLOW_DATA, FLOW_FLIPPED, FLOW_MIDSTREAM, HALF_SYN, flow_role)
from aiomos._engine.life cimport flow_keep_for, flow_readers, flow_start
from aiomos._engine.limits cimport ACK, CLIENT, SERVER
from aiomos._engine.state cimport (C_TCP_FLIPPED, MIDSTREAM_PASS, RECORD_FLIP, START_DATA,
                                   START_ESTABLISHED, START_SYN, anomaly)

cdef enum:
    WELL_KNOWN = 1024


cdef int direction_guess(const Packet *p) noexcept nogil:
    """Who uses a well-known port listens on it; else who speaks first here opened the
    connection. Wrong for FTP's data from port 20, for clients that bind a privileged port (NFS,
    rsh), and where a server was heard first."""
    if p.sport < WELL_KNOWN and p.dport >= WELL_KNOWN:
        return SERVER
    return CLIENT


cdef void direction_shown(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """When can this happen: the tap gives packets of a handshake in another order, or its last
    ACK was lost behind the tap and the SYN-ACK comes again.

    The first SYN decides: one of the other end is a simultaneous open, in which both are clients.
    """
    cdef int client = 1 - s if p.flags & ACK else s
    if not f.flags & FLOW_MIDSTREAM or (f.h[0].flags | f.h[1].flags) & HALF_SYN:
        return
    if flow_role(f, client) == SERVER:
        flip(cs, f, p, s)


cdef void flip(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    """At most once: the SYN that caused it is the first of the flow.

    Filters are judged anew. Handlers that have begun go on, whatever their filter says now."""
    cdef uint64_t before = matching(cs, f, p), now, begun
    f.flags |= FLOW_FLIPPED
    now = matching(cs, f, p)
    begun = before & ~f.waiting
    f.waiting = now & ~begun
    flow_readers(cs, f, now | begun)
    anomaly(cs, f, s, ANOMALY_DIRECTION_FLIPPED, C_TCP_FLIPPED, 0)
    start_due(cs, f)
    begun &= cs.sides_masks[CLIENT] ^ cs.sides_masks[SERVER]
    if begun:
        flow_keep_for(cs, f, begun, RECORD_FLIP)


cdef uint64_t matching(CoreState *cs, Flow *f, Packet *p) noexcept nogil:
    """Handlers that want the flow, with the roles its ends have now."""
    if cs.match == NULL or cs.config.midstream == MIDSTREAM_PASS:
        return 0
    return cs.match(cs.match_context, f, p)


cdef void start_due(CoreState *cs, Flow *f) noexcept nogil:
    """Handlers that the flow matches now, and not before: a flow picked up is established."""
    flow_start(cs, f, START_SYN)
    flow_start(cs, f, START_ESTABLISHED)
    if f.flags & FLOW_DATA:
        flow_start(cs, f, START_DATA)
