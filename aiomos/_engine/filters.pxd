"""BPF filters on frames as they came.

    Filter        one expression compiled for one link type
    FrameFilter   one expression for frames of any link type: -f EXPR, @app.packet

(Flow filters: flowfilters.pxd.)

Everything is compiled before traffic comes, but for a link type met later. Nothing here
raises on traffic: a frame either matches or does not.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

from aiomos._engine.bpf cimport bpf_filter, bpf_insn, bpf_program
from aiomos._engine.shim cimport AIO_DIR_OUT, AIO_DIR_UNKNOWN, aio_frame


cdef enum:
    FILTER_SLOTS = 8        # link types of one run; the ninth takes the place of the first


cdef struct Code:
    bpf_program program     # no instructions: everything matches
    # A second copy for frames that this host sent. Only for expressions that say "inbound"
    # or "outbound", else NULL.
    bpf_insn *outgoing
    uint32_t reach          # no instruction loads a byte from here on; UINT32_MAX: unknown


cdef inline bint code_match(const Code *code, uint8_t direction, const uint8_t *data,
                            uint32_t wire_len, uint32_t cap_len) noexcept nogil:
    cdef const bpf_insn *insns = code.program.bf_insns
    if code.outgoing != NULL:
        # Who asks for a direction gets no frame that has none.
        if direction == AIO_DIR_UNKNOWN:
            return False
        if direction & AIO_DIR_OUT:
            insns = code.outgoing
    return bpf_filter(insns, data, wire_len, cap_len) != 0


# The expression, or None for "everything".
cpdef str filter_text(object expression)


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
