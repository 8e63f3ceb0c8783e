"""Packets without a flow: what they are told as (events.pxd: OrphanReason, ANOMALY_STATUS)."""
from libc.stdint cimport uint8_t

from aiomos._engine.events cimport EVENT_ORPHAN, HOOK_SENDER
from aiomos._engine.limits cimport CLIENT
from aiomos._engine.state cimport CoreState, event_raise
from aiomos._engine.wire cimport Packet

cdef inline void stray(CoreState *cs, uint8_t reason) noexcept nogil:
    event_raise(cs, NULL, EVENT_ORPHAN, CLIENT, HOOK_SENDER, reason, 0, 0)

# A packet that is neither TCP nor UDP, nor became one by being put together.
cdef void stray_packet(CoreState *cs, Packet *p) noexcept nogil
