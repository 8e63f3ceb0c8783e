"""A frame for the hooks of the test suite."""
from aiomos._engine.shim cimport aio_frame, aio_seg


cdef class FrameBox:
    cdef aio_frame frame
    cdef aio_seg *segs
