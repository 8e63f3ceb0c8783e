"""Flow and Endpoint as far as they touch engine memory; the readable rest is in Python
(aiomos/_flow.py, aiomos/_endpoint.py)."""
cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy

import ipaddress

from aiomos._engine import names
from aiomos._engine.errors import FlowEvicted, FlowReset, FlowTimeout, GapError
from aiomos._engine.extra cimport Extra, TunnelNote, extra_of
from aiomos._engine.flow cimport (FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_MIDSTREAM, HALF_FIN,
                                  HALF_FIN_DONE, HALF_RST, HALF_SYN)
from aiomos._engine.intrinsics cimport likely
from aiomos._engine.life cimport flow_unpin
from aiomos._engine.limits cimport (CLIENT, CLOSE_EVICTED, CLOSE_RESET, CLOSE_TIMEOUT,
                                    PROTO_UDP, SERVER)
from aiomos._engine.overlap cimport DELIVER_ACKED, POLICY_BITS, POLICY_MASK
from aiomos._engine.pool cimport MEM_OBJECTS, pool_charge
from aiomos._engine.receive cimport receive_policy
from aiomos._engine.reading cimport Reading, reading_of
from aiomos._engine.statsview cimport end_stats
from aiomos._engine.stream cimport (STREAM_ENDED, STREAM_EOF, STREAM_UNREAD, GapMark,
                                    Stream, cursor_attach, cursor_available, cursor_clear,
                                    cursor_consume, cursor_data,
                                    cursor_detach, cursor_gap, cursor_pass_gap, cursor_time,
                                    stream_end)
from aiomos._engine.task cimport Parking
from aiomos._engine.udp cimport DatagramHeader

cdef extern from *:
    """
    #include <string.h>
    static PyObject *aio_new_empty(PyObject *cls, PyObject *no_args)
    { return ((PyTypeObject *)cls)->tp_new((PyTypeObject *)cls, no_args, NULL); }
    """
    object aio_new_empty(object cls, object no_args)
    void *memmem(const void *where, size_t n, const void *what, size_t m) noexcept nogil

cdef tuple NO_ARGS = ()
cdef enum:
    VIEW_BYTES = 1408         # of a view, its ends, its task and a small coroutine: an estimate

STATES = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1",
          "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT")


cdef class Handler:
    """A handler of an app with its options as numbers; see App.tcp for what they mean."""

    def __init__(self, function, name, protocol, start, sides, on_gap, limit, on_full, policy=0,
                 by_prefix=False):
        self.function = function
        self.name = name
        self.protocol = protocol
        self.start = start
        self.sides = sides
        self.on_gap = on_gap
        self.limit = limit
        self.on_full = on_full
        self.policy = policy
        self.by_prefix = by_prefix


# ---- one end -----------------------------------------------------------------------------

cdef EndpointBase endpoint_new(object cls, Core core, Flow *f, TaskQueue queue, int side,
                               Handler handler):
    cdef EndpointBase e = <EndpointBase>aio_new_empty(cls, NO_ARGS)
    e.core = core
    e.fl = f
    f.pins += 1
    e.queue = queue
    e.side = side
    e.limit = handler.limit
    e.cursor.limit = handler.limit
    e.on_gap = handler.on_gap
    e.on_full = handler.on_full
    e.want = 1
    return e


# Not cleared by the collector: __dealloc__ needs the core, and no cycle is of views alone.
@cython.no_gc_clear
cdef class EndpointBase(Reader):
    """Engine side of an endpoint: its cursor, and what is known of the end itself."""

    def __dealloc__(self):
        if self.fl != NULL:
            cursor_detach(&self.cursor)
            flow_unpin(self.core.state, self.fl)

    def __init__(self):
        raise TypeError("endpoints are made by the engine: take flow.client or flow.server")

    cdef void attach(self, uint64_t position, uint64_t missing) noexcept:
        self.refused = self.fl.stream[self.side] == NULL
        if not self.refused:
            cursor_attach(&self.cursor, self.fl.stream[self.side], position, missing)
            self.share_limit()

    cdef void detach(self) noexcept:
        cursor_detach(&self.cursor)
        if self._parking is not None:
            self._parking.wake()

    cdef void share_limit(self) noexcept:
        """The burst ends when the side holds what its most patient reader wants."""
        self.cursor.limit = max(self.limit, self.want)
        if self.cursor.stream.cursors == &self.cursor and self.cursor.next == NULL:
            self.cursor.stream.full = <uint32_t>min(self.cursor.limit, <uint64_t>1 << 30)
        elif self.cursor.limit > self.cursor.stream.full:
            self.cursor.stream.full = <uint32_t>min(self.cursor.limit, <uint64_t>1 << 30)

    # -- waiting --

    cdef bint satisfied(self) noexcept:
        """Whether a reader that wants `want` bytes has nothing more to wait for."""
        if cursor_available(&self.cursor) >= self.want:
            return True
        # A gap or the end behind these bytes: more of them will never come.
        return self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED) != 0 or self.gap_ahead()

    cdef bint gap_ahead(self) noexcept:
        return (self.cursor.own.length != 0 or self.cursor.gaps_passed
                < self.cursor.stream.marks_gone + self.cursor.stream.n_marks)

    cdef bint changed(self) noexcept:
        if self.cursor.stream == NULL:
            if self._parking is not None:
                self._parking.wake()
            return False
        if self._parking is not None and self._parking.waiter is not None and self.satisfied():
            self._parking.wake()
        return stream_end(self.cursor.stream) - self.cursor.position > self.limit

    cdef int make_parking(self) except -1:
        self._parking = Parking.__new__(Parking)
        self._parking.queue = self.queue
        return 0

    def _wait(self, uint64_t want=1):
        """Something to await until `want` bytes, a gap or the end are here."""
        if self._parking is None:
            self.make_parking()
        if self._parking.waiting():
            return self._parking        # awaiting it says what is wrong; the first stays as it is
        self.want = want
        self.touched = True
        if self.cursor.stream != NULL:
            self.share_limit()
        return self._parking

    cdef bint readable(self) except -1:
        """Whether there is a stream to look at. From here on the side counts as read."""
        self.touched = True
        if self.fl.protocol == PROTO_UDP:
            raise TypeError("a UDP flow gives datagrams: async for datagram in flow")
        if self.cursor.stream != NULL:
            return True
        if self.refused:
            raise FlowEvicted("no memory was left to keep this side")
        return False

    # -- bytes --

    def read(self, Py_ssize_t n=-1):
        """Read up to ``n`` bytes, or everything up to the end if ``n`` is negative.

        Waits until at least one byte is there; ``b""`` means the end. No result
        spans a gap: with ``n`` negative, a gap ends it as the end does.
        """
        return reading_of(self, n)

    def _take(self, uint64_t n):
        """Up to n bytes; b"" at the end; None when there is nothing yet: await _parking.

        Gaps as on_gap says.
        """
        return self.take(n)

    cdef object take(self, uint64_t n):
        cdef const Stream *s = self.cursor.stream
        cdef uint64_t here = 0
        self.want = 1
        if likely(s != NULL and self.fl.protocol != PROTO_UDP and cursor_clear(&self.cursor)):
            self.touched = True
            here = s.base + s.fill - self.cursor.position
            if here:
                return self.cut(min(n, here))
        elif not self.pass_gaps(&here):
            return b""
        elif here:
            return self.cut(min(n, here))
        if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED):
            return self.end_of_stream()
        if self._parking is None:
            self.make_parking()
        return None

    cdef bint pass_gaps(self, uint64_t *here) except -1:
        """Goes over the gaps right at the cursor; what can be read there. False: no stream."""
        if not self.readable():
            return False
        here[0] = cursor_available(&self.cursor)
        while not here[0] and cursor_gap(&self.cursor) != NULL:
            self.pass_gap()
            here[0] = cursor_available(&self.cursor)
        return True

    cdef object take_to_end(self, Reading r):
        """Everything up to the end, behind the blocks taken so far.

        Nobody is woken for less than a limit of bytes, a gap or the end.
        """
        cdef uint64_t here
        while self.readable():
            here = cursor_available(&self.cursor)
            if not self.gap_ahead():
                if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED):
                    return self.last_block(r.blocks, here)
                if here >= self.limit:
                    if r.blocks is None:
                        r.blocks = []
                    r.blocks.append(self.cut(here))
                break
            if here or r.blocks:             # no result spans a gap
                return self.last_block(r.blocks, here)
            self.pass_gap()
        if self.cursor.stream == NULL:
            return b"".join(r.blocks or ())
        self.want = self.limit
        if self._parking is None:
            self.make_parking()
        return None

    cdef object last_block(self, list blocks, uint64_t here):
        """What is at hand, behind the blocks; where there is nothing at all, the end itself."""
        if here:
            data = self.cut(here)
            if not blocks:
                return data
            blocks.append(data)
        return b"".join(blocks) if blocks else self.end_of_stream()

    cdef object cut(self, uint64_t n):
        """Takes n bytes that are there. UNREAD ends here: whoever reads now is late, not absent."""
        data = PyBytes_FromStringAndSize(<const char *>cursor_data(&self.cursor), n)
        self.time_ns = cursor_time(&self.cursor, n - 1)
        cursor_consume(&self.cursor, n)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        if self.cursor.limit != self.limit:
            self.want = 1               # what raised the limit has been served
            self.share_limit()
        return data

    cdef object end_of_stream(self):
        """b"" where the end is one; the exception of the flow's end where it is not."""
        if self.cursor.stream.flags & STREAM_EOF:
            return b""
        if self.fl.close_reason == CLOSE_RESET:
            raise FlowReset("connection reset")
        if self.fl.close_reason == CLOSE_TIMEOUT:
            raise FlowTimeout("flow expired: no packet for its idle time")
        if self.fl.close_reason == CLOSE_EVICTED:
            raise FlowEvicted("flow evicted: memory budget used up")
        return b""

    cdef bint pass_gap(self) except -1:
        """Goes over the gap at the cursor; raises unless it is to be skipped."""
        cdef const GapMark *mark = cursor_gap(&self.cursor)
        cdef tuple gap = gap_tuple(mark)
        cursor_pass_gap(&self.cursor)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        if self.on_gap != ON_GAP_SKIP:
            raise GapError(*gap)
        return True

    def _pass_gap(self):
        """(offset, length, cause) of the gap at the cursor, now passed; None: there is none."""
        cdef const GapMark *mark
        if self.cursor.stream == NULL:
            return None
        mark = cursor_gap(&self.cursor)
        if mark == NULL:
            return None
        gap = gap_tuple(mark)
        cursor_pass_gap(&self.cursor)
        self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD
        return gap

    def _here(self):
        """Bytes that can be taken before the next gap or the end."""
        return cursor_available(&self.cursor) if self.readable() else 0

    def _blocked(self):
        """What stands behind the bytes at hand: 0 more may come, 1 a gap, 2 the end."""
        if self.cursor.stream == NULL:
            return 2
        if self.gap_ahead():
            return 1
        return 2 if self.cursor.stream.flags & (STREAM_EOF | STREAM_ENDED) else 0

    def _find(self, bytes separator, uint64_t start):
        """Where the separator begins in the bytes at hand, from start on; -1: nowhere."""
        cdef uint64_t here
        cdef const char *data
        cdef const char *found
        if self.cursor.stream == NULL:
            return -1
        here = cursor_available(&self.cursor)
        if start >= here:
            return -1
        data = <const char *>cursor_data(&self.cursor)
        found = <const char *>memmem(data + start, here - start, PyBytes_AsString(separator),
                                     PyBytes_GET_SIZE(separator))
        return -1 if found == NULL else found - data

    def _peek(self, uint64_t start, uint64_t n):
        """Up to n bytes at hand, from start bytes behind the cursor on, not consumed."""
        cdef uint64_t here
        if not self.readable():
            return b""
        here = cursor_available(&self.cursor)
        if start >= here:
            return b""
        return PyBytes_FromStringAndSize(<const char *>cursor_data(&self.cursor) + start,
                                         min(n, here - start))

    def _drop(self, uint64_t n):
        """Consumes up to n bytes at hand without making an object of them."""
        if self.readable():
            cursor_consume(&self.cursor, min(n, cursor_available(&self.cursor)))
            self.cursor.stream.flags &= ~<uint16_t>STREAM_UNREAD

    def stop(self):
        """Reads no more of this side: what came and comes is counted, not kept."""
        self.detach()

    def _configure_policy(self, overlap, deliver):
        """The same, of what all readers of the side share: the last call holds."""
        cdef Flow *f = self.fl
        cdef int shift = POLICY_BITS * self.side
        cdef uint8_t policy = f.policies >> shift & POLICY_MASK
        if overlap is not None:
            policy = (policy & DELIVER_ACKED) | <uint8_t>overlap
        if deliver is not None:
            policy = (policy & <uint8_t>~DELIVER_ACKED) | <uint8_t>deliver
        f.policies = (f.policies & <uint8_t>~(POLICY_MASK << shift)) | <uint8_t>(policy << shift)
        if not f.flags & FLOW_CLOSED:
            receive_policy(self.core.state, f, self.side, policy)

    def _configure(self, limit, on_gap, on_full):
        """Numbers instead of names; None leaves a thing as it is."""
        if limit is not None:
            self.limit = limit
            if self.cursor.stream != NULL:
                self.share_limit()
        if on_gap is not None:
            self.on_gap = on_gap
        if on_full is not None:
            self.on_full = on_full

    @property
    def _stopped(self):
        """Whether this side is not read, or not any more."""
        return self.cursor.stream == NULL

    @property
    def skips_gaps(self):
        """Whether gaps are passed over, counted only (on_gap="skip")."""
        return self.on_gap == ON_GAP_SKIP

    @property
    def yields_gaps(self):
        """Whether iterating gives Gap objects (on_gap="yield")."""
        return self.on_gap == ON_GAP_YIELD

    # -- what is known of this end --

    @property
    def address(self):
        """IP address of this end, as text."""
        return address_text(self.fl, self.side)

    @property
    def port(self):
        """TCP or UDP port of this end."""
        return self.fl.ports[self.side]

    @property
    def offset(self):
        """64-bit stream offset of the next byte that a read would give, gaps counted."""
        return self.cursor.position + self.cursor.skipped if self.cursor.stream != NULL else 0

    @property
    def buffered(self):
        """Bytes received and not read yet."""
        if self.cursor.stream == NULL:
            return 0
        return stream_end(self.cursor.stream) - self.cursor.position

    @property
    def time(self):
        """Capture time at which the last byte that a read gave was received, seconds since the
        epoch; 0.0 before the first read."""
        return self.time_ns / 1e9

    @property
    def seen(self):
        """Whether any packet of this end was seen."""
        return self.fl.h[self.side].packets > 0

    @property
    def complete(self):
        """Whether this end said that it had sent all (FIN), and all before that was received."""
        return bool(self.fl.h[self.side].flags & HALF_FIN_DONE)

    @property
    def state(self):
        """Name of the TCP state that this end is in, by RFC 9293."""
        return STATES[self.fl.h[self.side].state]

    @property
    def isn(self):
        """Initial sequence number."""
        return self.fl.isn[self.side]

    @property
    def mss(self):
        """Maximum segment size that this end announced; 0: not seen."""
        return self.fl.mss[self.side]

    @property
    def is_tcp(self):
        """Whether the flow is TCP."""
        return self.fl.protocol != PROTO_UDP

    @property
    def _extended(self):
        """Extended statistics as a dict; None: nobody asked for them."""
        return end_stats(self.fl, self.side)

    @property
    def packets(self):
        """Packets that this end sent."""
        return self.fl.h[self.side].packets

    @property
    def received(self):
        """Bytes that this end has sent and its peer has received in order, gaps counted."""
        return self.fl.h[self.side].offset

    @property
    def retransmissions(self):
        """Segments of this end that repeated bytes (or its SYN or FIN)."""
        return self.fl.retransmissions[self.side]

    @property
    def icmp_errors(self):
        """ICMP errors that quoted a packet of this end."""
        cdef const Extra *e = extra_of(&self.core.state.extras, self.fl)
        return 0 if e == NULL else e.icmp_errors[self.side]

    @property
    def gaps(self):
        """Holes in what this end sent that were given up."""
        return self.fl.gaps[self.side]

    @property
    def fin_seen(self):
        """Whether a FIN of this end was seen."""
        return bool(self.fl.h[self.side].flags & HALF_FIN)

    @property
    def rst_seen(self):
        """Whether a RST of this end was seen, valid or not."""
        return bool(self.fl.h[self.side].flags & HALF_RST)

    @property
    def syn_seen(self):
        """Whether the SYN of this end was seen."""
        return bool(self.fl.h[self.side].flags & HALF_SYN)


cdef tuple gap_tuple(const GapMark *mark):
    """Offset, length and the name of the cause."""
    return (mark.offset, mark.length, names.GAP_CAUSES[mark.cause])


cdef str address_text(const Flow *f, int side):
    cdef const unsigned char *a = f.address[side]
    if f.ip_version == 4:
        return f"{a[0]}.{a[1]}.{a[2]}.{a[3]}"
    return ipaddress.IPv6Address(PyBytes_FromStringAndSize(<const char *>a, 16)).compressed


# ---- the flow ----------------------------------------------------------------------------

cdef FlowBase flow_view_new(object cls, object endpoint_class, Core core, Flow *f,
                            TaskQueue queue, Handler handler):
    cdef FlowBase view = <FlowBase>aio_new_empty(cls, NO_ARGS)
    view.core = core
    view.fl = f
    f.pins += 1
    pool_charge(&core.state.pool, MEM_OBJECTS, VIEW_BYTES)
    view.queue = queue
    view.handler = handler
    view.client = endpoint_new(endpoint_class, core, f, queue, CLIENT, handler)
    view.server = endpoint_new(endpoint_class, core, f, queue, SERVER, handler)
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


@cython.no_gc_clear                         # as above
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

    cdef void wake_waiters(self) noexcept:
        cdef Parking parking
        if self.waiters is None:
            return
        for parking in self.waiters:
            parking.wake()
        self.waiters = None

    def _wait(self):
        """Something to await until the state of the flow changes."""
        cdef Parking parking = Parking.__new__(Parking)
        parking.queue = self.queue
        self.link()
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(parking)
        return parking

    cdef object datagram(self):
        """(data, time, sender) of the next datagram; None: none is here."""
        cdef EndpointBase e = self.client
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
        self.client.detach()
        self.server.detach()
        if self.core.events is not None:
            self.core.events.unsubscribe(self, None, 0xFFFFFFFF)

    @property
    def _events(self):
        """The event bridge; None: the run is over."""
        return self.core.events

    # -- what is known --

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
