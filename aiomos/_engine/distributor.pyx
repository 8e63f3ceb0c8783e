"""Frames of one source to the workers whose flows they are of; see distributor.pxd."""
from libc.stdlib cimport calloc, free, malloc

from aiomos._engine.errors import ConfigError
from aiomos._engine.limits cimport SCRATCH_SIZE
from aiomos._engine.rings cimport RingWriter
from aiomos._engine.rss cimport RSS_TABLE
from aiomos._engine.share cimport share_init, share_owner
from aiomos._engine.shim cimport (AIO_BURST_MAX, aio_frame_copy, aio_ring_publish, aio_ring_push)
from aiomos._engine.walk cimport DECODE_ALL
from aiomos._engine.wire cimport WIRE_NEED_LINEAR, wire_decode


cdef class Distributor:
    """Gives each frame of ``source`` to one of ``rings``, which are the workers' in order.

    ``decoders`` is a bit mask of what is decoded; None: everything.
    """

    def __init__(self, Source source not None, rings, decoders=None):
        cdef RingWriter writer
        if not 1 <= len(rings) <= RSS_TABLE:
            raise ConfigError(f"{len(rings)} workers: there are 1 to {RSS_TABLE}")
        self.source = source
        self.rings = [RingWriter(ring) for ring in rings]
        self.decoders = DECODE_ALL if decoders is None else decoders
        self.writers = <aio_ring_writer **>calloc(len(rings), sizeof(aio_ring_writer *))
        self.scratch = <uint8_t *>malloc(SCRATCH_SIZE)
        if self.writers == NULL or self.scratch == NULL:
            raise MemoryError
        for number, writer in enumerate(self.rings):
            self.writers[<int>number] = writer.open_writer()
        share_init(&self.workers, 0, len(rings))

    def __dealloc__(self):
        free(self.writers)
        free(self.scratch)

    def turn(self):
        """One burst; how many frames it had, 0: none now, -1: none will ever come."""
        cdef aio_frame frames[AIO_BURST_MAX]
        cdef int n = self.source.burst(frames, AIO_BURST_MAX)
        if n <= 0:
            return -1 if n < 0 else 0
        with nogil:
            self.give(frames, n)
            self.source.src.ops.release(self.source.src, frames, n)
        return n

    cdef void give(self, const aio_frame *frames, int n) noexcept nogil:
        cdef Packet p
        cdef uint32_t owner
        cdef uint64_t written[2]
        cdef int i
        written[0] = written[1] = 0
        for i in range(n):
            owner = self.owner_of(&p, &frames[i])
            aio_ring_push(self.writers[owner], &frames[i])
            written[owner >> 6] |= <uint64_t>1 << (owner & 63)
        for i in range(<int>self.workers.count):
            if written[i >> 6] >> (i & 63) & 1:
                aio_ring_publish(self.writers[i])
        self.distributed += n

    cdef uint32_t owner_of(self, Packet *p, const aio_frame *frame) noexcept nogil:
        cdef uint32_t n
        wire_decode(p, frame, frame.data, frame.head_len, self.decoders)
        if p.status == WIRE_NEED_LINEAR:
            n = aio_frame_copy(frame, 0, SCRATCH_SIZE, self.scratch)
            wire_decode(p, frame, self.scratch, n, self.decoders)
        return share_owner(&self.workers, p)
