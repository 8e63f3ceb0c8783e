"""Kernel interfaces as sources: what ``-i IFACE`` opens.

One process reads an interface with :func:`open_interface`. For several, a supervisor makes
an :class:`InterfaceGroup`, one socket for each worker, and keeps it open; a worker takes its
two descriptors with :func:`attach_interface`, and so does the worker that follows it when it
dies.
"""
import os
import socket
from errno import ENODEV
from typing import NamedTuple

from libc cimport errno as c_errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from . cimport shim
from .shim cimport aio_packet_options, aio_packet_stats, aio_source, aio_xdp_link
from .source cimport Source

from .errors import ConfigError, SourceError

_DIRECTIONS = {
    "both": shim.AIO_DIR_UNKNOWN,
    "in": shim.AIO_DIR_IN,
    "out": shim.AIO_DIR_OUT,
}


class InterfaceStats(NamedTuple):
    """Counters of one packet socket since it was opened, whoever read it."""

    frames: int
    bytes: int
    dropped_kernel: int
    dropped_nic: int
    cut: int
    recovered: int
    readers: int
    link_losses: int
    link_up: bool
    reader: int


InterfaceStats.frames.__doc__ = "Frames handed out."
InterfaceStats.bytes.__doc__ = "Their captured bytes."
InterfaceStats.dropped_kernel.__doc__ = "Frames lost because the ring was full."
InterfaceStats.dropped_nic.__doc__ = (
    "Frames the device had no buffer for (rx_missed); counted by a group's first socket.")
InterfaceStats.cut.__doc__ = "Frames handed out shorter than they came: their copy was lost."
InterfaceStats.recovered.__doc__ = "Frames lost with the reader that had them when it died."
InterfaceStats.readers.__doc__ = "How many readers there were."
InterfaceStats.link_losses.__doc__ = "How often interface or carrier went down."
InterfaceStats.link_up.__doc__ = "Interface and carrier are up, as the reader saw last."
InterfaceStats.reader.__doc__ = "Process id of the present reader; 0: none."


# ---- small change ------------------------------------------------------------------------

cdef object _stats(const aio_packet_stats *s):
    return InterfaceStats(s.frames, s.bytes, s.dropped_kernel, s.dropped_nic, s.cut,
                          s.recovered, s.readers, s.link_losses, bool(s.link_up), s.reader)


cdef object _error(int result, int error, const char *message):
    """With errno where there is one; an unknown interface names those there are."""
    text = (<bytes>message).decode("utf-8", "replace")
    if result == shim.AIO_EINVAL or result == shim.AIO_ENOTSUP:
        return ConfigError(text)
    if error == ENODEV:
        names = ", ".join(name for _, name in socket.if_nameindex())
        text = f"{text}; there are {names} and any"
    found = SourceError(text)
    found.errno = error or None
    return found


cdef aio_packet_options _options(uint64_t ring_bytes, uint32_t snap_len, direction,
                                 bint promiscuous, bint transmit) except *:
    cdef aio_packet_options options
    if direction not in _DIRECTIONS:
        raise ConfigError(f"direction {direction!r}: it is 'both', 'in' or 'out'")
    memset(&options, 0, sizeof(options))
    options.ring_bytes = ring_bytes
    options.snap_len = snap_len
    options.direction = _DIRECTIONS[direction]
    options.no_promiscuous = not promiscuous
    options.transmit = transmit
    return options


# ---- reading one -------------------------------------------------------------------------

cdef class InterfaceSource(Source):
    """A source of the frames of a kernel interface, both directions, as they pass.

    Made by :func:`open_interface` or :func:`attach_interface`. A lost link is no error: it is
    counted, and reading goes on when it is back. A deleted interface ends reading with
    an error.
    """

    cdef aio_packet_stats packet_stats(self) except *:
        cdef aio_packet_stats stats
        shim.aio_packet_source_stats(self.open_source(), &stats)
        return stats

    def interface_stats(self) -> InterfaceStats:
        """Counters of the socket, those of its earlier readers included."""
        cdef aio_packet_stats stats = self.packet_stats()
        return _stats(&stats)


cdef InterfaceSource _adopt(aio_source *src, str name):
    cdef InterfaceSource source = InterfaceSource.__new__(InterfaceSource)
    cdef aio_packet_stats stats
    source.src = src
    source.name = name
    shim.aio_packet_source_stats(src, &stats)
    source.warnings = () if stats.link_up else (
        f"{name} is down: frames come when it is up (ip link set {name} up)",)
    return source


def open_interface(str name, *, uint64_t ring_bytes=0, uint32_t snap_len=0, direction="both",
                   bint promiscuous=True, bint transmit=False,
                   uint64_t retain_budget=0) -> InterfaceSource:
    """Opens an interface as a tap: its traffic is seen and not disturbed.

    ``name`` may be ``"any"``. ``ring_bytes`` is the memory in which frames wait to be read, 32
    MiB by default; ``snap_len`` what is kept of a frame, 0 is all; ``direction`` ``"both"``,
    ``"in"`` or ``"out"``; with ``transmit`` frames can be sent too; ``retain_budget`` is what held
    frames and those of 64 KiB may take, 64 MiB by default.

    Raises SourceError: no such interface, no permission, no memory; ConfigError.
    """
    cdef aio_packet_options options = _options(ring_bytes, snap_len, direction, promiscuous,
                                               transmit)
    cdef bytes encoded = os.fsencode(name)
    cdef aio_source *src = NULL
    cdef char message[256]
    cdef int r = shim.aio_packet_open(&src, encoded, &options, retain_budget, message)
    if r < 0:
        raise _error(r, c_errno.errno, message)
    return _adopt(src, name)


def attach_interface(int fd, int state_fd, *, str name="", uint64_t retain_budget=0,
                     bint settled=False) -> InterfaceSource:
    """A worker's reader of one socket of a group.

    The descriptors are the worker's own (inherited, or duplicates); the source takes them
    over and closes them with itself. What the reader before it had and did not give back is
    counted in ``recovered``. ``settled``: its statistics count what was lost since
    :meth:`InterfaceGroup.settle`, not since now. Raises SourceError, ConfigError.
    """
    cdef aio_source *src = NULL
    cdef char message[256]
    cdef int r = shim.aio_packet_attach(&src, fd, state_fd, retain_budget, message)
    if r < 0:
        raise _error(r, 0, message)
    if settled:
        shim.aio_packet_source_settled(src)
    return _adopt(src, name or f"packet socket {fd}")


# ---- taking one --------------------------------------------------------------------------

cdef class XdpSource(Source):
    """A source that takes the frames of one receive queue away from the kernel (AF_XDP).

    Made by :func:`open_xdp`. Only what comes in is seen. Frames bear the time at which they
    were read, and nothing is known of their checksums.
    """

    cdef aio_xdp_link link(self) except *:
        cdef aio_xdp_link link
        shim.aio_xdp_get_link(self.open_source(), &link)
        return link

    @property
    def link_up(self) -> bool:
        """Interface and carrier are up, as was seen last."""
        return bool(self.link().up)

    @property
    def link_losses(self) -> int:
        """How often interface or carrier went down."""
        return self.link().losses

    @property
    def generic(self) -> bool:
        """The kernel's own XDP gives the frames, since the driver has none."""
        return bool(self.link().generic)


def open_xdp(str name, *, uint32_t queue=0, bint force=False, bint generic=False,
             uint64_t ring_bytes=0, uint64_t retain_budget=0) -> XdpSource:
    """Takes one receive queue of an interface for itself: a mirror port.

    The kernel itself gets these frames no more, until the source is closed or its process
    ends. An interface with an address or the default route is refused, unless with
    ``force``. Several queues are several sources of one process. ``generic`` leaves the
    driver's own XDP unused; ``ring_bytes`` is the memory in which frames wait, 32 MiB by
    default; ``retain_budget`` what copies of held frames may take, 16 MiB by default.

    Raises SourceError: no such interface or queue, no permission, taken already; ConfigError.
    """
    cdef shim.aio_xdp_options options
    cdef bytes encoded = os.fsencode(name)
    cdef aio_source *src = NULL
    cdef char message[256]
    cdef XdpSource source
    memset(&options, 0, sizeof(options))
    options.ring_bytes = ring_bytes
    options.retain_budget = retain_budget
    options.queue = queue
    options.force = force
    options.generic = generic
    cdef int r = shim.aio_xdp_open(&src, encoded, &options, message)
    if r < 0:
        raise _error(r, c_errno.errno, message)
    source = XdpSource.__new__(XdpSource)
    source.src = src
    source.name = name
    source.warnings = () if source.link().up else (
        f"{name} is down: frames come when it is up (ip link set {name} up)",)
    return source


# ---- sockets for several -----------------------------------------------------------------

cdef enum:
    SOCKETS_MOST = 256


cdef class InterfaceGroup:
    """The packet sockets of ``workers`` processes, which share an interface's frames by flow.

    A flow's frames meet at one socket, both directions: number ``(h & 127) % workers``, where
    h is the Toeplitz hash of addresses and ports under a repeated 0x6d5a key (addresses
    alone for fragments and for what has no ports; 0 for what is not IP).

    Whoever made it keeps it open while workers come and go: frames wait in a socket's ring
    while nobody reads it. Options as in :func:`open_interface`.
    """

    def __init__(self, str name, unsigned workers, *, uint64_t ring_bytes=0,
                 uint32_t snap_len=0, direction="both", bint promiscuous=True,
                 bint transmit=False):
        cdef aio_packet_options options = _options(ring_bytes, snap_len, direction,
                                                   promiscuous, transmit)
        cdef bytes encoded = os.fsencode(name)
        cdef int fds[SOCKETS_MOST]
        cdef int state_fds[SOCKETS_MOST]
        cdef char message[256]
        cdef int r
        if self.sockets is not None:
            raise TypeError("an InterfaceGroup is opened once")
        r = shim.aio_packet_sockets(encoded, &options, workers, fds, state_fds, message)
        if r < 0:
            raise _error(r, c_errno.errno, message)
        self.name = name
        self.sockets = [(fds[i], state_fds[i]) for i in range(workers)]

    def __dealloc__(self):
        for pair in self.sockets or ():
            for fd in pair:
                os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __len__(self):
        return len(self.sockets)

    def close(self) -> None:
        """Closes the descriptors of this process. May be called twice."""
        pairs, self.sockets = self.sockets, []
        for pair in pairs:
            for fd in pair:
                os.close(fd)

    def filenos(self, unsigned index) -> tuple[int, int]:
        """The two descriptors of a socket, to be passed to its worker; they stay the group's."""
        return self.sockets[index]

    def settle(self, unsigned index) -> InterfaceStats:
        """The reader of a socket is gone: its counters, of which ``dropped_kernel``,
        ``dropped_nic`` and ``cut`` count from the last time that this was called."""
        cdef aio_packet_stats stats
        cdef int fd, state_fd
        fd, state_fd = self.sockets[index]
        if shim.aio_packet_socket_settle(fd, state_fd, &stats) < 0:
            raise SourceError(f"{self.name}: {os.strerror(c_errno.errno)}")
        return _stats(&stats)

    def stats(self) -> list[InterfaceStats]:
        """Counters of each socket."""
        return [self.stats_of(index) for index in range(len(self.sockets))]

    def stats_of(self, unsigned index) -> InterfaceStats:
        """Counters of one of them."""
        cdef aio_packet_stats stats
        fd, state_fd = self.sockets[index]
        if shim.aio_packet_socket_stats(fd, state_fd, &stats) < 0:
            raise SourceError(f"{self.name}: {os.strerror(c_errno.errno)}")
        return _stats(&stats)
