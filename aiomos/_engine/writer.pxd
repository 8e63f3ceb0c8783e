"""Python owners of the writers of captures that dpdk_shim opens."""
from aiomos._engine.shim cimport aio_frame, aio_writer


cdef class Writer:
    cdef aio_writer *writer              # NULL once closed
    cdef readonly str name

    cdef aio_writer *open_writer(self) except NULL
    cdef int write_frame(self, const aio_frame *frame) noexcept nogil
    cdef int check(self, int result) except -1
