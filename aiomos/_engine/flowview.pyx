"""A flow in a handler's hands: engine side; see flowview.pxd. The readable rest is in Python
(aiomos/_flow.py)."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

import ipaddress

from aiomos._engine import names
from aiomos._engine.deadline cimport Deadline
from aiomos._engine.endpoint cimport endpoint_new
from aiomos._engine.errors import FlowEvicted
from aiomos._engine.extra cimport Extra, TunnelNote, extra_of
from aiomos._engine.flow cimport FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_MIDSTREAM, flow_role
from aiomos._engine.life cimport flow_unpin
from aiomos._engine.limits cimport CLIENT, PROTO_UDP, SERVER
from aiomos._engine.newobject cimport new_empty
from aiomos._engine.pool cimport MEM_OBJECTS, pool_charge
from aiomos._engine.stream cimport cursor_available, cursor_consume, cursor_data
from aiomos._engine.task cimport Parking
from aiomos._engine.udp cimport DatagramHeader

cdef enum:
    VIEW_BYTES = 1408         # of a view, its ends, its task and a small coroutine: an estimate


cdef FlowBase flow_view_new(object cls, object endpoint_class, Core core, Flow *f,
                            TaskQueue queue, Handler handler):
    cdef FlowBase view = <FlowBase>new_empty(cls, ())
    view.core = core
    view.fl = f
    f.pins += 1
    pool_charge(&core.state.pool, MEM_OBJECTS, VIEW_BYTES)
    view.queue = queue
    view.handler = handler
    view.end0 = endpoint_new(endpoint_class, core, f, queue, 0, handler)
    view.end1 = endpoint_new(endpoint_class, core, f, queue, 1, handler)
    return view


cdef tuple tunnel_tuple(const TunnelNote *n):
    cdef int size = 4 if n.ip_version == 4 else 16
    source = destination = ""
    if n.ip_version:
        source = str(ipaddress.ip_address(
            PyBytes_FromStringAndSize(<const char *>n.source, size)))
        destination = str(ipaddress.ip_address(
            PyBytes_FromStringAndSize(<const char *>n.destination, size)))
    return names.DECODERS[n.kind], n.id if n.has_id else None, source, destination


@cython.no_gc_clear                         # as EndFacts
cdef class FlowBase:
    """Engine side of a flow."""

    def __init__(self):
        raise TypeError("flows are made by the engine")

    def __dealloc__(self):
        if self.fl != NULL:
            pool_charge(&self.core.state.pool, MEM_OBJECTS, -<int64_t>VIEW_BYTES)
            flow_unpin(self.core.state, self.fl)

    cdef void link(self) noexcept:
        """Into the chain of the flow, which holds it until its handler has ended."""
        if self.linked:
            return
        self.linked = True
        Py_INCREF(self)
        if self.fl.views != NULL:
            self.next_view = <FlowBase>self.fl.views
        self.fl.views = <void *>self

    cdef EndpointBase end_of(self, int role):
        return self.end1 if flow_role(self.fl, role) else self.end0

    cdef void read_other(self, int side, uint64_t position, uint64_t missing) noexcept:
        """Not who has stopped reading the end that it had: that was all it wanted."""
        cdef EndpointBase had = self.end0 if side else self.end1
        cdef EndpointBase other = self.end1 if side else self.end0
        if had.cursor.stream != NULL and other.cursor.stream == NULL:
            other.attach(position, missing)
        elif had.wanted:                    # it has ended there, so it has here
            other.wanted = True

    cdef void wake_waiters(self) noexcept:
        cdef Parking parking
        if self.waiters is None:
            return
        for parking in self.waiters:
            parking.wake()
        self.waiters = None

    def _wait(self):
        """Something to await until the state of the flow changes."""
        cdef Parking parking
        self.link()
        if self.waiters is None:
            self.waiters = []
        for parking in self.waiters:        # of one who has given up waiting
            if not parking.waiting():
                return parking
        parking = Parking.__new__(Parking)
        parking.queue = self.queue
        self.waiters.append(parking)
        return parking

    def _wait_either(self):
        """Something to await until either side has bytes, a gap or its end; then _part()."""
        cdef EndpointBase e
        if self.either is None:
            self.either = Parking(self.queue)
        for e in (self.client, self.server):
            if e._parking is not None and e._parking.waiting():
                return e._parking       # awaiting it says what is wrong
        for e in (self.client, self.server):
            e._parking = self.either
            e.want = 1
            e.touched = True
            if e.cursor.stream != NULL:
                e.share_limit()
        return self.either

    def _nap(self):
        """Something to await that nothing wakes but a deadline."""
        return Parking(self.queue)

    def _part(self):
        """The sides have waiters of their own again, unless somebody waits for either."""
        cdef EndpointBase e
        if self.either is None or self.either.waiting():
            return
        for e in (self.client, self.server):
            if e._parking is self.either:
                e._parking = None

    def _deadline(self, timeout):
        """A context in which what it is asked of() is awaited so many seconds at most."""
        events = self.core.events
        return Deadline(None if events is None else events.clock, timeout)

    cdef object datagram(self):
        """(data, time, sender) of the next datagram; None: none is here."""
        cdef EndpointBase e = self.end0
        cdef DatagramHeader header
        if e.refused:
            raise FlowEvicted("no memory was left to keep this flow's datagrams")
        if e.cursor.stream == NULL or cursor_available(&e.cursor) < sizeof(DatagramHeader):
            return None
        memcpy(&header, cursor_data(&e.cursor), sizeof(DatagramHeader))
        data = PyBytes_FromStringAndSize(
            <const char *>cursor_data(&e.cursor) + sizeof(DatagramHeader), header.length)
        cursor_consume(&e.cursor, sizeof(DatagramHeader) + header.length)
        return data, header.time_ns / 1e9, header.sender

    def _datagram(self):
        return self.datagram()

    def bypass(self):
        """Ends this handler's interest: no more of the flow's bytes are kept for it, and it is
        told no more events."""
        self.end0.detach()
        self.end1.detach()
        if self.core.events is not None:
            self.core.events.unsubscribe(self, None, 0xFFFFFFFF)

    @property
    def _events(self):
        """The event bridge; None: the run is over."""
        return self.core.events

    # -- what is known --

    @property
    def client(self):
        """The end that opened the connection, as far as is known."""
        return self.end_of(CLIENT)

    @property
    def server(self):
        """The other end."""
        return self.end_of(SERVER)

    @property
    def id(self):
        """64-bit number, unique in the deployment, in order of the flows' first packets."""
        return self.fl.id

    @property
    def protocol(self):
        """The transport protocol, "tcp" or "udp"."""
        return "udp" if self.fl.protocol == PROTO_UDP else "tcp"

    @property
    def ip_version(self):
        """4 or 6."""
        return self.fl.ip_version

    @property
    def start(self):
        """Capture time of the first packet, seconds since the epoch."""
        return self.fl.start_ns / 1e9

    @property
    def duration(self):
        """Seconds from the first packet to the last one so far, on the engine's clock."""
        return (self.fl.last_ns - self.fl.born_ns) / 1e9

    @property
    def midstream(self):
        """Whether the flow was picked up without its SYN."""
        return bool(self.fl.flags & FLOW_MIDSTREAM)

    @property
    def is_established(self):
        """Whether both SYNs were acknowledged (or the flow was picked up)."""
        return bool(self.fl.flags & FLOW_ESTABLISHED)

    @property
    def is_closed(self):
        """Whether the flow has ended."""
        return bool(self.fl.flags & FLOW_CLOSED)

    @property
    def vlan(self):
        """VLAN ids of the first packet, outermost first; at most two."""
        return tuple([self.fl.vlan[i] & 0xFFF for i in range(self.fl.n_vlan)])

    @property
    def _tunnels(self):
        """(kind, id or None, source, destination) of each encapsulation, outermost first."""
        cdef const Extra *e = extra_of(&self.core.state.extras, self.fl)
        return [] if e == NULL else [tunnel_tuple(&e.tunnel[i]) for i in range(e.n_tunnels)]

    @property
    def _community_seed(self):
        return self.core.state.config.community_seed

    @property
    def _reason(self):
        return names.CLOSE_REASONS[self.fl.close_reason]

    @property
    def _mac(self):
        return (PyBytes_FromStringAndSize(<const char *>self.fl.mac[0], 6),
                PyBytes_FromStringAndSize(<const char *>self.fl.mac[1], 6))

    @property
    def _key(self):
        size = 4 if self.fl.ip_version == 4 else 16
        return (PyBytes_FromStringAndSize(<const char *>self.fl.address[0], size),
                PyBytes_FromStringAndSize(<const char *>self.fl.address[1], size),
                self.fl.ports[0], self.fl.ports[1], self.fl.protocol)
