"""Writers of captures, as Python objects."""
from libc cimport errno as c_errno
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memset

import os

from aiomos._engine cimport shim
from aiomos._engine.errors import SourceError
from aiomos._engine.shim cimport aio_frame
from aiomos._engine.source cimport (HeldFrame, bytes_of_frame, path_bytes, source_error, text_of)
from aiomos._engine.source import RawFrame

_FORMATS = {
    "pcap": shim.AIO_WRITE_PCAP_US,
    "pcap-ns": shim.AIO_WRITE_PCAP_NS,
    "pcapng": shim.AIO_WRITE_PCAPNG,
}


cdef class Writer:
    """Writes frames into a capture file; a context manager that closes it.

    ``path`` may be ``"-"``: standard output. ``format`` is "pcap" (microseconds),
    "pcap-ns" or "pcapng". A pcap takes the link type of its first frame for all; a file
    without frames has ``link_type``.
    """

    def __init__(self, path, format="pcapng", uint32_t snap_len=0, uint16_t link_type=1):
        cdef char message[256]
        cdef bytes encoded = path_bytes(path)
        cdef int r, error
        if self.writer != NULL:
            raise TypeError("a Writer is opened once")
        if format not in _FORMATS:
            raise SourceError(f"no such capture format: {format!r}; there are "
                              + ", ".join(_FORMATS))
        self.name = os.fsdecode(path)
        r = shim.aio_writer_open(&self.writer, encoded, _FORMATS[format], snap_len, link_type,
                                 message)
        error = c_errno.errno
        if r < 0:
            raise source_error(error, text_of(message), self.name)

    def __dealloc__(self):
        if self.writer != NULL:
            shim.aio_writer_close(self.writer)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef shim.aio_writer *open_writer(self) except NULL:
        if self.writer == NULL:
            raise SourceError(f"{self.name}: writer is closed")
        return self.writer

    cdef int write_frame(self, const aio_frame *frame) noexcept nogil:
        """For the engine; AIO_EINVAL when closed. The message is in ``message``."""
        if self.writer == NULL:
            return shim.AIO_EINVAL
        return shim.aio_writer_write(self.writer, frame)

    @property
    def message(self) -> str:
        """What the last failure was about, in words."""
        if self.writer == NULL:
            return "writer is closed"
        return text_of(shim.aio_writer_message(self.writer))

    cdef int check(self, int result) except -1:
        if result < 0:
            raise SourceError(f"{self.name}: {self.message}")
        return 0

    def write(self, frame) -> None:
        """A HeldFrame, a RawFrame or what has the same attributes, or data and time."""
        if isinstance(frame, HeldFrame):
            self._write_held(frame)
        elif isinstance(frame, tuple) and not hasattr(frame, "data"):
            self._write_raw(RawFrame(frame[0], frame[1], 0, 1))
        else:
            self._write_raw(frame)

    def _write_held(self, HeldFrame frame):
        frame.held_source()
        self.open_writer()
        self.check(self.write_frame(&frame.frame))

    def _write_raw(self, raw):
        cdef bytes content = bytes_of_frame(raw.data)
        cdef aio_frame frame
        self.open_writer()
        memset(&frame, 0, sizeof(frame))
        frame.data = content
        frame.head_len = frame.cap_len = <uint32_t>len(content)
        frame.wire_len = max(raw.wire_len, len(content))
        frame.time_ns = raw.time_ns
        frame.link_type = raw.link_type
        frame.port = getattr(raw, "port", 0)
        frame.direction = getattr(raw, "direction", 0)
        self.check(self.write_frame(&frame))

    def flush(self) -> None:
        """Writes out what is buffered."""
        self.check(shim.aio_writer_flush(self.open_writer()))

    def close(self) -> None:
        """Writes what is buffered and closes; raises the first error there was, once."""
        cdef int r, error
        if self.writer == NULL:
            return
        message = self.message
        r = shim.aio_writer_close(self.writer)
        error = c_errno.errno
        self.writer = NULL
        if r < 0:
            raise source_error(error, message or os.strerror(error), self.name)
