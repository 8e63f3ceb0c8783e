"""Packets that are not let in: copies of one that was, and those with a wrong checksum.

Each is asked only where it is wanted (CoreState.checks).
"""
from libc.stdint cimport uint64_t

from aiomos._engine.state cimport CoreState
from aiomos._engine.wire cimport Packet

# False: a copy of a packet taken a moment ago, which goes no further, not even to hooks.
cdef bint packet_is_first(CoreState *cs, const Packet *p, uint64_t tag) noexcept nogil
# False: a checksum is wrong. Nobody received it (semantics.md 9); counted and told.
cdef bint packet_is_sound(CoreState *cs, const Packet *p) noexcept nogil
