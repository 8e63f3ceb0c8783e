"""Asks the flow filters which handlers want a new flow."""
from libc.stdint cimport uint64_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.wire cimport Packet

# A match_fn (state.pxd); the context is a FilterSet.
cdef uint64_t match_flow(void *context, Flow *flow, Packet *packet) noexcept nogil
