"""Which worker a packet is for, where several share the traffic (semantics.md 11).

A flow belongs to the worker that the hash of its innermost addresses and ports names (rss.pxd);
a fragment to the one that the hash of its addresses names, which puts the datagram together; an
ICMP error to the one of the flow that it quotes. A packet at the wrong worker is counted and
handed over; only of files does every worker see every frame, and leaves what is another's.

There the fragments of others are put together all the same, silently and within a budget apart:
the datagram may be of a flow that is this worker's.
"""
from libc.stdint cimport uint32_t

from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet
from aiomos._engine.workers cimport Workers

cdef void share_init(Workers *workers, uint32_t mine, uint32_t count) noexcept nogil
cdef uint32_t share_owner(const Workers *workers, const Packet *p) noexcept nogil
# Whether a packet is this worker's. If not, it has been counted and, live, handed over.
cdef bint share_admits(CoreState *cs, const Packet *p) noexcept nogil
# The same for a datagram that this worker put together (CoreState.rebuilt).
cdef bint share_keeps(CoreState *cs, const Packet *p) noexcept nogil
