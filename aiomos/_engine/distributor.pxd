"""Frames of one source to the workers whose flows they are of: decoding, the hash, no more.

For devices whose own hash is unknown, one-sided, or blind to what is inside a tunnel
(semantics.md 11). What cannot be told from one frame (fragments) goes by its addresses; the
worker that puts a datagram together hands it on.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos._engine.shim cimport aio_frame, aio_ring_writer
from aiomos._engine.source cimport Source
from aiomos._engine.wire cimport Packet
from aiomos._engine.workers cimport Workers


cdef class Distributor:
    cdef readonly Source source
    cdef readonly uint64_t distributed  # frames given to workers, those that found no room included
    cdef list rings                     # RingWriter by worker, which own those:
    cdef aio_ring_writer **writers
    cdef Workers workers
    cdef uint32_t decoders
    cdef uint8_t *scratch

    cdef uint32_t owner_of(self, Packet *p, const aio_frame *frame) noexcept nogil
    cdef void give(self, const aio_frame *frames, int n) noexcept nogil
