"""Rings of frames between threads and processes, and sources made of other sources."""
from .shim cimport aio_frame, aio_ring, aio_ring_writer


cdef class Ring:
    cdef aio_ring *ring                  # NULL once closed

    @staticmethod
    cdef Ring adopt(aio_ring *ring)
    cdef aio_ring *open_ring(self) except NULL  # raises SourceError once closed


cdef class RingWriter:
    cdef aio_ring_writer *writer         # NULL once closed

    cdef aio_ring_writer *open_writer(self) except NULL
    cdef int push_frame(self, const aio_frame *frame) noexcept nogil
    cdef void publish_frames(self) noexcept nogil
