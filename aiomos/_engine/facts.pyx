"""What is known of one end; see facts.pxd."""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

import ipaddress

from aiomos._engine.extra cimport Extra, extra_of
from aiomos._engine.flow cimport HALF_FIN, HALF_FIN_DONE, HALF_RST, HALF_SYN
from aiomos._engine.life cimport flow_unpin
from aiomos._engine.limits cimport PROTO_UDP
from aiomos._engine.statsview cimport end_stats

STATES = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "ESTABLISHED", "FIN_WAIT_1",
          "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT")


# Not cleared by the collector: __dealloc__ needs the core, and no cycle is of views alone.
@cython.no_gc_clear
cdef class EndFacts(Reader):
    """One end of a flow: who it is, and what its packets said."""

    def __init__(self):
        raise TypeError("endpoints are made by the engine: take flow.client or flow.server")

    def __dealloc__(self):
        if self.fl != NULL:
            flow_unpin(self.core.state, self.fl)

    @property
    def address(self):
        """IP address of this end, as text."""
        return address_text(self.fl, self.side)

    @property
    def port(self):
        """TCP or UDP port of this end."""
        return self.fl.ports[self.side]

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


cdef str address_text(const Flow *f, int side):
    cdef const unsigned char *a = f.address[side]
    if f.ip_version == 4:
        return f"{a[0]}.{a[1]}.{a[2]}.{a[3]}"
    return ipaddress.IPv6Address(PyBytes_FromStringAndSize(<const char *>a, 16)).compressed
