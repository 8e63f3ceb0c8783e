"""Frames of other workers' flows, on their way there: one ring to each (docs/workers.md)."""
from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.rss cimport RSS_TABLE
from aiomos._engine.shim cimport aio_ring_writer

cdef struct Outbox:
    aio_ring_writer *writers[RSS_TABLE]   # by worker; NULL: this one
    uint64_t written[2]       # bit by worker: frames that have not been published yet

cdef class HandOver:
    cdef Outbox outbox
    cdef dict rings           # RingWriter by worker, which own those
    cdef object core
