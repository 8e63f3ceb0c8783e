"""BPF filters: on frames as they came, and on flows, once each.

    Filter        one expression compiled for one link type
    FrameFilter   one expression for frames of any link type: -f EXPR, @app.packet
    FilterSet     up to 64 flow filters judged together: @app.tcp, @app.udp

Everything is compiled before traffic comes, but for a link type met later. Nothing here
raises on traffic: a frame either matches or does not.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.bpf cimport bpf_filter, bpf_insn, bpf_program
from aiomos._engine.flowprobe cimport FlowProbe
from aiomos._engine.shim cimport AIO_DIR_OUT, AIO_DIR_UNKNOWN, aio_frame


cdef enum:
    FILTER_SLOTS = 8        # link types of one run; the ninth takes the place of the first
    FILTER_SET_MAX = 64     # one bit each

# How the core asks which handlers want a flow: bit i = filter i of the set.
ctypedef uint64_t (*flow_match_fn)(void *ctx, const FlowProbe *probe) noexcept nogil


cdef struct Code:
    bpf_program program     # no instructions: everything matches
    bpf_insn *outgoing      # a second copy, for frames this host sent; only if the
                            # expression says "inbound" or "outbound", else NULL
    uint32_t reach          # no instruction loads a byte from here on; UINT32_MAX: unknown


cdef inline bint code_match(const Code *code, uint8_t direction, const uint8_t *data,
                            uint32_t wire_len, uint32_t cap_len) noexcept nogil:
    cdef const bpf_insn *insns = code.program.bf_insns
    if code.outgoing != NULL:
        # Who asks for a direction gets no frame that has none.
        if direction == AIO_DIR_UNKNOWN:
            return False
        if direction == AIO_DIR_OUT:
            insns = code.outgoing
    return bpf_filter(insns, data, wire_len, cap_len) != 0


cdef class Filter:
    cdef Code code
    cdef readonly str expression
    cdef readonly int link_type

    # One piece of memory, direction unknown.
    cdef bint match(self, const uint8_t *data, uint32_t wire_len,
                    uint32_t cap_len) noexcept nogil


cdef struct Slot:
    int32_t link_type
    const Code *code        # NULL: does not compile for that link type, nothing matches


cdef class FrameFilter:
    cdef readonly str expression        # None: everything matches
    cdef readonly dict uncompilable     # link type -> why not
    cdef list _owners                   # the Filters whose code the slots borrow
    cdef Slot _slots[FILTER_SLOTS]
    cdef uint32_t _n_slots
    cdef uint32_t _turn                 # slot that the next new link type takes, when full
    cdef uint8_t *_scratch              # frames whose pieces had to be joined
    cdef uint32_t _scratch_size

    cdef bint match(self, const aio_frame *frame) noexcept nogil
    cdef const Code *_code(self, int32_t link_type) noexcept nogil
    cdef const Code *_meet(self, int32_t link_type) noexcept with gil
    cdef void _keep(self, Slot slot, Filter owner)
    cdef bint _match_joined(self, const Code *code, const aio_frame *frame,
                            uint32_t n_vlan) noexcept nogil


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
    cdef readonly list filters          # (protocol, expressions) by bit
    cdef readonly list never            # bits of filters that no such flow can pass
    cdef list _owners                   # the Filters whose code the tests borrow

    cdef uint64_t match(self, const FlowProbe *probe) noexcept nogil
    # For the core: fn(ctx, probe). ctx lives as long as this object.
    cdef flow_match_fn fn(self) noexcept nogil
    cdef void *ctx(self) noexcept nogil
    cdef int _add_tests(self, list made) except -1
    cdef void _want(self, str protocol, bint judged)
