"""Frames of one source to the workers whose flows they are of: decoding, the hash, no more.

For devices whose own hash is unknown, one-sided, or blind to what is inside a tunnel
(semantics.md 11). What cannot be told from one frame (fragments) goes by its addresses; the
worker that puts a datagram together hands it on.

Frames are copied into the workers' rings, or handed over as they are where DPDK's memory is shared.
Where a ring is full, those of a live source are dropped; a capture waits: its frames are read no
faster than every worker takes its own.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.ledger cimport Ledger
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame, aio_ring_writer, aio_source
from aiomos._engine.source cimport Source
from aiomos._engine.wire cimport Packet
from aiomos._engine.workers cimport Workers

# Functions of dpdk_shim/dpdk.h by address, so that this module does not link DPDK.
ctypedef int (*fan_push_fn)(void *fan, unsigned worker, aio_source *source,
                            const aio_frame *frames, unsigned n) noexcept nogil
ctypedef void (*fan_drop_fn)(void *fan, unsigned worker, unsigned n) noexcept nogil
ctypedef unsigned (*fan_fn)(void *fan) noexcept nogil
ctypedef unsigned (*fan_room_fn)(void *fan, unsigned worker) noexcept nogil


cdef class Distributor:
    cdef readonly Source source
    cdef readonly uint64_t distributed  # frames given to workers, those that found no room included
    cdef public Ledger ledger           # of what was distributed; None: there is none
    cdef readonly bint patient          # the source waits for workers: nothing is dropped
    cdef readonly bint blocked          # it waits now
    cdef aio_frame frames[AIO_BURST_MAX]    # the present burst: `count`, of which `given` are gone
    cdef int count, given
    cdef uint64_t gone[2]               # workers that take nothing any more, by bit
    cdef list rings                     # RingWriter by worker, which own those:
    cdef aio_ring_writer **writers
    cdef Workers workers
    cdef uint32_t decoders
    cdef uint8_t *scratch

    cdef int set_up(self, Source source, int count, object decoders) except -1
    cdef uint32_t owner_of(self, Packet *p, const aio_frame *frame) noexcept nogil
    # Frames of the source to their workers; those given, as many as it returns, are not this
    # process's any more.
    cdef int give(self, const aio_frame *frames, int n) noexcept nogil
    cdef bint may_wait_for(self, uint32_t worker) noexcept nogil
    cdef bint has_room(self) noexcept nogil   # for a burst
    cdef void rest(self) noexcept nogil   # nothing came


cdef class FanDistributor(Distributor):
    cdef object owner                     # of:
    cdef void *fan
    cdef fan_push_fn push
    cdef fan_drop_fn drop
    cdef fan_fn drain
    cdef fan_room_fn room

    cdef void hand(self, uint32_t worker, const aio_frame *frames, unsigned n) noexcept nogil
