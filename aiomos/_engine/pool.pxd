"""Blocks of memory in powers of two, cached when given back, under one budget.

Everything that grows with traffic and is not a flow entry comes from here: stream
buffers, out-of-order pieces, lists of gaps. Being refused is a result, not an error. Each
byte is charged to an owner, so that people can see where the budget went.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

# Whom memory is charged to; names.MEMORY has the same list for people.
cdef enum:
    MEM_READERS = 0           # streams, bytes that readers have not taken, history behind them
    MEM_EARLY = 1             # the out-of-order store
    MEM_FRAGMENTS = 2         # datagrams that are not whole yet
    MEM_STATS = 3             # extended statistics
    MEM_OBJECTS = 4           # Python objects of handlers, estimated; no blocks of this pool
    MEM_OWNERS = 5

cdef enum:
    POOL_MIN_SHIFT = 6        # smallest block: 64 bytes
    POOL_MAX_SHIFT = 26       # largest: 64 MiB
    POOL_CLASSES = POOL_MAX_SHIFT - POOL_MIN_SHIFT + 1
    POOL_CACHE_BYTES = 1 << 23  # kept of one size for the next who asks
    POOL_LEAST_MARKED = 1 << 16 # smaller budgets are refused at their end, not relieved before

cdef struct PoolBlock:
    PoolBlock *next

cdef struct Pool:
    PoolBlock *free[POOL_CLASSES]
    uint32_t cached[POOL_CLASSES]
    uint64_t used             # bytes of blocks given out now
    uint64_t other            # bytes charged that are no blocks
    uint64_t idle             # bytes of cached blocks: the first to go when memory is short
    uint64_t peak             # of used
    uint64_t budget
    uint64_t high             # beyond it memory is short: `tight` is set ...
    uint64_t low              # ... until it is below this (shed.pyx)
    uint64_t refused          # times the budget or the system said no
    uint64_t blocks           # given out now (leak counter)
    uint64_t heap             # calls to malloc so far
    uint64_t keep             # bytes cached of one size; 0: every block from malloc (fuzzing)
    uint64_t charged[MEM_OWNERS]
    bint *alarm               # set together with tight: the burst ends, readers get their turn
    bint tight

cdef void pool_init(Pool *pool, uint64_t budget) noexcept nogil
cdef void pool_clear(Pool *pool) noexcept nogil
# A block of at least size bytes, *got bytes long; NULL when refused.
cdef void *pool_get_as(Pool *pool, int owner, uint64_t size, uint32_t *got) noexcept nogil
# size is what pool_get_as() said it got.
cdef void pool_put_as(Pool *pool, int owner, void *block, uint32_t size) noexcept nogil
# Gives cached blocks back to the system; their bytes.
cdef uint64_t pool_trim(Pool *pool) noexcept nogil
# Memory that somebody else allocated (bytes may be negative).
cdef void pool_charge(Pool *pool, int owner, int64_t bytes) noexcept nogil

cdef inline uint64_t pool_held(const Pool *pool) noexcept nogil:
    return pool.used + pool.other

# Of a module that has one owner only; the others import these under the names of the first two.
cdef inline void *pool_get(Pool *pool, uint64_t size, uint32_t *got) noexcept nogil:
    return pool_get_as(pool, MEM_READERS, size, got)

cdef inline void pool_put(Pool *pool, void *block, uint32_t size) noexcept nogil:
    pool_put_as(pool, MEM_READERS, block, size)

cdef inline void *pool_get_early(Pool *pool, uint64_t size, uint32_t *got) noexcept nogil:
    return pool_get_as(pool, MEM_EARLY, size, got)

cdef inline void pool_put_early(Pool *pool, void *block, uint32_t size) noexcept nogil:
    pool_put_as(pool, MEM_EARLY, block, size)

cdef inline void *pool_get_fragment(Pool *pool, uint64_t size, uint32_t *got) noexcept nogil:
    return pool_get_as(pool, MEM_FRAGMENTS, size, got)

cdef inline void pool_put_fragment(Pool *pool, void *block, uint32_t size) noexcept nogil:
    pool_put_as(pool, MEM_FRAGMENTS, block, size)
