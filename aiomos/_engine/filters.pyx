"""BPF filters (filters.pxd says which).

Three parts: compiling and matching; finding the place of a mistake in an expression, of
which libpcap says nothing; and proving that a flow filter reads only what a flow has.
"""

import re

from libc.stdint cimport UINT32_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport FILE
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from aiomos._engine cimport bpf
from aiomos._engine.flowprobe cimport PROBE_MAX, PROBE_SYN, PROBE_TCP, PROBE_UDP, probe_build
from aiomos._engine.shim cimport AIO_DIR_UNKNOWN, aio_frame, aio_seg

from aiomos._engine.errors import ConfigError, FilterError

cdef extern from "<stdio.h>" nogil:
    FILE *fmemopen(void *buffer, size_t size, const char *mode)

cdef enum:
    NULL_LOOPBACK = 0
    ETHERNET = 1
    LOOPBACK = 108
    SNAP_LEN = 262144       # tcpdump's
    STATES_MAX = 200000     # of one proof: far above what 1 000 addresses need

# Link types on which an expression is tried when it is made; it must compile for one.
_TRIED = (ETHERNET, 101, 113, 276, 9, 127, NULL_LOOPBACK)


# ---- compiling ------------------------------------------------------------------------

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


cdef str _text(object expression):
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
        if "\0" in expression:
            raise _error("filter does not compile", "it contains a NUL character",
                         expression, re.search("\0", expression).span())
        why = _compile(expression, link_type, &self.code.program)
        if why is not None:
            raise _mistake(expression, link_type, why)
        why = _settle_direction(&self.code)
        if why is not None:
            raise _error("filter does not compile", why, expression, None)
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
    def reach(self):
        """How many bytes of a frame it can look at; None if that depends on the frame."""
        return None if self.code.reach == UINT32_MAX else self.code.reach


def combine(a, b):
    """One expression for both filters; None is the filter that everything passes.

    For frames. Flow filters are judged each on its own (FilterSet.add takes several),
    so that the word ``vlan`` in one does not move what the other reads.
    """
    a, b = _text(a), _text(b)
    return f"({a}) and ({b})" if a and b else a or b


# ---- frames ---------------------------------------------------------------------------

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

    Checked when made, compiled when a link type is first met. Where it does not compile (``ether host`` on
    raw IP) nothing matches, and ``uncompilable`` says why. VLAN tags that the device
    stripped are put back first, so that a live interface filters as its capture would.
    """

    def __cinit__(self, expression=None):
        cdef Filter first
        self.expression = _text(expression)
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
        cdef list at = [*sorted(cuts), len(data)]
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
            if error.reason == _CONTRADICTION:
                break
    raise worst


# ---- the place of a mistake -------------------------------------------------------------

# libpcap's words (scanner.l), as far as cutting an expression between them needs it.
_WORD = re.compile(r"""
    (?:[0-9A-Fa-f]{0,4}:){2,}[0-9A-Fa-f.]*          # IPv6 and Ethernet addresses
  | \\[^ !()\n\t]+ | \$[0-9A-Fa-f]{1,2}             # escaped names, ARCnet addresses
  | [A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?     # keywords, names, numbers, IPv4
  | >=|<=|!=|==|<<|>>|&&|\|\| | [^ \t\r\n]
    """, re.VERBOSE)

# The scanner complains about this the moment it reads it, and that complaint is kept. So
# words followed by it tell whether the parser could take all of them: if not, it stopped
# before it came here, with a complaint of its own.
_PROBE = "1:2:3:"
_PROBE_WORDS = "bogus ethernet address"

# The optimiser's finding, about all of an expression.
_CONTRADICTION = "expression rejects all packets"


def _complaint(str expression, int link_type):
    """What libpcap says about an expression; "" if it compiles."""
    cdef bpf.bpf_program program
    said = _compile(expression, link_type, &program)
    if said is None:
        bpf.pcap_freecode(&program)
    return said or ""


def _first_refused(expression, words, link_type):
    """Index of the first word that the parser could not take; len(words): the end."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        text = f"{expression[:words[middle].end()]} {_PROBE}"
        if _PROBE_WORDS in _complaint(text, link_type):
            low = middle + 1
        else:
            high = middle
    return low


def _open_bracket(expression, words, link_type):
    """The bracket whose closing is all that is missing at the end, or None."""
    stack = []
    for word in words:
        if word[0] in "([":
            stack.append(word)
        elif word[0] in ")]" and stack:
            stack.pop()
    closing = "".join(")" if word[0] == "(" else "]" for word in reversed(stack))
    if stack and "syntax error" not in _complaint(expression + closing, link_type):
        return stack.pop()
    return None


def _place_of_syntax(expression, words, refused, link_type):
    """(what is wrong, span) of a syntax error at words[refused]."""
    if refused < len(words):
        return f"syntax error at '{words[refused][0]}'", words[refused].span()
    bracket = _open_bracket(expression, words, link_type)
    if bracket is not None:
        return f"'{bracket[0]}' is never closed", bracket.span()
    end = len(expression.rstrip()) + 1
    return "syntax error at the end", (end, end + 1)


def _place_of_meaning(expression, words, refused, link_type, said):
    """Span of the words that libpcap understood and did not like, or None."""
    if said == _CONTRADICTION:
        return None
    named = re.search(r"""['"]([^'"]+)['"]""", said)
    if named:
        for word in reversed(words[:refused + 1]):
            if expression.startswith(named[1], word.start()):
                return word.start(), word.start() + len(named[1])
    # It may have looked one word further before it complained.
    if refused and said == _complaint(expression[:words[refused - 1].end()], link_type):
        refused -= 1
    if refused and refused < len(words) and words[refused][0] in ")]":
        refused -= 1
    return words[refused].span() if refused < len(words) else None


def _mistake(expression, link_type, said):
    """The FilterError for an expression that libpcap refused with ``said``."""
    words = list(_WORD.finditer(expression))
    refused = _first_refused(expression, words, link_type)
    reason = said.removeprefix("can't parse filter expression: ")
    if reason == "syntax error":
        reason, span = _place_of_syntax(expression, words, refused, link_type)
    else:
        span = _place_of_meaning(expression, words, refused, link_type, said)
    return _error("filter does not compile", reason, expression, span)


def _error(headline, reason, expression, span, advice=None):
    """A FilterError: one line that says all, the expression, a mark below the place."""
    column = span[0] + 1 if span else None
    where = f" (column {column})" if span else ""
    lines = [f"{headline}: {reason}{where}", "  " + re.sub(r"\s", " ", expression)]
    if span:
        lines.append("  " + " " * span[0] + "^" + "~" * (span[1] - span[0] - 1))
    error = FilterError("\n".join(lines + ([advice] if advice else [])))
    error.expression, error.column, error.reason = expression, column, reason
    return error


# ---- what a flow filter reads -------------------------------------------------------------

_ADVICE = (
    "A flow filter can ask for MAC addresses, EtherType, VLAN tag, IP version, protocol,\n"
    "addresses, fragment field, ports and TCP flags; @app.packet takes the whole language.")
_VLAN_ADVICE = (
    "After the word 'vlan' all that follows is read four bytes further on, with or without\n"
    "a tag: write it last ('port 80 or vlan'), or join what is for tagged flows with 'and'.")

# Bytes of a probe that say nothing of the flow: (first, end, name) by header.
_UNTOLD = {
    "ip": ((1, 2, "type of service"), (2, 4, "total length"), (4, 6, "identification"),
           (8, 9, "time to live"), (10, 12, "header checksum")),
    "ip6": ((1, 4, "traffic class and flow label"), (4, 6, "payload length"),
            (7, 8, "hop limit")),
    "tcp": ((4, 8, "sequence number"), (8, 12, "acknowledgement number"),
            (12, 13, "header length"), (14, 16, "window"), (16, 18, "checksum"),
            (18, 20, "urgent pointer")),
    "udp": ((4, 6, "length"), (6, 8, "checksum")),
}


class _Unanswerable(Exception):
    """A filter reads what a flow does not have; the text says what."""


class _Shape:
    """A kind of probe frame: what each byte holds, as far as it is known beforehand."""

    def __init__(self, network, transport, n_vlan):
        self.network, self.transport = network, transport
        self.ip = 14 + 4 * n_vlan
        self.l4 = self.ip + (20 if network == "ip" else 40)
        self.end = self.l4 + (20 if transport == "tcp" else 8)
        known = {}
        for i in range(n_vlan):
            known[12 + 4 * i] = 0x88 if i + 1 < n_vlan else 0x81
            known[13 + 4 * i] = 0xa8 if i + 1 < n_vlan else 0x00
        known[self.ip - 2], known[self.ip - 1] = (8, 0) if network == "ip" else (0x86, 0xdd)
        protocol = PROBE_TCP if transport == "tcp" else PROBE_UDP
        if network == "ip":
            known.update({self.ip: 0x45, self.ip + 6: 0, self.ip + 7: 0, self.ip + 9: protocol})
        else:
            known.update({self.ip: 0x60, self.ip + 6: protocol})
        if transport == "tcp":
            known[self.l4 + 13] = PROBE_SYN
        self.known = known

    def load(self, at, size):
        """The value at a place, None if flows differ in it; _Unanswerable."""
        value = 0
        for i in range(at, at + size):
            self.refuse_untold(i)
            byte = self.known.get(i)
            value = None if value is None or byte is None else value << 8 | byte
        return value

    def refuse_untold(self, at):
        if at >= self.end:
            raise _Unanswerable("the payload")
        header, start = (self.transport, self.l4) if at >= self.l4 else (self.network, self.ip)
        for first, end, name in _UNTOLD[header]:
            if first <= at - start < end:
                raise _Unanswerable(f"{header}[{at - start}], the {name}")


_ALU = {
    bpf.BPF_ADD: lambda a, b: a + b,
    bpf.BPF_SUB: lambda a, b: a - b,
    bpf.BPF_MUL: lambda a, b: a * b,
    bpf.BPF_DIV: lambda a, b: a // b if b else 0,
    bpf.BPF_MOD: lambda a, b: a % b if b else 0,
    bpf.BPF_OR: lambda a, b: a | b,
    bpf.BPF_AND: lambda a, b: a & b,
    bpf.BPF_XOR: lambda a, b: a ^ b,
    bpf.BPF_LSH: lambda a, b: a << b if b < 32 else 0,
    bpf.BPF_RSH: lambda a, b: a >> b,
    bpf.BPF_NEG: lambda a, b: -a,
}
_TEST = {
    bpf.BPF_JEQ: lambda a, b: a == b,
    bpf.BPF_JGT: lambda a, b: a > b,
    bpf.BPF_JGE: lambda a, b: a >= b,
    bpf.BPF_JSET: lambda a, b: a & b != 0,
}


class _Proof:
    """Runs a program over all flows of one shape at once.

    A state is (instruction, A, X, scratch memory); a value is a number or None for "any".
    A test on a known value is followed one way, on an unknown one both ways: so just
    those loads are seen that some flow of this shape could bring about.
    """

    def __init__(self, program, shape):
        self.program, self.shape = program, shape
        self.can_match = False

    def run(self):
        todo = [(0, 0, 0, (None,) * 16)]
        seen = set(todo)
        while todo:
            for state in self.step(*todo.pop()):
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
            if len(seen) > STATES_MAX:
                raise _Unanswerable("too much to be checked")
        return self.can_match

    def step(self, pc, a, x, memory):
        """The states that may follow."""
        code, jt, jf, k = self.program[pc]
        kind = code & 0x07
        if kind == bpf.BPF_RET:
            answer = a if code & 0x18 == bpf.BPF_A else k
            self.can_match |= answer is None or answer != 0
            return
        if kind == bpf.BPF_JMP:
            for offset in self.jump(code, jt, jf, k, a, x):
                yield pc + 1 + offset, a, x, memory
            return
        if kind == bpf.BPF_LD:
            a = self.load(code, k, x, memory)
        elif kind == bpf.BPF_LDX:
            x = self.load(code, k, x, memory)
        elif kind in (bpf.BPF_ST, bpf.BPF_STX):
            memory = memory[:k] + (a if kind == bpf.BPF_ST else x,) + memory[k + 1:]
        elif kind == bpf.BPF_ALU:
            a = self.calculate(code, a, x if code & bpf.BPF_X else k)
        elif code & 0xf8 == bpf.BPF_TXA:
            a = x
        else:
            x = a
        yield pc + 1, a, x, memory

    def load(self, code, k, x, memory):
        mode = code & 0xe0
        if mode == bpf.BPF_IMM:
            return k
        if mode == bpf.BPF_MEM:
            return memory[k]
        if mode == bpf.BPF_LEN:
            raise _Unanswerable("the length of a frame")
        if mode == bpf.BPF_MSH:
            first = self.shape.load(k, 1)
            return None if first is None else 4 * (first & 0x0f)
        if mode == bpf.BPF_IND and x is None:
            raise _Unanswerable("a byte whose place differs from flow to flow")
        size = {bpf.BPF_H: 2, bpf.BPF_B: 1}.get(code & 0x18, 4)
        return self.shape.load(k + x & 0xffffffff if mode == bpf.BPF_IND else k, size)

    def calculate(self, code, a, b):
        if a is None or b is None:
            return None
        return _ALU[code & 0xf0](a, b) & 0xffffffff

    def jump(self, code, jt, jf, k, a, x):
        """The distances it may go."""
        if code & 0xf0 == bpf.BPF_JA:
            return (k - (1 << 32) if k >> 31 else k,)
        b = x if code & bpf.BPF_X else k
        if a is None or b is None:
            return jt, jf
        return (jt if _TEST[code & 0xf0](a, b) else jf,)


def _word(text, expression):
    for word in _WORD.finditer(expression):
        if word[0] == text:
            return word
    return None


def _uses_vlan(expression):
    return _word("vlan", expression) is not None


def _prove(Filter flow_filter):
    """Whether some TCP, some UDP flow can match; _Unanswerable if it cannot be judged."""
    if flow_filter.code.outgoing != NULL:
        raise _Unanswerable("the direction of a frame")
    program = flow_filter.program
    # Tagged first: there the names of what is read are the right ones.
    tags = [1, 2, 0] if _uses_vlan(flow_filter.expression) else [0]
    can = {"tcp": False, "udp": False}
    for n_vlan in tags:
        for transport in can:
            for network in ("ip", "ip6"):
                can[transport] |= _Proof(program, _Shape(network, transport, n_vlan)).run()
    return can


def _unanswerable(text):
    """Whether a piece of an expression alone is one that no flow can answer."""
    try:
        _prove(Filter(text))
    except _Unanswerable:
        return True
    except FilterError:
        pass
    return False


def _accessor(words, i):
    """Index behind the bracket that closes the one at words[i + 1]."""
    depth = 0
    for j in range(i + 1, len(words)):
        depth += (words[j][0] == "[") - (words[j][0] == "]")
        if depth == 0:
            return j + 1
    return i + 1


def _blame(expression):
    """Span of the first primitive that asks what a flow cannot tell, or None."""
    words = list(_WORD.finditer(expression))
    for i, word in enumerate(words):
        end, tail = i + 1, ""
        if word[0] in ("len", "length"):
            tail = " = 0"
        elif end < len(words) and words[end][0] == "[":
            end, tail = _accessor(words, i), " = 0"
        elif word[0] in ("less", "greater"):
            end = min(i + 2, len(words))
        span = word.start(), words[end - 1].end()
        if _unanswerable(expression[span[0]:span[1]] + tail):
            return span
    return None


def _check_flow(Filter flow_filter):
    """Which of TCP and UDP flows can match; FilterError if a flow cannot answer."""
    expression = flow_filter.expression
    try:
        return _prove(flow_filter)
    except _Unanswerable as what:
        reason, span, advice = f"it reads {what}", _blame(expression), _ADVICE
    if span is None and _uses_vlan(expression):
        # No part of it alone is to blame: what follows "vlan" was read in the wrong place.
        reason = f"behind the word 'vlan' {reason}, where a flow has no tag"
        span, advice = _word("vlan", expression).span(), _VLAN_ADVICE
    raise _error("filter cannot be judged once a flow", reason, expression, span, advice)


# ---- flows --------------------------------------------------------------------------------

cdef uint64_t _flow_tests(void *ctx, const FlowProbe *probe) noexcept nogil:
    cdef const FlowTests *tests = <const FlowTests *>ctx
    cdef const FlowTest *test
    cdef uint64_t wanted = 0
    cdef uint8_t[2][PROBE_MAX] frames
    cdef uint32_t[2] sizes = [0, 0]     # each frame is built when first needed
    cdef uint32_t i, tagged
    if probe.protocol == PROBE_TCP:
        wanted = tests.tcp
    elif probe.protocol == PROBE_UDP:
        wanted = tests.udp
    if not wanted & tests.judged:
        return wanted
    for i in range(tests.n):
        test = &tests.tests[i]
        if not wanted & test.bit:
            continue
        tagged = test.with_vlan and probe.n_vlan != 0
        if not sizes[tagged]:
            sizes[tagged] = probe_build(probe, tagged, frames[tagged])
        if not code_match(test.code, AIO_DIR_UNKNOWN, frames[tagged], sizes[tagged],
                          sizes[tagged]):
            wanted &= ~test.bit
    return wanted


cdef class FilterSet:
    """Flow filters that are judged together; the answer has a bit for each."""

    def __cinit__(self):
        self.filters = []
        self.never = []
        self._owners = []

    def __dealloc__(self):
        free(self._tests.tests)

    def __len__(self):
        return len(self.filters)

    def add(self, str protocol not None, *expressions):
        """A filter that "tcp" or "udp" flows pass if they pass every expression; its bit.

        None and "" are passed by all. FilterError if one does not compile or asks what a
        flow cannot tell; the set is then as before.
        """
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"a flow filter is for 'tcp' or 'udp', not {protocol!r}")
        if len(self.filters) == FILTER_SET_MAX:
            raise ConfigError(f"more than {FILTER_SET_MAX} flow filters in one app")
        texts = tuple(text for text in map(_text, expressions) if text is not None)
        made = [Filter(text) for text in texts]
        if not all([_check_flow(one)[protocol] for one in made]):
            self.never.append(len(self.filters))
        self._add_tests(made)
        self._want(protocol, bool(made))
        self.filters.append((protocol, texts))
        return len(self.filters) - 1

    cdef int _add_tests(self, list made) except -1:
        cdef size_t size = (self._tests.n + len(made) + 1) * sizeof(FlowTest)
        cdef FlowTest *grown = <FlowTest *>realloc(self._tests.tests, size)
        cdef Filter one
        if grown == NULL:
            raise MemoryError
        self._tests.tests = grown
        self._owners += made
        for one in made:
            grown[self._tests.n] = [&one.code, <uint64_t>1 << <int>len(self.filters),
                                    _uses_vlan(one.expression)]
            self._tests.n += 1
        return 0

    cdef void _want(self, str protocol, bint judged):
        cdef uint64_t bit = <uint64_t>1 << <int>len(self.filters)
        if protocol == "tcp":
            self._tests.tcp |= bit
        else:
            self._tests.udp |= bit
        if judged:
            self._tests.judged |= bit

    cdef uint64_t match(self, const FlowProbe *probe) noexcept nogil:
        return _flow_tests(&self._tests, probe)

    cdef flow_match_fn fn(self) noexcept nogil:
        return _flow_tests

    cdef void *ctx(self) noexcept nogil:
        return &self._tests

    def matches(self, protocol, src, sport, dst, dport, *, src_mac=bytes(6), dst_mac=bytes(6),
                vlan=()):
        """For tests and tools: the answer for one flow, addresses packed, src the client."""
        cdef FlowProbe probe
        _fill(&probe, protocol, src, sport, dst, dport, src_mac, dst_mac, vlan)
        return self.match(&probe)


cdef int _fill(FlowProbe *probe, int protocol, bytes src, int sport, bytes dst, int dport,
               bytes src_mac, bytes dst_mac, vlan) except -1:
    if len(src) not in (4, 16) or len(dst) != len(src) or len(vlan) > 2:
        raise ValueError("addresses are 4 or 16 bytes, both alike; VLAN tags at most 2")
    memset(probe, 0, sizeof(FlowProbe))
    probe.protocol, probe.sport, probe.dport = protocol, sport, dport
    probe.ip_version = 4 if len(src) == 4 else 6
    memcpy(probe.src, <const uint8_t *>src, len(src))
    memcpy(probe.dst, <const uint8_t *>dst, len(dst))
    memcpy(probe.src_mac, <const uint8_t *>src_mac, min(len(src_mac), 6))
    memcpy(probe.dst_mac, <const uint8_t *>dst_mac, min(len(dst_mac), 6))
    probe.n_vlan = len(vlan)
    for i, tag in enumerate(vlan):
        probe.vlan_tci[i] = tag
    return 0


def probe_frame(protocol, src, sport, dst, dport, *, src_mac=bytes(6), dst_mac=bytes(6),
                vlan=(), bint with_vlan=True):
    """For tests and tools: the frame that flow filters are judged on."""
    cdef FlowProbe probe
    cdef uint8_t[PROBE_MAX] frame
    _fill(&probe, protocol, src, sport, dst, dport, src_mac, dst_mac, vlan)
    return frame[:probe_build(&probe, with_vlan, frame)]
