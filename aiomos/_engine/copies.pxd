"""Packets that a mirror shows twice: a hash of each, remembered for a short time.

Two packets are copies when everything from the network header on is equal but for what a
router between two mirrored ports changes: TTL or hop limit, and the IPv4 header checksum
(docs/decisions/0015). Tags, MAC addresses and encapsulations do not count, unless they are in
the flow key. Frames without an IP header are compared from the EtherType on.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.wire cimport Packet

cdef enum:
    COPY_SLOTS = 1 << 14      # packets remembered, in pairs: 256 KiB

cdef struct CopySlot:
    uint64_t hash
    int64_t time_ns           # of the first one, engine time

cdef struct Copies:
    CopySlot *slots           # NULL: not asked for
    int64_t window_ns
    KeySeed seed

cdef int copies_init(Copies *c) noexcept nogil
cdef void copies_free(Copies *c) noexcept nogil
# Whether this packet was here within the window; if not it is remembered. `data` are the
# contiguous bytes of the frame, `base` what p.ip points into.
cdef bint copies_seen(Copies *c, const Packet *p, const uint8_t *data, const uint8_t *base,
                      uint64_t tag, int64_t now) noexcept nogil
