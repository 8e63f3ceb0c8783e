"""BPF filters (filters.pxd says which).

Where an expression is mistaken: filtertext.py. Filters on flows: flowfilters.pyx.
"""

from functools import partial

from libc.stdint cimport UINT32_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport FILE
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from aiomos._engine cimport bpf
from aiomos._engine.shim cimport AIO_DIR_UNKNOWN, aio_frame, aio_seg

from aiomos._engine.errors import FilterError
from aiomos._engine.filtertext import CONTRADICTION, filter_error, mistake

cdef extern from "<stdio.h>" nogil:
    FILE *fmemopen(void *buffer, size_t size, const char *mode)

cdef enum:
    NULL_LOOPBACK = 0
    ETHERNET = 1
    LOOPBACK = 108
    SNAP_LEN = 262144       # tcpdump's

# Link types on which an expression is tried when it is made; it must compile for one.
_TRIED = (ETHERNET, 101, 113, 276, 9, 127, NULL_LOOPBACK)


# ---- compiling ---------------------------------------------------------------------------

cdef int _dlt(int link_type) noexcept nogil:
    if link_type in (101, 12, 14):      # 12 and 14: raw IP as some systems wrote it
        return bpf.DLT_RAW
    if link_type == 100:
        return bpf.DLT_ATM_RFC1483
    if link_type == 102:
        return bpf.DLT_SLIP_BSDOS
    if link_type == 103:
        return bpf.DLT_PPP_BSDOS
    if link_type == 106:
        return bpf.DLT_ATM_CLIP
    return link_type


cdef bpf.pcap_t *_open_loopback(int link_type, uint8_t *header) noexcept nogil:
    # The number for IPv6 in these headers depends on the system that wrote the capture.
    # libpcap tests for all of them only when it believes that it reads a file.
    cdef char message[256]
    cdef uint32_t[6] words = [0xa1b2c3d4, 2 | 4 << 16, 0, 0, SNAP_LEN, link_type]
    cdef FILE *stream
    memcpy(header, words, 24)
    stream = fmemopen(header, 24, "rb")
    return bpf.pcap_fopen_offline(stream, message) if stream != NULL else NULL


cdef str _compile(str expression, int link_type, bpf.bpf_program *program):
    """None, or why it does not compile, in libpcap's words."""
    cdef bytes text = expression.encode("utf-8", "replace")
    cdef const char *chars = text
    cdef uint8_t[24] header
    cdef bpf.pcap_t *handle
    cdef int status
    if link_type in (NULL_LOOPBACK, LOOPBACK):
        handle = _open_loopback(link_type, header)
    else:
        handle = bpf.pcap_open_dead(_dlt(link_type), SNAP_LEN)
    if handle == NULL:
        raise MemoryError
    try:
        with nogil:     # host names are looked up
            status = bpf.pcap_compile(handle, program, chars, 1, bpf.PCAP_NETMASK_UNKNOWN)
        return None if status == 0 else bpf.pcap_geterr(handle).decode("utf-8", "replace")
    finally:
        bpf.pcap_close(handle)


def _complaint(int link_type, str expression):
    """The same as a question only; "" if it compiles."""
    cdef bpf.bpf_program program
    said = _compile(expression, link_type, &program)
    if said is None:
        bpf.pcap_freecode(&program)
    return said or ""


cdef bint _is_load(const bpf.bpf_insn *insn, int mode) noexcept nogil:
    return (insn.code & 0x07) in (bpf.BPF_LD, bpf.BPF_LDX) and (insn.code & 0xe0) == mode


cdef bint _asks_kernel(const bpf.bpf_insn *insn) noexcept nogil:
    return _is_load(insn, bpf.BPF_ABS) and insn.k >= bpf.AIO_AD_BASE


cdef bint _spoils_x(const bpf.bpf_insn *insn) noexcept nogil:
    # X comes from a header length (at most 60) in all code but that for computed places.
    if insn.code & 0x07 == bpf.BPF_LDX:
        return (insn.code & 0xe0) != bpf.BPF_MSH and (insn.code & 0xe0) != bpf.BPF_IMM
    return insn.code & 0x07 == bpf.BPF_MISC and (insn.code & 0xf8) != bpf.BPF_TXA


cdef uint64_t _reach_of(const bpf.bpf_insn *insn, uint64_t x) noexcept nogil:
    cdef uint64_t size = 4
    if insn.code & 0x18 == bpf.BPF_H:
        size = 2
    elif insn.code & 0x18 == bpf.BPF_B:
        size = 1
    if _is_load(insn, bpf.BPF_ABS) or _is_load(insn, bpf.BPF_MSH):
        return <uint64_t>insn.k + size
    return x + insn.k + size if _is_load(insn, bpf.BPF_IND) else 0


cdef uint32_t _reach(const bpf.bpf_program *program) noexcept nogil:
    cdef const bpf.bpf_insn *insn
    cdef uint64_t x = 60, reach = 0
    cdef uint32_t i
    for i in range(program.bf_len):
        insn = &program.bf_insns[i]
        if _spoils_x(insn):
            return UINT32_MAX
        if insn.code & 0x07 == bpf.BPF_LDX and insn.code & 0xe0 == bpf.BPF_IMM:
            x = max(x, insn.k)
    for i in range(program.bf_len):
        reach = max(reach, _reach_of(&program.bf_insns[i], x))
    return <uint32_t>min(reach, UINT32_MAX)


cdef void _answer_direction(bpf.bpf_insn *insns, uint32_t n, uint32_t answer) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if _asks_kernel(&insns[i]):
            insns[i].code = bpf.BPF_LD | bpf.BPF_IMM
            insns[i].k = answer


cdef str _settle_direction(Code *code):
    """Makes one copy for each direction, if asked for; None, or what it asks in vain."""
    cdef bpf.bpf_program *program = &code.program
    cdef size_t size = program.bf_len * sizeof(bpf.bpf_insn)
    cdef uint32_t i, asked = 0
    for i in range(program.bf_len):
        if _asks_kernel(&program.bf_insns[i]):
            if program.bf_insns[i].k != bpf.AIO_AD_PACKET_TYPE:
                return "only the kernel could tell, for a frame that it is receiving"
            asked += 1
    if asked:
        code.outgoing = <bpf.bpf_insn *>malloc(size)
        if code.outgoing == NULL:
            raise MemoryError
        memcpy(code.outgoing, program.bf_insns, size)
        _answer_direction(code.outgoing, program.bf_len, bpf.AIO_PACKET_OUTGOING)
        _answer_direction(program.bf_insns, program.bf_len, bpf.AIO_PACKET_HOST)
    return None


cpdef str filter_text(object expression):
    """The expression, or None for "everything"."""
    if expression is None:
        return None
    if not isinstance(expression, str):
        raise TypeError(f"a filter is a string or None, not {type(expression).__name__}")
    return expression if expression.strip() else None


cdef class Filter:
    """One BPF expression, compiled for one link type (LINKTYPE numbers)."""

    def __cinit__(self, str expression, int link_type=ETHERNET):
        cdef str why
        self.expression = expression
        self.link_type = link_type
        at = expression.find("\0")
        if at >= 0:
            raise filter_error("filter does not compile", "it contains a NUL character",
                         expression, (at, at + 1))
        why = _compile(expression, link_type, &self.code.program)
        if why is not None:
            raise mistake(expression, why, partial(_complaint, link_type))
        why = _settle_direction(&self.code)
        if why is not None:
            raise filter_error("filter does not compile", why, expression, None)
        self.code.reach = _reach(&self.code.program)

    def __dealloc__(self):
        free(self.code.outgoing)
        bpf.pcap_freecode(&self.code.program)

    cdef bint match(self, const uint8_t *data, uint32_t wire_len,
                    uint32_t cap_len) noexcept nogil:
        return code_match(&self.code, AIO_DIR_UNKNOWN, data, wire_len, cap_len)

    def matches(self, const uint8_t[::1] data not None, wire_len=None):
        """For tests and tools; the engine calls match()."""
        cdef uint32_t n = <uint32_t>data.shape[0]
        return self.match(&data[0] if n else NULL, n if wire_len is None else wire_len, n)

    @property
    def program(self):
        """The instructions as (code, jt, jf, k), as ``tcpdump -ddd`` prints them."""
        cdef bpf.bpf_insn *insns = self.code.program.bf_insns
        return [(insns[i].code, insns[i].jt, insns[i].jf, insns[i].k)
                for i in range(self.code.program.bf_len)]

    @property
    def directed(self):
        """Whether it asks for the direction of a frame."""
        return self.code.outgoing != NULL

    @property
    def reach(self):
        """How many bytes of a frame it can look at; None if that depends on the frame."""
        return None if self.code.reach == UINT32_MAX else self.code.reach


def combine(a, b):
    """One expression for both filters; None is the filter that everything passes.

    For frames. Flow filters are judged each on its own (FilterSet.add takes several),
    so that the word ``vlan`` in one does not move what the other reads.
    """
    a, b = filter_text(a), filter_text(b)
    return f"({a}) and ({b})" if a and b else a or b


# ---- frames ------------------------------------------------------------------------------

cdef int32_t _slot_key(const aio_frame *frame) noexcept nogil:
    # DLT_NULL has the byte order of the machine that wrote the capture, which a frame does
    # not tell. Families are below 256: the byte that is not zero shows it. Written with
    # the big end first it is the same as DLT_LOOP.
    if frame.link_type == NULL_LOOPBACK and frame.head_len and frame.data[0] == 0:
        return LOOPBACK
    return frame.link_type


cdef void _join(const aio_frame *frame, uint8_t *out, uint32_t size) noexcept nogil:
    cdef const aio_seg *seg = frame.next
    cdef uint32_t done = min(frame.head_len, size), n
    memcpy(out, frame.data, done)
    while seg != NULL and done < size:
        n = min(seg.len, size - done)
        memcpy(out + done, seg.data, n)
        done += n
        seg = seg.next


cdef void _put_tags_back(const aio_frame *frame, uint8_t *at, uint32_t n) noexcept nogil:
    """The frame lies at ``at + 4 * n``; its addresses move to ``at``, tags follow them."""
    cdef uint32_t i
    memmove(at, at + 4 * n, 12)
    at += 12
    for i in range(n):
        at[0], at[1] = (0x88, 0xa8) if i + 1 < n else (0x81, 0x00)
        at[2], at[3] = <uint8_t>(frame.vlan[i] >> 8), <uint8_t>frame.vlan[i]
        at += 4


cdef class FrameFilter:
    """A BPF expression for frames of any link type; None or "" lets everything pass.

    Checked when made, compiled when a link type is first met. Where it does not compile
    (``ether host`` on raw IP) nothing matches, and ``uncompilable`` says why. VLAN tags that
    the device stripped are put back first, so that a live interface filters as its capture
    would.
    """

    def __cinit__(self, expression=None):
        cdef Filter first
        self.expression = filter_text(expression)
        self.uncompilable = {}
        self._owners = []
        if self.expression is not None:
            first = _first(self.expression)
            self._keep([first.link_type, &first.code], first)

    def __dealloc__(self):
        free(self._scratch)

    cdef bint match(self, const aio_frame *frame) noexcept nogil:
        cdef const Code *code
        cdef uint32_t n_vlan = 0
        if self.expression is None:
            return True
        code = self._code(_slot_key(frame))
        if code == NULL:
            return False
        if frame.n_vlan and frame.link_type == ETHERNET and frame.cap_len >= 12:
            n_vlan = min(frame.n_vlan, 2)
        if n_vlan or frame.head_len < min(frame.cap_len, code.reach):
            return self._match_joined(code, frame, n_vlan)
        return code_match(code, frame.direction, frame.data, frame.wire_len, frame.head_len)

    cdef bint _match_joined(self, const Code *code, const aio_frame *frame,
                            uint32_t n_vlan) noexcept nogil:
        cdef uint32_t shift = 4 * n_vlan
        # 12: the addresses must be there to be moved, whatever the program reads.
        cdef uint32_t size = min(frame.cap_len, max(code.reach, 12))
        cdef uint8_t *grown
        if self._scratch_size < size + shift:
            grown = <uint8_t *>realloc(self._scratch, size + shift)
            if grown == NULL:
                return False
            self._scratch, self._scratch_size = grown, size + shift
        _join(frame, self._scratch + shift, size)
        if n_vlan:
            _put_tags_back(frame, self._scratch, n_vlan)
        return code_match(code, frame.direction, self._scratch, frame.wire_len + shift,
                          size + shift)

    cdef const Code *_code(self, int32_t link_type) noexcept nogil:
        cdef uint32_t i
        for i in range(self._n_slots):
            if self._slots[i].link_type == link_type:
                return self._slots[i].code
        return self._meet(link_type)

    cdef const Code *_meet(self, int32_t link_type) noexcept with gil:
        cdef Filter made
        cdef Slot slot = [link_type, NULL]
        try:
            made = Filter(self.expression, link_type)
            slot.code = &made.code
        except FilterError as error:
            made = None
            self.uncompilable[link_type] = error.reason
        self._keep(slot, made)
        return slot.code

    cdef void _keep(self, Slot slot, Filter owner):
        if self._n_slots < FILTER_SLOTS:
            self._slots[self._n_slots] = slot
            self._owners.append(owner)
            self._n_slots += 1
            return
        self._slots[self._turn] = slot
        self._owners[self._turn] = owner
        self._turn = (self._turn + 1) % FILTER_SLOTS

    def matches(self, bytes data not None, int link_type=ETHERNET, *, wire_len=None, cuts=(),
                vlan=(), int direction=0):
        """For tests and tools: judges ``data`` as a frame, cut into pieces at ``cuts``."""
        cdef aio_frame frame
        cdef const uint8_t *start = data
        cdef list at = [*sorted([cut for cut in cuts if 0 < cut < len(data)]), len(data)]
        cdef aio_seg *segs = <aio_seg *>calloc(len(at), sizeof(aio_seg))
        if segs == NULL:
            raise MemoryError
        memset(&frame, 0, sizeof(frame))
        frame.data, frame.head_len, frame.cap_len = start, at[0], len(data)
        frame.wire_len = len(data) if wire_len is None else wire_len
        frame.link_type, frame.direction, frame.n_vlan = link_type, direction, len(vlan)
        for i, tag in enumerate(vlan[:2]):
            frame.vlan[i] = tag
        for i in range(len(at) - 1):
            segs[i] = [start + <int>at[i], &segs[i + 1], at[i + 1] - at[i]]
        segs[max(len(at) - 2, 0)].next = NULL
        frame.next = segs if len(at) > 1 else NULL
        try:
            return self.match(&frame)
        finally:
            free(segs)


def _first(expression):
    """Compiled for the first link type that can be; else the most telling error."""
    worst = None
    for link_type in _TRIED:
        try:
            return Filter(expression, link_type)
        except FilterError as error:
            # The error furthest to the right: those before it are only about the link type.
            if worst is None or (error.column or 0) > (worst.column or 0):
                worst = error
            if error.reason == CONTRADICTION:
                break
    raise worst
