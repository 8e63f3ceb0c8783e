"""Frames of one source to the workers whose flows they are of; see distributor.pxd."""
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc

from aiomos._engine.errors import ConfigError
from aiomos._engine.intrinsics cimport likely
from aiomos._engine.limits cimport SCRATCH_SIZE
from aiomos._engine.rings cimport RingWriter
from aiomos._engine.rss cimport RSS_TABLE
from aiomos._engine.share cimport share_init, share_of_ip4, share_owner
from aiomos._engine.shim cimport (AIO_BURST_MAX, AIO_CAP_LIVE, aio_frame_copy, aio_ring_is_full,
                                  aio_ring_publish, aio_ring_push)
from aiomos._engine.usual cimport USUAL_IP, usual_header
from aiomos._engine.walk cimport DECODE_ALL
from aiomos._engine.wire cimport WIRE_NEED_LINEAR, wire_decode


cdef class Distributor:
    """Gives each frame of ``source`` to one of ``rings``, which are the workers' in order.

    ``decoders`` is a bit mask of what is decoded; None: everything.
    """

    def __init__(self, Source source not None, rings, decoders=None):
        cdef RingWriter writer
        self.set_up(source, len(rings), decoders)
        self.rings = [RingWriter(ring) for ring in rings]
        self.writers = <aio_ring_writer **>calloc(len(rings), sizeof(aio_ring_writer *))
        if self.writers == NULL:
            raise MemoryError
        for number, writer in enumerate(self.rings):
            self.writers[<int>number] = writer.open_writer()

    cdef int set_up(self, Source source, int count, object decoders) except -1:
        if not 1 <= count <= RSS_TABLE:
            raise ConfigError(f"{count} workers: there are 1 to {RSS_TABLE}")
        self.source = source
        self.patient = not source.open_source().caps & AIO_CAP_LIVE
        self.decoders = DECODE_ALL if decoders is None else decoders
        self.scratch = <uint8_t *>malloc(SCRATCH_SIZE)
        if self.scratch == NULL:
            raise MemoryError
        share_init(&self.workers, 0, count)
        return 0

    def __dealloc__(self):
        free(self.writers)
        free(self.scratch)

    def turn(self):
        """One burst, or the rest of one; how many frames were given to workers.

        0: none now, since none came or, ``blocked``, since a worker's ring is full; -1: none will
        ever come.
        """
        cdef int n
        if self.given == self.count:
            self.blocked = not self.has_room()
            n = 0 if self.blocked else self.source.burst(self.frames, AIO_BURST_MAX)
            if n <= 0:
                self.rest()
                return -1 if n < 0 else 0
            self.count = n
            self.given = 0
        with nogil:
            n = self.give(&self.frames[self.given], self.count - self.given)
        self.given += n
        self.distributed += n
        if self.ledger is not None:
            self.ledger.note_distributed(self.distributed)
        self.blocked = self.given < self.count
        return n

    def forget(self, unsigned worker):
        """A worker takes nothing any more, and none follows it: its frames are dropped."""
        if worker < self.workers.count:
            self.gone[worker >> 6] |= <uint64_t>1 << (worker & 63)

    cdef bint may_wait_for(self, uint32_t worker) noexcept nogil:
        return self.patient and not self.gone[worker >> 6] >> (worker & 63) & 1

    cdef bint has_room(self) noexcept nogil:
        return True                     # give() takes what there is room for

    cdef void rest(self) noexcept nogil:
        pass

    cdef int give(self, const aio_frame *frames, int n) noexcept nogil:
        cdef Packet p
        cdef uint32_t owner
        cdef uint64_t written[2]
        cdef int i, done = 0
        written[0] = written[1] = 0
        while done < n:
            owner = self.owner_of(&p, &frames[done])
            if self.may_wait_for(owner) and aio_ring_is_full(self.writers[owner], &frames[done]):
                break
            aio_ring_push(self.writers[owner], &frames[done])
            written[owner >> 6] |= <uint64_t>1 << (owner & 63)
            done += 1
        for i in range(<int>self.workers.count):
            if written[i >> 6] >> (i & 63) & 1:
                aio_ring_publish(self.writers[i])
        self.source.src.ops.release(self.source.src, frames, done)
        return done

    cdef uint32_t owner_of(self, Packet *p, const aio_frame *frame) noexcept nogil:
        cdef uint32_t n
        if likely(usual_header(frame)):
            return share_of_ip4(&self.workers, frame.data + USUAL_IP)
        wire_decode(p, frame, frame.data, frame.head_len, self.decoders)
        if p.status == WIRE_NEED_LINEAR:
            n = aio_frame_copy(frame, 0, SCRATCH_SIZE, self.scratch)
            wire_decode(p, frame, self.scratch, n, self.decoders)
        return share_owner(&self.workers, p)


cdef class FanDistributor(Distributor):
    """Hands the frames of a source over DPDK to ``workers`` of its ``fan``, without copying."""

    def __init__(self, Source source not None, fan, int workers, decoders=None):
        self.set_up(source, workers, decoders)
        self.owner = fan
        self.fan = <void *><uintptr_t>fan.handle
        self.push = <fan_push_fn><uintptr_t>fan.push_function
        self.drop = <fan_drop_fn><uintptr_t>fan.drop_function
        self.drain = <fan_fn><uintptr_t>fan.drain_function
        self.room = <fan_room_fn><uintptr_t>fan.room_function

    cdef bint has_room(self) noexcept nogil:
        cdef uint32_t worker
        for worker in range(self.workers.count):
            if self.may_wait_for(worker) and self.room(self.fan, worker) < AIO_BURST_MAX:
                return False
        return True

    cdef void rest(self) noexcept nogil:
        self.drain(self.fan)

    cdef int give(self, const aio_frame *frames, int n) noexcept nogil:
        """Worker by worker, since the rings take several frames at once best."""
        cdef aio_frame batch[AIO_BURST_MAX]
        cdef uint8_t owners[AIO_BURST_MAX]
        cdef Packet p
        cdef uint64_t given = 0           # bit by frame
        cdef unsigned found
        cdef int i, j
        for i in range(n):
            owners[i] = <uint8_t>self.owner_of(&p, &frames[i])
        for i in range(n):
            if given >> i & 1:
                continue
            found = 0
            for j in range(i, n):
                if owners[j] == owners[i]:
                    batch[found] = frames[j]
                    found += 1
                    given |= <uint64_t>1 << j
            self.hand(owners[i], batch, found)
        return n

    cdef void hand(self, uint32_t worker, const aio_frame *frames, unsigned n) noexcept nogil:
        cdef int taken = max(self.push(self.fan, worker, self.source.src, frames, n), 0)
        cdef unsigned rest = n - <unsigned>taken
        if rest:
            self.drop(self.fan, worker, rest)
            self.source.src.ops.release(self.source.src, frames + taken, rest)
