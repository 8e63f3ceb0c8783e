"""Frames of other workers' flows, on their way there; see handover.pxd."""
from libc.stdint cimport uint64_t

from aiomos._engine.core cimport Core
from aiomos._engine.intrinsics cimport ctz64
from aiomos._engine.rings cimport RingWriter
from aiomos._engine.shim cimport aio_frame, aio_ring_publish, aio_ring_push


cdef class HandOver:
    """Makes a core one of several workers, each of which gets only some of the frames.

    Args:
        core: the engine, before traffic.
        rings: the ring to each other worker, by number.
        mine: this worker's number.
        count: workers in all.
    """

    def __init__(self, Core core not None, rings, int mine, int count):
        cdef RingWriter writer
        self.core = core
        self.rings = {}
        for number, ring in rings.items():
            writer = RingWriter(ring)
            self.rings[number] = writer
            self.outbox.writers[<int>number] = writer.open_writer()
        core.hand_over(push, publish, <void *>&self.outbox, mine, count)

    def __dealloc__(self):
        # The core may live longer, but sees no frame any more: its pump is detached.
        self.rings = None


cdef int push(void *context, uint32_t worker, const aio_frame *frame) noexcept nogil:
    cdef Outbox *outbox = <Outbox *>context
    if outbox.writers[worker] == NULL or aio_ring_push(outbox.writers[worker], frame) == 0:
        return -1
    outbox.written[worker >> 6] |= <uint64_t>1 << (worker & 63)
    return 0


cdef void publish(void *context) noexcept nogil:
    cdef Outbox *outbox = <Outbox *>context
    cdef int i
    for i in range(2):
        while outbox.written[i]:
            aio_ring_publish(outbox.writers[i << 6 | ctz64(outbox.written[i])])
            outbox.written[i] &= outbox.written[i] - 1
