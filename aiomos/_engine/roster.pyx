"""Handlers by bit; see roster.pxd."""
from libc.stdint cimport uint32_t, uint64_t

from aiomos._engine.flow cimport FLOW_CLOSED, FLOW_UNLINKED, Flow
from aiomos._engine.flowtable cimport FlowTable
from aiomos._engine.handler cimport Handler
from aiomos._engine.limits cimport CLIENT, MAX_HANDLERS, SERVER
from aiomos._engine.probe cimport match_flow
from aiomos._engine.state cimport START_POINTS


cdef class Roster:
    """Nobody's at first."""

    def __init__(self, Core core not None):
        self.core = core
        self.by_bit = [None] * MAX_HANDLERS

    def free_bits(self):
        """Those that no open flow waits with, in order: also those of the present handlers.

        Looks at all flows: for what is seldom asked.
        """
        cdef uint64_t taken = self.awaited()
        return [bit for bit in range(MAX_HANDLERS) if not taken >> <int>bit & 1]

    def take(self, handlers, FilterSet filters not None):
        """New flows are for these handlers, whose filters the set has, in the same order.

        Flows that earlier ones wanted stay theirs, also those that have not begun: the set's bits
        are free ones.
        """
        cs = self.core.state
        for handler, bit in zip(handlers, filters.bits, strict=True):
            self.enter(bit, handler)
        cs.match = NULL
        if len(filters):
            cs.match = match_flow
        cs.match_context = <void *>filters
        self.core.keep = self.filters = filters

    cdef int enter(self, int bit, object handler) except -1:
        """Tells the core what this handler is interested in, and forgets whose the bit was."""
        cdef Handler new = handler
        cdef Handler before = self.by_bit[bit]
        cdef uint64_t mask = <uint64_t>1 << bit
        cdef int i
        cs = self.core.state
        if before is not None:
            self.started_before += before.started
        self.by_bit[bit] = new
        for i in range(START_POINTS):
            cs.start_masks[i] &= ~mask
        cs.start_masks[new.start] |= mask
        cs.sides_masks[CLIENT] &= ~mask
        cs.sides_masks[SERVER] &= ~mask
        cs.sides_masks[CLIENT] |= mask if new.sides & 1 else 0
        cs.sides_masks[SERVER] |= mask if new.sides & 2 else 0
        cs.targets.asking &= ~mask
        cs.targets.by_prefix &= ~mask
        self.core.ask(bit, new.policy, new.by_prefix)
        return 0

    cdef uint64_t awaited(self) noexcept nogil:
        """Bits of the handlers that some open flow wants and has not begun with."""
        cdef FlowTable *t = &self.core.state.table
        cdef const Flow *f
        cdef uint64_t found = 0
        cdef uint32_t i
        for i in range(1, t.high + 1):
            f = &t.flows[i]
            if f.index != 0 and not f.flags & (FLOW_CLOSED | FLOW_UNLINKED):
                found |= f.waiting
        return found

    def awaits(self, handlers):
        """Whether a flow is open that one of these handlers wants and has not begun with."""
        cdef uint64_t mask = 0
        cdef int bit
        for bit in range(MAX_HANDLERS):
            if self.by_bit[bit] in handlers:
                mask |= <uint64_t>1 << bit
        return self.awaited() & mask != 0

    @property
    def started(self):
        """Flows that handlers have begun with, since the engine's beginning."""
        return self.started_before + sum([h.started for h in self.by_bit if h is not None])
