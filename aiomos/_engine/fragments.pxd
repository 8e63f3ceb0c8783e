"""What a fragment means for the core: events, counters, and the datagram put together.

A whole datagram stands in the place of its last fragment: the same Packet, decoded again from
a contiguous frame of its own (CoreState.rebuilt) with that fragment's time, link and tags, so
that nothing behind it knows. Packet handlers see the fragments, as they were captured.
"""
from libc.stdint cimport uint64_t

from aiomos._engine.defrag cimport Defrag
from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# Takes a packet with WIRE_FRAGMENT. True: p is the datagram now, whatever that is (a fragment
# again where one was sent inside another). d: CoreState.defrag, or that for fragments which
# other workers count.
cdef bint fragment_arrives(CoreState *cs, Defrag *d, Packet *p, uint64_t tag) noexcept nogil
