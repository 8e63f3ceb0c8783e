"""What a worker has counted, in memory that outlives it: written after each burst.

Two pages of numbers are written in turns, and then which of them counts. So whoever is killed, at
whatever instruction, leaves one that is whole, and no older than its last burst.
"""
from libc.stdint cimport uint8_t, uint64_t

from aiomos._engine.defrag cimport DEFRAG_COUNTERS
from aiomos._engine.state cimport COUNTERS, CoreState
from aiomos._engine.walk cimport WIRE_STATUSES

cdef struct LedgerPage:
    uint64_t filtered
    uint64_t handler_errors
    uint64_t distributed      # frames given to workers
    uint64_t frames
    uint64_t bytes
    uint64_t clock_steps_back
    uint64_t clock_jumps
    uint64_t counters[COUNTERS]
    uint64_t by_status[WIRE_STATUSES]
    uint64_t defrag[DEFRAG_COUNTERS]

cdef struct LedgerBook:
    uint64_t turn             # pages[turn & 1] counts; 0: none does
    LedgerPage pages[2]


cdef class Ledger:
    cdef object memory
    cdef readonly int fd
    cdef LedgerBook *book

    cdef void note(self, const CoreState *cs, uint64_t filtered,
                   uint64_t handler_errors) noexcept nogil
    cdef void note_distributed(self, uint64_t frames) noexcept nogil
