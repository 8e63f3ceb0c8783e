"""Power-of-two blocks on free lists."""
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from aiomos._engine.intrinsics cimport clz64


cdef void pool_init(Pool *pool, uint64_t budget) noexcept nogil:
    memset(pool, 0, sizeof(Pool))
    pool.budget = budget


cdef void pool_clear(Pool *pool) noexcept nogil:
    cdef PoolBlock *block
    cdef int i
    for i in range(POOL_CLASSES):
        while pool.free[i] != NULL:
            block = pool.free[i]
            pool.free[i] = block.next
            free(block)
        pool.cached[i] = 0


cdef inline int size_class(uint64_t size) noexcept nogil:
    """The smallest power of two that holds it, counted from the smallest block."""
    if size <= <uint64_t>1 << POOL_MIN_SHIFT:
        return 0
    return 64 - POOL_MIN_SHIFT - clz64(size - 1)


cdef void *pool_get(Pool *pool, uint64_t size, uint32_t *got) noexcept nogil:
    cdef int i
    cdef uint64_t bytes
    cdef PoolBlock *block
    if size > (<uint64_t>1 << POOL_MAX_SHIFT):
        pool.refused += 1
        return NULL
    i = size_class(size)
    bytes = <uint64_t>1 << (i + POOL_MIN_SHIFT)
    block = take_block(pool, i, bytes)
    if block == NULL:
        pool.refused += 1
        return NULL
    pool.used += bytes
    pool.blocks += 1
    if pool.used > pool.peak:
        pool.peak = pool.used
    got[0] = <uint32_t>bytes
    return block


cdef inline PoolBlock *take_block(Pool *pool, int i, uint64_t bytes) noexcept nogil:
    cdef PoolBlock *block = pool.free[i]
    if pool.used + bytes > pool.budget:
        return NULL
    if block != NULL:
        pool.free[i] = block.next
        pool.cached[i] -= 1
        return block
    pool.heap += 1
    return <PoolBlock *>malloc(bytes)


cdef void pool_put(Pool *pool, void *block, uint32_t size) noexcept nogil:
    cdef int i = size_class(size)
    pool.used -= size
    pool.blocks -= 1
    if (<uint64_t>pool.cached[i] + 1) * size > POOL_CACHE_BYTES:
        free(block)
        return
    (<PoolBlock *>block).next = pool.free[i]
    pool.free[i] = <PoolBlock *>block
    pool.cached[i] += 1
