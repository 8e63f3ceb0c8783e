"""Python owners of the sources that dpdk_shim opens.

An owner is never half open: it is made without a constructor, then given the C object,
then handed out. The engine takes ``source.src`` once and uses its operations; it sees to
it that the source is not closed while it does.
"""
from libc.stdint cimport uint16_t

from .shim cimport aio_frame, aio_source, aio_source_stats


cdef class Source:
    cdef aio_source *src                 # NULL once closed
    cdef readonly str name               # for people: file names, "memory"
    cdef readonly int result             # 0, or the negative result that reading ended with
    cdef aio_source_stats last_stats     # as it was closed with
    cdef str last_message

    @staticmethod
    cdef Source adopt(aio_source *src, str name)
    cdef aio_source *open_source(self) except NULL  # raises SourceError once closed
    cdef aio_source *give_away(self) except NULL    # the caller's to close from now on
    cdef void take_back(self, aio_source *src) noexcept
    cdef int burst(self, aio_frame *frames, unsigned max_frames) except? -1


cdef class MemorySource(Source):
    cdef uint16_t link_type              # of frames pushed without one


cdef class HeldFrame:
    cdef Source source
    cdef aio_frame frame
    cdef bint held

    @staticmethod
    cdef HeldFrame adopt(Source source, const aio_frame *frame)
    cdef aio_source *held_source(self) except NULL


# ---- for others that open something ------------------------------------------------------------

# With errno and filename where the system gave an errno; the name is always shown.
cdef object source_error(int error, str message, str name)
cdef str text_of(const char *message)
cdef bytes path_bytes(object path)           # raises SourceError: a NUL byte in it
# Of anything bytes-like or with __bytes__; a number is not a frame of zeros: TypeError.
cdef bytes bytes_of_frame(object data)
