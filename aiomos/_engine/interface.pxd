"""Python owners of kernel interfaces: a source that reads one, and sockets for several."""
from .shim cimport aio_packet_stats, aio_xdp_link
from .source cimport Source


cdef class InterfaceSource(Source):
    cdef readonly tuple warnings         # lines for people: the interface was down at opening

    cdef aio_packet_stats packet_stats(self) except *


cdef class XdpSource(Source):
    cdef readonly tuple warnings

    cdef aio_xdp_link link(self) except *


cdef class InterfaceGroup:
    cdef readonly str name
    cdef list sockets                    # pairs of descriptors; empty once closed
