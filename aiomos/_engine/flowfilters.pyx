"""Flow filters: checked when made, then judged once a flow (flowfilters.pxd)."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from aiomos._engine.filters cimport Filter, code_match
from aiomos._engine.flowprobe cimport PROBE_MAX, PROBE_TCP, PROBE_UDP, probe_build
from aiomos._engine.shim cimport AIO_DIR_UNKNOWN

from aiomos._engine.errors import ConfigError, FilterError
from aiomos._engine.filterproof import Unanswerable, prove
from aiomos._engine.filters import filter_text
from aiomos._engine.filtertext import filter_error, find_word, uses_vlan, words_of

_ADVICE = (
    "A flow filter can ask for MAC addresses, EtherType, VLAN tag, IP version, protocol,\n"
    "addresses, fragment field, ports and TCP flags; @app.packet takes the whole language.")
_VLAN_ADVICE = (
    "After the word 'vlan' all that follows is read four bytes further on, with or without\n"
    "a tag: write it last ('port 80 or vlan'), or join what is for tagged flows with 'and'.")


def _prove(flow_filter):
    if flow_filter.directed:
        raise Unanswerable("the direction of a frame")
    return prove(flow_filter.program, uses_vlan(flow_filter.expression))


def _unanswerable(text):
    """Whether a piece of an expression alone is one that no flow can answer."""
    try:
        _prove(Filter(text))
    except Unanswerable:
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
    words = words_of(expression)
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


def _check_flow(flow_filter):
    """Which of TCP and UDP flows can match; FilterError if a flow cannot answer."""
    expression = flow_filter.expression
    try:
        return _prove(flow_filter)
    except Unanswerable as what:
        reason, span, advice = f"it reads {what}", _blame(expression), _ADVICE
    if span is None and uses_vlan(expression):
        # No part of it alone is to blame: what follows "vlan" was read in the wrong place.
        reason = f"behind the word 'vlan' {reason}, where a flow has no tag"
        span, advice = find_word("vlan", expression), _VLAN_ADVICE
    raise filter_error("filter cannot be judged once a flow", reason, expression, span, advice)


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
    """Flow filters that are judged together; the answer has a bit for each.

    ``bits``: those that the filters get, in order, instead of 0, 1, 2 and so on.
    """

    def __cinit__(self, bits=range(FILTER_SET_MAX)):
        self._free = list(bits)
        self.filters = []
        self.bits = []
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
        if not self._free:
            raise ConfigError(f"more than {FILTER_SET_MAX} flow filters in one app")
        bit = self._free[0]
        texts = tuple([text for text in map(filter_text, expressions) if text is not None])
        made = [Filter(text) for text in texts]
        if not all([_check_flow(one)[protocol] for one in made]):
            self.never.append(bit)
        self._add_tests(made, <uint64_t>1 << <int>bit)
        self._want(protocol, <uint64_t>1 << <int>bit, bool(made))
        self.filters.append((protocol, texts))
        self.bits.append(self._free.pop(0))
        return bit

    cdef int _add_tests(self, list made, uint64_t bit) except -1:
        cdef size_t size = (self._tests.n + len(made) + 1) * sizeof(FlowTest)
        cdef FlowTest *grown = <FlowTest *>realloc(self._tests.tests, size)
        cdef Filter one
        if grown == NULL:
            raise MemoryError
        self._tests.tests = grown
        self._owners += made
        for one in made:
            grown[self._tests.n] = [&one.code, bit, uses_vlan(one.expression)]
            self._tests.n += 1
        return 0

    cdef void _want(self, str protocol, uint64_t bit, bint judged):
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
