"""Which worker a packet is for, where several share the traffic (semantics.md 11).

A flow belongs to the worker that the hash of its innermost addresses and ports names (rss.pxd);
a fragment to the one that the hash of its addresses names, which puts the datagram together; an
ICMP error to the one of the flow that it quotes. A packet at the wrong worker is counted and
handed over; only of files does every worker see every frame, and leaves what is another's.

There the fragments of others are put together all the same, silently and within a budget apart:
the datagram may be of a flow that is this worker's.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos._engine.be cimport be32, raw32
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet
from aiomos._engine.workers cimport Workers

cdef void share_init(Workers *workers, uint32_t mine, uint32_t count) noexcept nogil
cdef uint32_t share_owner(const Workers *workers, const Packet *p) noexcept nogil

# The hash is linear over exclusive or: two look-ups instead of sixteen bits.
cdef inline uint32_t share_of_word(const Workers *workers, uint16_t folded) noexcept nogil:
    return workers.owners[workers.places[0][folded & 255] ^ workers.places[1][folded >> 8]]

# Whose TCP or UDP over this IPv4 header without options is. Words as they lie there: their
# exclusive or has its bytes in order at the end.
cdef inline uint32_t share_of_ip4(const Workers *workers, const uint8_t *ip) noexcept nogil:
    cdef uint32_t words = raw32(ip + 12) ^ raw32(ip + 16) ^ raw32(ip + 20)
    words = be32(<const uint8_t *>&words)
    return share_of_word(workers, <uint16_t>(words ^ words >> 16))

# Whether it is another worker's, where each sees every frame.
cdef inline bint share_leaves(const Workers *workers, const uint8_t *ip) noexcept nogil:
    return workers.hand_over == NULL and share_of_ip4(workers, ip) != workers.mine

# The same of any decoded TCP or UDP packet.
cdef inline bint share_leaves_packet(const Workers *workers, const Packet *p) noexcept nogil:
    return workers.hand_over == NULL and share_owner(workers, p) != workers.mine

# Whether a packet is this worker's. If not, it has been counted and, live, handed over.
cdef bint share_admits(CoreState *cs, const Packet *p) noexcept nogil
# The same for a datagram that this worker put together (CoreState.rebuilt).
cdef bint share_keeps(CoreState *cs, const Packet *p) noexcept nogil
