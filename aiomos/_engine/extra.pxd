"""What only some flows have: the encapsulations around them, ICMP errors about them.

Kept beside the flow table, so that other flows pay nothing for it: a block from the pool, found
by the number of the entry. FLOW_EXTRA says that there is one; only then is the index looked at,
and only then has the system given memory to that part of it.
"""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.flow cimport FLOW_EXTRA, Flow
from aiomos._engine.pool cimport Pool
from aiomos._engine.wire cimport MAX_TUNNELS, Packet

# One encapsulation, as the flow's first packet had it.
cdef struct TunnelNote:
    uint32_t id
    uint8_t kind              # Decoder
    uint8_t has_id
    uint8_t ip_version        # of the addresses; 0: none, the link layer carries it
    uint8_t source[16]
    uint8_t destination[16]

cdef struct Extra:
    uint32_t size             # of the block
    uint32_t icmp_errors[2]   # that quote a packet of the client, the server
    uint32_t n_tunnels
    TunnelNote tunnel[MAX_TUNNELS]   # outermost first; the block ends behind the last

cdef struct Extras:
    Extra **of                # by Flow.index
    uint32_t capacity

cdef int extra_init(Extras *x, uint32_t capacity) noexcept nogil
cdef void extra_free(Extras *x) noexcept nogil
# A flow's block, made if there is none; NULL: memory was refused.
cdef Extra *extra_need(Extras *x, Pool *pool, Flow *f, uint32_t n_tunnels) noexcept nogil
# Keeps what is around the first packet of a flow; False: memory was refused.
cdef bint extra_tunnels(Extras *x, Pool *pool, Flow *f, const Packet *p) noexcept nogil
cdef void extra_drop(Extras *x, Pool *pool, Flow *f) noexcept nogil

cdef inline const Extra *extra_of(const Extras *x, const Flow *f) noexcept nogil:
    return x.of[f.index] if f.flags & FLOW_EXTRA else NULL
