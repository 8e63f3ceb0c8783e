"""Owners of what dpdk_shim opens over DPDK: ports, and rings to workers."""
from . cimport dpdk


cdef class Port:
    cdef dpdk.aio_dpdk_port *port        # NULL once closed
    cdef readonly str name
    cdef readonly int missing            # mbufs that had not come back when it was closed
    cdef list opened                     # sources of its queues, closed before it

    cdef dpdk.aio_dpdk_port *open_port(self) except NULL


cdef class Fan:
    cdef dpdk.aio_dpdk_fan *fan          # NULL once closed
    cdef readonly str name

    cdef dpdk.aio_dpdk_fan *open_fan(self) except NULL
