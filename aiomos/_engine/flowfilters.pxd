"""Up to 64 flow filters judged together: @app.tcp, @app.udp.

Each is refused when made if it reads what a flow does not have (filterproof.py).
"""

from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.filters cimport Code
from aiomos._engine.flowprobe cimport FlowProbe


cdef enum:
    FILTER_SET_MAX = 64     # one bit each

# How the core asks which handlers want a flow: a bit for each filter of the set.
ctypedef uint64_t (*flow_match_fn)(void *ctx, const FlowProbe *probe) noexcept nogil


cdef struct FlowTest:
    const Code *code
    uint64_t bit            # of the filter it belongs to
    bint with_vlan          # the expression uses the word "vlan"


cdef struct FlowTests:
    uint64_t tcp            # filters that want TCP flows, by bit
    uint64_t udp
    uint64_t judged         # those that have a test; the others take all
    uint32_t n
    FlowTest *tests


cdef class FilterSet:
    cdef FlowTests _tests
    cdef readonly list filters          # (protocol, expressions), in order
    cdef readonly list bits             # of each of them
    cdef list _free                     # bits for those that follow
    cdef readonly list never            # bits of filters that no such flow can pass
    cdef list _owners                   # the Filters whose code the tests borrow

    cdef uint64_t match(self, const FlowProbe *probe) noexcept nogil
    # For the core: fn(ctx, probe). ctx lives as long as this object.
    cdef flow_match_fn fn(self) noexcept nogil
    cdef void *ctx(self) noexcept nogil
    cdef int _add_tests(self, list made, uint64_t bit) except -1
    cdef void _want(self, str protocol, uint64_t bit, bint judged)
