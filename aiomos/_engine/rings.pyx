"""Rings of frames between threads and processes, and sources made of other sources.

A ring has one writer and one reader at a time. The supervisor makes it with
:meth:`Ring.create`; other processes inherit its two descriptors and :meth:`Ring.attach`
them. The writing end is a :class:`RingWriter`; the reading end is a source like any
other, by :func:`ring_source`. dpdk_shim/ring.h says how a ring lies in memory, and why
either end may be killed at any moment.

Sources given to :func:`join_sources` and :func:`pump_source` are given away: their
objects are closed, their counters stay as they were.
"""
from typing import NamedTuple

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from . cimport shim
from .shim cimport aio_frame, aio_ring, aio_ring_writer, aio_source
from .source cimport HeldFrame, Source

from .errors import SourceError


class RingStats(NamedTuple):
    """Counters of a ring since it was made, whoever wrote and read."""

    size: int
    used: int
    pushed: int
    pushed_bytes: int
    dropped: int
    dropped_bytes: int
    taken: int
    released: int
    abandoned: int
    ended: bool


RingStats.size.__doc__ = "Bytes of the ring."
RingStats.used.__doc__ = "Bytes of it that wait, or are with the reader."
RingStats.pushed.__doc__ = "Frames published."
RingStats.pushed_bytes.__doc__ = "Their captured bytes."
RingStats.dropped.__doc__ = "Frames that found the ring full."
RingStats.dropped_bytes.__doc__ = "Their captured bytes."
RingStats.taken.__doc__ = "Frames handed to a reader."
RingStats.released.__doc__ = "Frames that readers gave back."
RingStats.abandoned.__doc__ = "Frames that readers died with."
RingStats.ended.__doc__ = "The writer said that no more will come."


cdef object _error(const char *message):
    return SourceError((<bytes>message).decode("utf-8", "replace"))


# ---- rings -------------------------------------------------------------------------------

cdef class Ring:
    """A ring of frames, mapped. Made by :meth:`create` and :meth:`attach`."""

    def __init__(self):
        raise TypeError("a Ring is made by Ring.create() or Ring.attach()")

    @staticmethod
    cdef Ring adopt(aio_ring *ring):
        cdef Ring self = Ring.__new__(Ring)
        self.ring = ring
        return self

    @staticmethod
    def create(uint64_t size, *, bint shared=True) -> Ring:
        """A new ring for ``size`` bytes, rounded up to a power of two.

        ``shared``: for other processes too. Raises SourceError without memory, or for a
        size beyond 4 GiB.
        """
        cdef char message[256]
        cdef aio_ring *ring = NULL
        if shim.aio_ring_create(&ring, size, shared, message) < 0:
            raise _error(message)
        return Ring.adopt(ring)

    @staticmethod
    def attach(int fd, int bell) -> Ring:
        """The ring behind inherited descriptors, which stay the caller's.

        Raises SourceError when there is none, or one of another version.
        """
        cdef char message[256]
        cdef aio_ring *ring = NULL
        if shim.aio_ring_attach(&ring, fd, bell, message) < 0:
            raise _error(message)
        return Ring.adopt(ring)

    def __dealloc__(self):
        if self.ring != NULL:
            shim.aio_ring_put(self.ring)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef aio_ring *open_ring(self) except NULL:
        if self.ring == NULL:
            raise SourceError("the ring is closed")
        return self.ring

    def close(self) -> None:
        """Gives up this hold. Writers and sources on the ring have their own."""
        cdef aio_ring *ring = self.ring
        self.ring = NULL
        if ring != NULL:
            shim.aio_ring_put(ring)

    def fileno(self) -> int:
        """Descriptor of its memory, not inheritable by itself; -1 if it is not shared."""
        return shim.aio_ring_fd(self.open_ring())

    @property
    def bell(self) -> int:
        """Descriptor of the event that wakes the reader."""
        return shim.aio_ring_bell(self.open_ring())

    def stats(self) -> RingStats:
        """The counters now; exact once both ends rest."""
        cdef shim.aio_ring_stats s
        shim.aio_ring_get_stats(self.open_ring(), &s)
        return RingStats(s.size, s.used, s.pushed, s.pushed_bytes, s.dropped, s.dropped_bytes,
                         s.taken, s.released, s.abandoned, bool(s.ended))

    def settle(self) -> int:
        """A reader is gone: frames dropped since the one before it was settled with its own."""
        return shim.aio_ring_settle(self.open_ring())


cdef class RingWriter:
    """The writing end of a ring; it goes on where a writer before it stopped.

    Raises SourceError when this ``Ring`` has an open writer, or is damaged. That no other
    process has one is the supervisor's business.
    """

    def __init__(self, Ring ring):
        cdef char message[256]
        if self.writer != NULL:
            raise TypeError("a RingWriter is opened once")
        if shim.aio_ring_writer_open(&self.writer, ring.open_ring(), message) < 0:
            raise _error(message)

    def __dealloc__(self):
        if self.writer != NULL:
            shim.aio_ring_writer_close(self.writer)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef aio_ring_writer *open_writer(self) except NULL:
        if self.writer == NULL:
            raise SourceError("the writer is closed")
        return self.writer

    cdef int push_frame(self, const aio_frame *frame) noexcept nogil:
        """For the engine: 1, or 0 when there was no room (counted) or the writer is
        closed. Not seen, and the reader not woken, before ``publish_frames()``."""
        if self.writer == NULL:
            return 0
        return shim.aio_ring_push(self.writer, frame)

    cdef void publish_frames(self) noexcept nogil:
        """For the engine, once a batch."""
        if self.writer != NULL:
            shim.aio_ring_publish(self.writer)

    def push(self, data, int64_t time_ns=0, *, uint16_t link_type=1, uint32_t wire_len=0,
             uint8_t direction=0, uint8_t csum_ip=0, uint8_t csum_l4=0, vlan=(),
             uint16_t port=0, uint32_t hash=0) -> bool:
        """Copies a frame into the ring; False when there was no room. For tests.

        The reader sees it after :meth:`publish`.
        """
        cdef aio_ring_writer *writer = self.open_writer()
        cdef const uint8_t[::1] content = data
        cdef aio_frame frame
        memset(&frame, 0, sizeof(frame))
        frame.head_len = frame.cap_len = <uint32_t>content.shape[0]
        if frame.cap_len:
            frame.data = &content[0]
        frame.wire_len = max(wire_len, frame.cap_len)
        frame.time_ns = time_ns
        frame.link_type = link_type
        frame.port = port
        frame.hash = hash
        frame.direction = direction
        frame.csum_ip = csum_ip
        frame.csum_l4 = csum_l4
        for tci in vlan:
            if frame.n_vlan == 2:
                raise ValueError("more than two stripped VLAN tags")
            frame.vlan[frame.n_vlan] = tci
            frame.n_vlan += 1
        return shim.aio_ring_push(writer, &frame) == 1

    def push_held(self, HeldFrame held) -> bool:
        """The same with a frame of a source, which stays held. For tests."""
        cdef aio_ring_writer *writer = self.open_writer()
        held.held_source()
        return shim.aio_ring_push(writer, &held.frame) == 1

    def publish(self) -> None:
        """Shows what was pushed to the reader, and wakes it if it sleeps."""
        shim.aio_ring_publish(self.open_writer())

    def end(self) -> None:
        """Publishes, and says that no more frames will come."""
        shim.aio_ring_end(self.open_writer())

    def close(self) -> None:
        """Publishes, and makes way for another writer. May be called twice."""
        cdef aio_ring_writer *writer = self.writer
        self.writer = NULL
        if writer != NULL:
            shim.aio_ring_writer_close(writer)


# ---- sources -----------------------------------------------------------------------------

def ring_source(Ring ring, *, bint end=False, bint captured=False, bint settled=False,
                uint64_t retain_budget=0, name="ring") -> Source:
    """The reading end of a ring. What a reader before it took and did not give back is
    skipped, and counted as abandoned.

    ``end``: the source ends once the writer has ended and all was taken; else it waits for
    the next writer. ``captured``: the frames are those of a capture, by whose stamps time goes;
    the source is not live. ``settled``: statistics count drops from :meth:`Ring.settle` on, not
    from here on. Raises SourceError when this ``Ring`` has an open source, or is
    damaged.
    """
    cdef char message[256]
    cdef shim.aio_ring_options options
    cdef aio_source *src = NULL
    options.end = end
    options.captured = captured
    options.settled = settled
    options.retain_budget = retain_budget
    if shim.aio_ring_source_open(&src, ring.open_ring(), &options, message) < 0:
        raise _error(message)
    return Source.adopt(src, name)


cdef aio_source *_join(list sources, list ports) except NULL:
    """Opens a join of sources that are the caller's until this succeeds."""
    cdef Py_ssize_t i, n = len(sources)
    cdef aio_source *joined = NULL
    cdef aio_source **parts = <aio_source **>malloc(n * sizeof(aio_source *))
    cdef uint16_t *c_ports = <uint16_t *>malloc(n * sizeof(uint16_t))
    cdef int r
    try:
        if parts == NULL or c_ports == NULL:
            raise MemoryError
        for i in range(n):
            parts[i] = (<Source?>sources[i]).open_source()
            c_ports[i] = ports[i]
        r = shim.aio_join_open(&joined, parts, c_ports, <unsigned>n)
    finally:
        free(parts)
        free(c_ports)
    if r == shim.AIO_ENOTSUP:
        raise SourceError("a live source and a capture cannot be joined: their times differ")
    if r == shim.AIO_EINVAL:
        raise SourceError("every source has 1 port at least, and all together have 65535 "
                          "at most")
    if r < 0:
        raise MemoryError("no memory or descriptor to join sources")
    return joined


def join_sources(sources, *, ports=None, name=None) -> Source:
    """Several sources as one, frames as they come, in turns.

    ``ports``: how many port numbers each source has, one by default. The first source's
    begin with 0, each other's after those of the one before it.

    Raises SourceError without sources, when some are live and some are not, or with a
    source twice.
    """
    cdef list parts = list(sources)
    cdef list numbers = [1] * len(parts) if ports is None else list(ports)
    cdef Source part
    cdef aio_source *joined
    if not parts:
        raise SourceError("no source was given to join")
    if len({id(source) for source in parts}) != len(parts):
        raise SourceError("a source is joined once, not twice")
    if len(numbers) != len(parts):
        raise ValueError(f"{len(parts)} sources, and ports of {len(numbers)}")
    joined = _join(parts, numbers)
    for part in parts:
        part.give_away()
    return Source.adopt(joined, name or ", ".join([part.name for part in parts]))


def pump_source(Source source, *, uint64_t ring_bytes=0, uint64_t retain_budget=0) -> Source:
    """The same source, emptied by a thread into a ring of ``ring_bytes`` (256 MiB).

    Whatever holds up the consumer, the thread goes on receiving; when the ring is full,
    frames are dropped and counted (``dropped_ring``). Raises SourceError without memory or
    a thread.
    """
    cdef char message[256]
    cdef shim.aio_pump_options options
    cdef aio_source *pumped = NULL
    cdef aio_source *inner = source.give_away()
    options.ring_bytes = ring_bytes
    options.retain_budget = retain_budget
    if shim.aio_pump_open(&pumped, inner, &options, message) < 0:
        source.take_back(inner)
        raise _error(message)
    return Source.adopt(pumped, source.name)
