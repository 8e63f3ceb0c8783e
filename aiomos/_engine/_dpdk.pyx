"""DPDK ports as sources of frames: the one module that links DPDK, loaded on demand.

``dpdkconfig.load()`` imports it and says what to do where that fails. As everywhere, errors of
the environment are SourceError, those of the caller ConfigError, of one line.
"""
import atexit
import os

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from . cimport dpdk, shim
from .shim cimport aio_source
from .source cimport HeldFrame, Source

from .dpdkconfig import DpdkConfig, check_pci, full_device, is_virtual, remove_traces
from .dpdkfacts import RSS, Link, PortCounters, PortInfo
from .errors import ConfigError, SourceError

cdef object _config = None       # what DPDK was started with, as given
cdef object _effective = None    # and what became of it
cdef bint _ended = False         # it was shut down


# ---- small change ------------------------------------------------------------------------

cdef str _text(const char *text):
    return (<bytes>text).decode("utf-8", "replace")


cdef int _check(int result, const char *message) except -1:
    """ConfigError for what the caller did wrong, SourceError for all else."""
    if result >= 0:
        return result
    if result == shim.AIO_EINVAL:
        raise ConfigError(_text(message))
    raise SourceError(_text(message))


cdef object _number(object value, str name, object least, object most):
    if not least <= value <= most:
        raise ConfigError(f"{name}: {least} to {most}, not {value}")
    return value


# ---- the environment ---------------------------------------------------------------------

def initialise(config=None) -> DpdkConfig:
    """Starts DPDK in this process; again with an equal configuration is nothing.

    The configuration that it came to: with pages, memory and file prefix decided. Raises
    ConfigError for another configuration than the first, and SourceError, with cause and
    remedy, where DPDK does not start.
    """
    global _config, _effective
    config = config or DpdkConfig()
    _check_not_ended()
    if _config is not None and config in (_config, _effective):
        return _effective
    effective = config.effective() if _config is None else config
    if _config is None and not config.file_prefix:  # ours alone, also if the start fails
        _remove_at_exit(effective)
    _start(effective)
    if config.file_prefix and config.process == "primary":
        _remove_at_exit(effective)
    _config, _effective = config, effective
    return effective


cdef int _remove_at_exit(config) except -1:
    pid = os.getpid()
    atexit.register(lambda: remove_traces(config, _text(dpdk.aio_dpdk_folder()), pid))
    return 0


cdef int _check_not_ended() except -1:
    if _ended:
        raise ConfigError("DPDK was shut down, and starts once a process: use a new process")
    return 0


cdef int _start(config) except -1:
    cdef dpdk.aio_dpdk_config c
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef list texts = [d.encode() for d in config.pci_devices]
    cdef bytes prefix = config.file_prefix.encode(), folder = config.huge_dir.encode()
    cdef bytes drivers = config.driver_path.encode(), level = config.log_level.encode()
    cdef const char **devices = <const char **>malloc((len(texts) + 1) * sizeof(char *))
    if devices == NULL:
        raise MemoryError
    for i, text in enumerate(texts):
        devices[i] = <const char *><bytes>text
    memset(&c, 0, sizeof(c))
    c.devices = devices
    c.n_devices = <unsigned>len(texts)
    c.file_prefix, c.huge_dir = prefix, folder
    c.driver_path, c.log_level = drivers, level
    c.memory_mib = config.memory_mib
    c.lcore = config.lcore
    c.huge = config.huge == "yes"
    c.shared = config.needs_sharing
    c.secondary = config.process == "secondary"
    c.telemetry = config.telemetry
    try:
        return _check(dpdk.aio_dpdk_start(&c, message), message)
    finally:
        free(devices)


def initialised() -> bool:
    """DPDK runs in this process."""
    return _config is not None and not _ended


def shutdown() -> None:
    """Ends DPDK in this process for good. Ports and rings have to be closed before."""
    global _ended
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    if initialised():
        _check(dpdk.aio_dpdk_stop(message), message)
        _ended = True


def version() -> str:
    """Of the library that is installed, as "DPDK 22.11.11"."""
    return _text(dpdk.aio_dpdk_version())


def built_version() -> str:
    """Of the headers that this module was compiled with."""
    return _text(dpdk.aio_dpdk_built_version())


def log() -> str:
    """The last that DPDK and its drivers logged."""
    cdef char text[8192]
    dpdk.aio_dpdk_log(text, sizeof(text))
    return _text(text)


def ports() -> list:
    """Names of the devices that DPDK knows in this process."""
    cdef char names[64][64]
    cdef unsigned n = dpdk.aio_dpdk_port_names(names, 64)
    found = []
    for i in range(min(n, 64)):
        found.append(_text(names[i]))
    return found


# ---- ports -------------------------------------------------------------------------------

cdef class Port:
    """An open device with its queues. Made by :func:`open_port` or :func:`attach_port`.

    A context manager that closes it and the sources of its queues.
    """

    def __init__(self):
        raise TypeError("a Port is made by open_port() or attach_port()")

    def __dealloc__(self):
        if self.port != NULL:
            dpdk.aio_dpdk_port_abandon(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        return f"<Port {self.name!r}{' closed' if self.port == NULL else ''}>"

    cdef dpdk.aio_dpdk_port *open_port(self) except NULL:
        if self.port == NULL:
            raise SourceError(f"{self.name}: port is closed")
        return self.port

    def source(self, unsigned queue=0) -> Source:
        """The source of one queue; it also sends on it. One at a time."""
        return open_source([(self, queue)])

    def sources(self) -> list:
        """A source for each receive queue."""
        return [self.source(queue) for queue in range(self.info().rx_queues)]

    def close(self) -> None:
        """Closes the sources, stops the device and counts its mbufs. May be called twice.

        Raises SourceError if mbufs are missing, with their number.
        """
        cdef char message[dpdk.AIO_DPDK_MESSAGE]
        cdef uint32_t missing = 0
        cdef int r
        if self.port == NULL:
            return
        for source in self.opened:
            source.close()
        self.opened.clear()
        with nogil:
            r = dpdk.aio_dpdk_port_close(self.port, &missing, message)
        if r != shim.AIO_EINVAL:
            self.port = NULL
        self.missing = missing
        _check(r, message)

    @property
    def closed(self) -> bool:
        return self.port == NULL

    def info(self) -> PortInfo:
        """What the port is and can do."""
        cdef dpdk.aio_dpdk_port_info_t i
        dpdk.aio_dpdk_port_info(self.open_port(), &i)
        mac = (<bytes>i.mac[:6]).hex(":")
        return PortInfo(_text(i.name), _text(i.driver), mac, RSS[i.rss], bool(i.ends),
                        bool(i.interrupts), bool(i.timestamps), bool(i.checksums),
                        bool(i.vlan_strip), bool(i.scatter), i.rx_queues, i.tx_queues,
                        i.max_rx_queues, i.max_tx_queues, i.rx_descriptors, i.tx_descriptors,
                        i.mtu, i.reta_size, i.socket, i.mbufs)

    def link(self) -> Link:
        """The link now; does not wait for it."""
        cdef dpdk.aio_dpdk_port_info_t i
        dpdk.aio_dpdk_port_info(self.open_port(), &i)
        speed = None if i.speed_mbps in (0, 0xffffffff) else i.speed_mbps
        return Link(bool(i.up), speed, bool(i.full_duplex))

    def counters(self) -> PortCounters:
        """The device's counters."""
        cdef dpdk.aio_dpdk_counters c
        if dpdk.aio_dpdk_port_counters(self.open_port(), &c) < 0:
            raise SourceError(f"{self.name} has no counters")
        return PortCounters(c.received, c.received_bytes, c.sent, c.sent_bytes, c.missed,
                            c.no_memory, c.errors, c.send_errors)

    def xstats(self) -> dict:
        """The driver's extended statistics, by its names for them."""
        cdef dpdk.aio_dpdk_port *port = self.open_port()
        cdef int n = dpdk.aio_dpdk_port_xstats(port, NULL, NULL, 0)
        cdef char (*names)[64]
        cdef uint64_t *values
        if n <= 0:
            return {}
        names = <char (*)[64]>malloc(n * (64 + sizeof(uint64_t)))
        if names == NULL:
            raise MemoryError
        values = <uint64_t *>&names[n]
        try:
            if dpdk.aio_dpdk_port_xstats(port, names, values, n) != n:
                raise SourceError(f"{self.name}: its extended statistics cannot be read")
            return {_text(names[i]): values[i] for i in range(n)}
        finally:
            free(names)

    def in_use(self, uint16_t queue=0) -> int:
        """Mbufs of a queue that are not in its pool: in the device's rings, or held."""
        if queue >= self.info().rx_queues:
            raise ConfigError(f"{self.name} has no queue {queue}")
        return dpdk.aio_dpdk_port_in_use(self.open_port(), queue)

    def recover(self, uint16_t queue) -> int:
        """Takes back what a process held that read this queue and died; the number of mbufs.

        Not before it is gone, nor after another has taken its place.
        """
        cdef char message[dpdk.AIO_DPDK_MESSAGE]
        return _check(dpdk.aio_dpdk_port_recover(self.open_port(), queue, message), message)

    def taken(self, uint16_t queue) -> int:
        """Frames that all who read a queue so far have taken from it."""
        if queue >= self.info().rx_queues:
            raise ConfigError(f"{self.name} has no queue {queue}")
        return dpdk.aio_dpdk_port_taken(self.open_port(), queue)

    def settle(self, uint16_t queue) -> int:
        """The reader of a queue is gone: its drops, since the one before it was settled with its
        own. The next one's statistics count from here on."""
        if queue >= self.info().rx_queues:
            raise ConfigError(f"{self.name} has no queue {queue}")
        return dpdk.aio_dpdk_port_settle(self.open_port(), queue)


cdef Port _adopt(dpdk.aio_dpdk_port *port, str name):
    cdef Port self = Port.__new__(Port)
    self.port = port
    self.name = name
    self.opened = []
    return self


def open_port(device, *, unsigned queues=1, tx_queues=None, unsigned descriptors=1024,
              unsigned mtu=0, unsigned room=2048, uint32_t budget=8192, bint promiscuous=True,
              bint interrupts=True, bint shared=False) -> Port:
    """Opens and starts a device: a PCI address, or a virtual device with its arguments.

    ``queues`` to receive and as many to send, unless ``tx_queues`` says otherwise;
    ``descriptors`` in each ring, as near as the device allows. ``room`` is the bytes of frame
    that one mbuf takes, longer frames are chains; ``mtu`` 0 leaves the device's. ``budget`` is
    how many mbufs of each queue may be held beyond a burst. ``shared``: other processes will read
    queues, so pools are made to survive their death. DPDK is initialised if it is not.

    Raises SourceError or ConfigError.
    """
    cdef dpdk.aio_dpdk_port_options o
    cdef dpdk.aio_dpdk_port *port = NULL
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef bytes text
    cdef const char *c_text
    cdef int r
    full = full_device(device)
    _check_not_ended()
    if not initialised():
        initialise(DpdkConfig(devices=() if is_virtual(device) else (device,), shared=shared))
    if not is_virtual(device):
        check_pci(device)
    memset(&o, 0, sizeof(o))
    o.rx_queues = _number(queues, "queues", 1, 1024)
    o.tx_queues = _number(tx_queues or 0, "tx_queues", 0, 1024)
    o.descriptors = _number(descriptors, "descriptors", 1, 32768)
    o.mtu = _number(mtu, "mtu", 0, 65535)
    o.room = _number(room, "room", 64, 65000)
    o.budget = budget
    o.promiscuous, o.interrupts, o.shared = promiscuous, interrupts, shared
    text = full.encode()
    c_text = text
    with nogil:
        r = dpdk.aio_dpdk_port_open(&port, c_text, &o, message)
    _check(r, message)
    return _adopt(port, full.split(",")[0])


def attach_port(name) -> Port:
    """In a secondary process: a port that the primary opened with ``shared=True``, by name.

    Closing it leaves the device running.
    """
    cdef dpdk.aio_dpdk_port *port = NULL
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef bytes text = name.encode()
    _check(dpdk.aio_dpdk_port_attach(&port, text, message), message)
    return _adopt(port, name)


def open_source(queues) -> Source:
    """One source of several queues in turn: pairs of a Port and the number of a queue.

    The frames' port, and the one to send on, is the place in this list.
    """
    cdef dpdk.aio_dpdk_queue c_queues[dpdk.AIO_DPDK_PORTS_MAX]
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef aio_source *src = NULL
    cdef Port port
    cdef list pairs = list(queues)
    cdef int r, n = <int>len(pairs)
    _number(n, "the number of queues of a source", 1, dpdk.AIO_DPDK_PORTS_MAX)
    for i, (port, queue) in enumerate(pairs):
        c_queues[i].port = port.open_port()
        c_queues[i].queue = _number(queue, "queue", 0, 1023)
    with nogil:
        r = dpdk.aio_dpdk_source_open(&src, c_queues, n, message)
    _check(r, message)
    source = Source.adopt(src, ", ".join([f"{port.name}/{queue}" for port, queue in pairs]))
    for port, _ in pairs:
        port.opened.append(source)
    return source


# ---- distribution over shared rings ---------------------------------------------------------

cdef class Fan:
    """Rings to workers in other processes, for who receives and distributes frames.

    Made by :func:`create_fan`, in the primary, or :func:`attach_fan`.
    """

    def __init__(self):
        raise TypeError("a Fan is made by create_fan() or attach_fan()")

    def __dealloc__(self):
        if self.fan != NULL:
            dpdk.aio_dpdk_fan_close(self.fan)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    cdef dpdk.aio_dpdk_fan *open_fan(self) except NULL:
        if self.fan == NULL:
            raise SourceError(f"{self.name}: rings are closed")
        return self.fan

    def close(self) -> None:
        """The creator frees the rings and what waits in them; may be called twice."""
        if self.fan != NULL:
            dpdk.aio_dpdk_fan_close(self.fan)
            self.fan = NULL

    @property
    def push_function(self) -> int:
        """Address of ``aio_dpdk_ring_push`` (dpdk_shim/dpdk.h), for compiled code."""
        return <uintptr_t>&dpdk.aio_dpdk_ring_push

    @property
    def drain_function(self) -> int:
        """Address of ``aio_dpdk_fan_drain``."""
        return <uintptr_t>&dpdk.aio_dpdk_fan_drain

    @property
    def drop_function(self) -> int:
        """Address of ``aio_dpdk_fan_drop``."""
        return <uintptr_t>&dpdk.aio_dpdk_fan_drop

    @property
    def room_function(self) -> int:
        """Address of ``aio_dpdk_fan_room``."""
        return <uintptr_t>&dpdk.aio_dpdk_fan_room

    @property
    def handle(self) -> int:
        """Address of the ``struct aio_dpdk_fan`` that those functions take."""
        return <uintptr_t>self.open_fan()

    def push(self, unsigned worker, frames) -> int:
        """Hands held frames over to a worker; the number taken. For tests.

        A frame taken is not held any more.
        """
        cdef dpdk.aio_dpdk_fan *fan = self.open_fan()
        cdef HeldFrame held
        cdef int n
        for count, held in enumerate(frames):
            n = dpdk.aio_dpdk_ring_push(fan, worker, held.held_source(), &held.frame, 1)
            if n < 0:
                raise ConfigError(f"there is no worker {worker}")
            if n == 0:
                return count
            held.held = False
        return len(frames)

    def drain(self) -> int:
        """Gives back to their pools what workers are done with; the number of mbufs."""
        return dpdk.aio_dpdk_fan_drain(self.open_fan())

    def waiting(self, unsigned worker) -> int:
        """Frames on the way to a worker."""
        return dpdk.aio_dpdk_fan_waiting(self.open_fan(), worker)

    def taken(self, unsigned worker) -> int:
        """Frames that all processes at a worker's place have taken so far."""
        return dpdk.aio_dpdk_fan_taken(self.open_fan(), worker)

    def dropped(self, unsigned worker) -> int:
        """Frames that a worker's ring had no room for so far."""
        return dpdk.aio_dpdk_fan_dropped(self.open_fan(), worker)

    def settle(self, unsigned worker) -> int:
        """A worker is gone: its drops, as :meth:`Port.settle`."""
        return dpdk.aio_dpdk_fan_settle(self.open_fan(), worker)

    def recover(self, unsigned worker) -> int:
        """Frees what a dead worker held, their number; what waits for it stays."""
        cdef char message[dpdk.AIO_DPDK_MESSAGE]
        return _check(dpdk.aio_dpdk_fan_recover(self.open_fan(), worker, message), message)


cdef Fan _adopt_fan(dpdk.aio_dpdk_fan *fan, str name):
    cdef Fan self = Fan.__new__(Fan)
    self.fan = fan
    self.name = name
    return self


def create_fan(name, unsigned workers, *, unsigned size=4096) -> Fan:
    """In the primary: rings for ``workers``, each for ``size`` frames on their way to it."""
    cdef dpdk.aio_dpdk_fan *fan = NULL
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef bytes text = name.encode()
    _number(size, "size", 1, 1 << 20)
    _check(dpdk.aio_dpdk_fan_create(&fan, text, workers, size, message), message)
    return _adopt_fan(fan, name)


def attach_fan(name) -> Fan:
    """The rings that the primary made, for the process that distributes."""
    cdef dpdk.aio_dpdk_fan *fan = NULL
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef bytes text = name.encode()
    _check(dpdk.aio_dpdk_fan_attach(&fan, text, message), message)
    return _adopt_fan(fan, name)


def fan_source(name, unsigned worker, *, Port port=None, uint16_t tx_queue=0,
               bint captured=False) -> Source:
    """A worker's end of the rings; it sends on ``tx_queue`` of ``port``, if that is given.

    ``captured``: the frames are those of a capture, by whose stamps time goes; it is not live.
    """
    cdef char message[dpdk.AIO_DPDK_MESSAGE]
    cdef aio_source *src = NULL
    cdef dpdk.aio_dpdk_queue tx
    cdef bytes text = name.encode()
    if port is not None:
        tx.port = port.open_port()
        tx.queue = tx_queue
    _check(dpdk.aio_dpdk_fan_source(&src, text, worker, &tx if port is not None else NULL,
                                    captured, message), message)
    source = Source.adopt(src, f"{name}/{worker}")
    if port is not None:
        port.opened.append(source)
    return source
