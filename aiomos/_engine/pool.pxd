"""Blocks of memory in powers of two, cached when given back, under one budget.

Everything that grows with traffic and is not a flow entry comes from here: stream
buffers, out-of-order pieces, lists of gaps. Being refused is a result, not an error.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    POOL_MIN_SHIFT = 6        # smallest block: 64 bytes
    POOL_MAX_SHIFT = 26       # largest: 64 MiB
    POOL_CLASSES = POOL_MAX_SHIFT - POOL_MIN_SHIFT + 1
    POOL_CACHE_BYTES = 1 << 23  # kept of one size for the next who asks

cdef struct PoolBlock:
    PoolBlock *next

cdef struct Pool:
    PoolBlock *free[POOL_CLASSES]
    uint32_t cached[POOL_CLASSES]
    uint64_t used             # bytes given out now
    uint64_t peak
    uint64_t budget
    uint64_t refused          # times the budget or the system said no
    uint64_t blocks           # given out now (leak counter)
    uint64_t heap             # calls to malloc so far
    uint64_t keep             # bytes cached of one size; 0: every block from malloc (fuzzing)

cdef void pool_init(Pool *pool, uint64_t budget) noexcept nogil
cdef void pool_clear(Pool *pool) noexcept nogil
# A block of at least size bytes, *got bytes long; NULL when refused.
cdef void *pool_get(Pool *pool, uint64_t size, uint32_t *got) noexcept nogil
# size is what pool_get() said it got.
cdef void pool_put(Pool *pool, void *block, uint32_t size) noexcept nogil
