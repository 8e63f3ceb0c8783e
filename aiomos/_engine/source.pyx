"""Sources of frames, as Python objects.

Here files are opened and closed, and errors of the environment become exceptions. No
frame passes through this module when the engine runs: it takes ``Source.src`` and calls
the operations itself. What reads frames here (:func:`read_all`, :meth:`Source.take`) is
for tests and small tools.
"""
import os
from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc cimport errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from . cimport shim
from .shim cimport aio_frame, aio_source

from .errors import SourceError

NO_TIME = shim.AIO_NO_TIME
BURST_MAX = shim.AIO_BURST_MAX

# Windows of all files merged together, at the most: a thousand files are no reason to
# take half a gigabyte.
cdef enum:
    WINDOWS_TOTAL = 64 << 20
    WINDOW_LARGEST = 512 << 10
    WINDOW_LEAST = 64 << 10


class SourceStats(NamedTuple):
    """Counters of a source at one moment."""

    frames: int
    bytes: int
    dropped_nic: int
    dropped_kernel: int
    dropped_ring: int
    dropped_pool: int
    cut: int
    transmitted: int
    outstanding: int
    queued: int
    input_pos: int
    input_size: int


SourceStats.frames.__doc__ = "Frames handed out."
SourceStats.bytes.__doc__ = "Their captured bytes."
SourceStats.dropped_nic.__doc__ = "Frames lost before the source, by the device."
SourceStats.dropped_kernel.__doc__ = "Frames lost before the source, by the kernel or capture tool."
SourceStats.dropped_ring.__doc__ = "Frames lost within: a ring of a pump or distributor was full."
SourceStats.dropped_pool.__doc__ = "Holds refused: the retain pool's budget was used up."
SourceStats.cut.__doc__ = (
    "Frames among those handed out that were longer when they came: no memory for the rest.")
SourceStats.transmitted.__doc__ = "Frames sent."
SourceStats.outstanding.__doc__ = "Frames handed out or held, and not given back yet."
SourceStats.queued.__doc__ = "Frames in such a ring, waiting to be handed out."
SourceStats.input_pos.__doc__ = "Bytes of input read so far (of the file as it lies there)."
SourceStats.input_size.__doc__ = "Bytes of input in all; 0 if unknown, as with a pipe."


class RawFrame(NamedTuple):
    """One frame, copied out of its source."""

    data: bytes
    time_ns: int
    wire_len: int
    link_type: int
    port: int = 0
    direction: int = 0


RawFrame.data.__doc__ = "Captured bytes."
RawFrame.time_ns.__doc__ = "Nanoseconds since the epoch, or NO_TIME."
RawFrame.wire_len.__doc__ = "Bytes there were on the wire."
RawFrame.link_type.__doc__ = "LINKTYPE_ number of the pcap registry."
RawFrame.port.__doc__ = "Index of port, interface or file within the source."
RawFrame.direction.__doc__ = "0 unknown, 1 in, 2 out."


# ---- small change ------------------------------------------------------------------------

cdef object source_error(int error, str message, str name):
    """With errno and filename where the system gave an errno; the name is always shown."""
    if error:
        return SourceError(error, message, name)
    return SourceError(f"{name}: {message}")


cdef str text_of(const char *message):
    return (<bytes>message).decode("utf-8", "replace")


cdef bytes path_bytes(object path):
    cdef bytes encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise SourceError(f"a path with a NUL byte: {path!r}")
    return encoded


cdef bytes _frame_bytes(const aio_frame *frame):
    cdef bytes data = PyBytes_FromStringAndSize(NULL, frame.cap_len)
    shim.aio_frame_copy(frame, 0, frame.cap_len, <uint8_t *>PyBytes_AS_STRING(data))
    return data


cdef object _raw_frame(const aio_frame *frame):
    return RawFrame(_frame_bytes(frame), frame.time_ns, frame.wire_len, frame.link_type,
                    frame.port, frame.direction)


cdef bytes bytes_of_frame(object data):
    """Of anything bytes-like or with ``__bytes__``; a number is not a frame of zeros."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (int, str)):
        raise TypeError(f"a frame is bytes, not {type(data).__name__}")
    return bytes(data)


# ---- sources -----------------------------------------------------------------------------

cdef class Source:
    """A source of frames: an open capture, or several merged.

    Made by :func:`open_files`; a context manager that closes it.
    """

    def __init__(self):
        raise TypeError("a Source is made by open_files() or MemorySource()")

    @staticmethod
    cdef Source adopt(aio_source *src, str name):
        cdef Source self = Source.__new__(Source)
        self.src = src
        self.name = name
        return self

    def __dealloc__(self):
        if self.src != NULL:
            self.src.ops.close(self.src)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        state = "closed" if self.src == NULL else shim.aio_result_name(self.result).decode()
        return f"<{type(self).__name__} {self.name!r} {state}>"

    cdef aio_source *open_source(self) except NULL:
        if self.src == NULL:
            raise SourceError(f"{self.name}: source is closed")
        return self.src

    cdef aio_source *give_away(self) except NULL:
        """For a source made of this one: here it is closed now, there it lives on."""
        cdef aio_source *src = self.open_source()
        src.ops.stats(src, &self.last_stats)
        self.last_message = text_of(src.message)
        self.src = NULL
        return src

    cdef void take_back(self, aio_source *src) noexcept:
        """When nothing came of it."""
        self.src = src

    def close(self) -> None:
        """Frees everything, frames still held included. May be called twice."""
        cdef aio_source *src = self.src
        if src != NULL:
            src.ops.stats(src, &self.last_stats)
            self.last_message = text_of(src.message)
            self.src = NULL
            with nogil:  # a pump waits for its thread
                src.ops.close(src)

    def stats(self) -> SourceStats:
        """The counters now, or as they were when the source was closed."""
        if self.src != NULL:
            self.src.ops.stats(self.src, &self.last_stats)
        s = self.last_stats
        return SourceStats(s.frames, s.bytes, s.dropped_nic, s.dropped_kernel, s.dropped_ring,
                           s.dropped_pool, s.cut, s.transmitted, s.outstanding, s.queued,
                           s.input_pos, s.input_size)

    @property
    def closed(self) -> bool:
        return self.src == NULL

    @property
    def live(self) -> bool:
        """Times are this machine's, and no frame now does not mean the end."""
        return bool(self.open_source().caps & shim.AIO_CAP_LIVE)

    @property
    def ring(self) -> bool:
        """Frames must be released before the next burst; holding one copies it."""
        return bool(self.open_source().caps & shim.AIO_CAP_RING)

    @property
    def time_precision(self) -> int:
        """Nanoseconds in one unit of the finest time stamp met so far."""
        return self.open_source().time_precision

    @property
    def message(self) -> str:
        """What the last failure was about, in words; empty if there was none."""
        return text_of(self.src.message) if self.src != NULL else self.last_message or ""

    def fileno(self) -> int:
        """A descriptor to wait on after a burst that brought less than asked; -1: none."""
        cdef aio_source *src = self.open_source()
        return src.ops.descriptor(src)

    cdef int burst(self, aio_frame *frames, unsigned max_frames) except? -1:
        """A burst, with signals handled should one have interrupted it. Not for the
        engine: it counts on the GIL being held by its caller."""
        cdef aio_source *src = self.open_source()
        cdef int n
        with nogil:
            n = src.ops.burst(src, frames, max_frames)
        if n == 0:
            PyErr_CheckSignals()
        elif n < 0:
            self.result = n
        return n

    def take(self, unsigned n=shim.AIO_BURST_MAX) -> list:
        """The frames of one burst, each to be released by itself. For tests."""
        cdef aio_frame frames[shim.AIO_BURST_MAX]
        cdef int got = self.burst(frames, min(n, shim.AIO_BURST_MAX))
        cdef int i
        taken = []
        for i in range(got):
            taken.append(HeldFrame.adopt(self, &frames[i]))
        return taken

    def transmit(self, uint16_t port, frames) -> int:
        """Sends held frames out of a port; the number taken. For tests."""
        cdef aio_source *src = self.open_source()
        cdef HeldFrame held
        cdef int n
        for count, held in enumerate(frames):
            n = src.ops.transmit(src, port, &held.frame, 1)
            if n < 0:
                raise SourceError(self.message)
            if n == 0:
                return count
        return len(frames)


cdef class HeldFrame:
    """A hold on one frame of a source. For tests of sources."""

    def __init__(self):
        raise TypeError("a HeldFrame is made by Source.take()")

    @staticmethod
    cdef HeldFrame adopt(Source source, const aio_frame *frame):
        cdef HeldFrame self = HeldFrame.__new__(HeldFrame)
        self.source = source
        self.frame = frame[0]
        self.held = True
        return self

    cdef aio_source *held_source(self) except NULL:
        if not self.held:
            raise SourceError("the frame was released")
        return self.source.open_source()

    @property
    def data(self) -> bytes:
        self.held_source()
        return _frame_bytes(&self.frame)

    @property
    def raw(self) -> RawFrame:
        self.held_source()
        return _raw_frame(&self.frame)

    @property
    def device(self) -> tuple:
        """What the device said: hash, stripped VLAN tags, checksum states of IP and above."""
        self.held_source()
        tags = tuple([self.frame.vlan[i] for i in range(self.frame.n_vlan)])
        return self.frame.hash, tags, self.frame.csum_ip, self.frame.csum_l4

    @property
    def pieces(self) -> list:
        """Lengths of the frame's segments, the head first."""
        self.held_source()
        cdef const shim.aio_seg *seg = self.frame.next
        lengths = [self.frame.head_len]
        while seg != NULL:
            lengths.append(seg.len)
            seg = seg.next
        return lengths

    @property
    def vlan(self) -> tuple:
        """Tags (TCI) that the device stripped, outermost first."""
        self.held_source()
        return (self.frame.vlan[0], self.frame.vlan[1])[:self.frame.n_vlan]

    @property
    def checksums(self) -> tuple:
        """Of the network and the transport layer: 0 unknown, 1 good, 2 bad, 3 not filled in."""
        self.held_source()
        return self.frame.csum_ip, self.frame.csum_l4

    def retain(self) -> HeldFrame:
        """Another hold, to be released by itself."""
        cdef aio_source *src = self.held_source()
        cdef HeldFrame other = HeldFrame.adopt(self.source, &self.frame)
        if src.ops.retain(src, &other.frame) < 0:
            other.held = False
            raise SourceError(self.source.message)
        return other

    def release(self) -> None:
        cdef aio_source *src = self.held_source()
        self.held = False
        src.ops.release(src, &self.frame, 1)


# ---- capture files -----------------------------------------------------------------------

cdef aio_source *_open_file(object path, const shim.aio_file_options *options) except NULL:
    cdef char message[256]
    cdef bytes encoded = path_bytes(path)
    cdef const char *c_path = encoded
    cdef aio_source *src = NULL
    cdef int r, error
    while True:
        with nogil:
            r = shim.aio_file_open(&src, c_path, options, message)
            error = c_errno.errno
        if r == shim.AIO_OK:
            return src
        if error != c_errno.EINTR:
            raise source_error(error, text_of(message), os.fsdecode(path))
        PyErr_CheckSignals()  # a named pipe that nobody writes to, and Ctrl-C


cdef int _open_parts(list paths, const shim.aio_file_options *options,
                     aio_source **parts) except -1:
    cdef Py_ssize_t n = 0
    try:
        for path in paths:
            parts[n] = _open_file(path, options)
            n += 1
    except BaseException:
        while n > 0:
            n -= 1
            parts[n].ops.close(parts[n])
        raise
    return 0


cdef aio_source *_merge(aio_source **parts, unsigned n) except NULL:
    cdef aio_source *merged = NULL
    cdef unsigned i
    if shim.aio_merge_open(&merged, parts, n) == shim.AIO_OK:
        return merged
    for i in range(n):
        parts[i].ops.close(parts[i])
    raise MemoryError("no memory to merge captures")


def open_files(paths, *, uint32_t window_size=0, uint64_t retain_budget=0) -> Source:
    """Opens captures as one source, ordered by time.

    A path may be ``"-"``: standard input. pcap and pcapng are read, also within gzip.
    ``window_size`` is the size of one read buffer; ``retain_budget`` what held frames of
    pipes and gzip may take, 16 MiB by default; both in bytes and for each file.

    Raises SourceError, with ``errno`` where the system gave one.
    """
    cdef shim.aio_file_options options
    cdef aio_source **parts
    cdef list names = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else list(paths)
    if not names:
        raise SourceError("no capture file was named")
    memset(&options, 0, sizeof(options))
    options.retain_budget = retain_budget
    options.window_size = window_size or max(
        WINDOW_LEAST, min(WINDOW_LARGEST, WINDOWS_TOTAL // len(names)))
    parts = <aio_source **>malloc(len(names) * sizeof(aio_source *))
    if parts == NULL:
        raise MemoryError
    try:
        _open_parts(names, &options, parts)
        return Source.adopt(_merge(parts, len(names)),
                            ", ".join(map(os.fsdecode, names)))
    finally:
        free(parts)


def read_all(Source source, *, unsigned burst=shim.AIO_BURST_MAX, check=True) -> list[RawFrame]:
    """Every frame that is left, copied. For tests and small tools.

    Where the capture ends by damage this raises SourceError, or with ``check=False``
    leaves it in ``source.result`` and ``source.message``.
    """
    cdef aio_frame frames[shim.AIO_BURST_MAX]
    cdef int i, n = 0
    cdef list result = []
    if not 1 <= burst <= shim.AIO_BURST_MAX:
        raise ValueError(f"burst must be 1 to {BURST_MAX}")
    while True:
        n = source.burst(frames, burst)
        if n < 0 or n == 0 and isinstance(source, MemorySource):
            break
        for i in range(n):
            result.append(_raw_frame(&frames[i]))
        source.src.ops.release(source.src, frames, n)
    if check and n < 0 and n != shim.AIO_END:
        raise SourceError(source.message)
    return result


# ---- memory ------------------------------------------------------------------------------

cdef class MemorySource(Source):
    """Frames from memory; what is transmitted can be looked at with :meth:`sent`.

    ``frames`` are pairs of data and time in ns, RawFrame objects, or data alone, which
    then are a millisecond apart. Given them, the source is finished: it ends after the
    last one. With ``segment_seed`` frames are cut into random segments; with ``ring`` it
    behaves as a pipe does.
    """

    def __init__(self, frames=None, *, uint16_t link_type=1, uint32_t segment_seed=0,
                 bint ring=False, uint64_t retain_budget=0):
        cdef shim.aio_mem_options options
        if self.src != NULL:
            raise TypeError("a MemorySource is opened once")
        options.segment_seed = segment_seed
        options.copy_on_retain = ring
        options.retain_budget = retain_budget
        if shim.aio_mem_open(&self.src, &options) < 0:
            raise MemoryError
        self.name = "memory"
        self.link_type = link_type
        if frames is None:
            return
        for index, frame in enumerate(frames):
            self._push_any(frame, index)
        shim.aio_mem_finish(self.src)

    def _push_any(self, frame, index):
        if isinstance(frame, RawFrame):
            self.push(frame.data, frame.time_ns, link_type=frame.link_type,
                      wire_len=frame.wire_len, direction=frame.direction, port=frame.port)
        elif isinstance(frame, tuple):
            self.push(*frame)
        else:
            self.push(frame, index * 1_000_000)

    def push(self, data, int64_t time_ns=0, *, link_type=None, uint32_t wire_len=0,
             uint8_t direction=0, uint8_t csum_ip=0, uint8_t csum_l4=0, vlan=(),
             uint16_t port=0, uint32_t hash=0) -> None:
        """Appends a frame: bytes-like, or anything with ``__bytes__``.

        ``vlan`` are the tags (TCI) that a device would have stripped, outermost first.
        """
        cdef aio_source *src = self.open_source()
        cdef bytes content = bytes_of_frame(data)
        cdef const uint8_t *start = content
        cdef aio_frame meta
        memset(&meta, 0, sizeof(meta))
        meta.time_ns = time_ns
        meta.wire_len = wire_len
        meta.link_type = self.link_type if link_type is None else link_type
        meta.port = port
        meta.hash = hash
        meta.direction = direction
        meta.csum_ip = csum_ip
        meta.csum_l4 = csum_l4
        for tci in vlan:
            if meta.n_vlan == 2:
                raise ValueError("more than two stripped VLAN tags")
            meta.vlan[meta.n_vlan] = tci
            meta.n_vlan += 1
        if shim.aio_mem_push(src, &meta, start, <uint32_t>len(content)) < 0:
            raise SourceError(self.message)

    def finish(self) -> None:
        """No more frames will come: after the last one the source ends."""
        shim.aio_mem_finish(self.open_source())

    def rewind(self) -> None:
        """Starts again with the first frame; all must have been released."""
        if shim.aio_mem_rewind(self.open_source()) < 0:
            raise SourceError(self.message)
        self.result = 0

    def sent(self) -> list[tuple[int, bytes]]:
        """What was transmitted, in order: port and bytes."""
        cdef aio_source *src = self.open_source()
        cdef aio_frame frame
        cdef list frames = []
        while shim.aio_mem_sent(src, len(frames), &frame) == shim.AIO_OK:
            frames.append((frame.port, _frame_bytes(&frame)))
        return frames
