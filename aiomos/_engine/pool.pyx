"""Power-of-two blocks on free lists."""
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from aiomos._engine.intrinsics cimport clz64, unlikely


cdef void pool_init(Pool *pool, uint64_t budget) noexcept nogil:
    memset(pool, 0, sizeof(Pool))
    pool.budget = budget
    pool.keep = POOL_CACHE_BYTES
    pool.high = UINT64_MAX
    if budget >= POOL_LEAST_MARKED:
        pool.high = budget - budget // 8
        pool.low = budget - budget // 4


cdef void pool_clear(Pool *pool) noexcept nogil:
    pool_trim(pool)


cdef uint64_t pool_trim(Pool *pool) noexcept nogil:
    cdef uint64_t freed = pool.idle
    cdef PoolBlock *block
    cdef int i
    for i in range(POOL_CLASSES):
        while pool.free[i] != NULL:
            block = pool.free[i]
            pool.free[i] = block.next
            free(block)
        pool.cached[i] = 0
    pool.idle = 0
    return freed


cdef inline int size_class(uint64_t size) noexcept nogil:
    """0 for up to 64 bytes, 1 for up to 128, and so on."""
    if size <= <uint64_t>1 << POOL_MIN_SHIFT:
        return 0
    return 64 - <int>clz64(size - 1) - POOL_MIN_SHIFT


cdef void *pool_get_as(Pool *pool, int owner, uint64_t size, uint32_t *got) noexcept nogil:
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
    pool.charged[owner] += bytes
    pool.blocks += 1
    if pool.used > pool.peak:
        pool.peak = pool.used
    if unlikely(pool_held(pool) > pool.high):
        sound_alarm(pool)
    got[0] = <uint32_t>bytes
    return block


cdef void sound_alarm(Pool *pool) noexcept nogil:
    if pool.tight:
        return
    pool.tight = True
    if pool.alarm != NULL:
        pool.alarm[0] = True


cdef inline PoolBlock *take_block(Pool *pool, int i, uint64_t bytes) noexcept nogil:
    cdef PoolBlock *block = pool.free[i]
    if pool_held(pool) + bytes > pool.budget:
        return NULL
    if block != NULL:
        pool.free[i] = block.next
        pool.cached[i] -= 1
        pool.idle -= bytes
        return block
    if unlikely(pool_held(pool) + pool.idle + bytes > pool.budget):
        pool_trim(pool)              # blocks of other sizes, which nobody uses
    pool.heap += 1
    return <PoolBlock *>malloc(bytes)


cdef void pool_put_as(Pool *pool, int owner, void *block, uint32_t size) noexcept nogil:
    cdef int i = size_class(size)
    pool.used -= size
    pool.charged[owner] -= size
    pool.blocks -= 1
    if (<uint64_t>pool.cached[i] + 1) * size > pool.keep:
        free(block)
        return
    (<PoolBlock *>block).next = pool.free[i]
    pool.free[i] = <PoolBlock *>block
    pool.cached[i] += 1
    pool.idle += size


cdef void pool_charge(Pool *pool, int owner, int64_t bytes) noexcept nogil:
    pool.other += <uint64_t>bytes        # modulo 2**64: a negative number takes away
    pool.charged[owner] += <uint64_t>bytes
    if bytes > 0 and unlikely(pool_held(pool) > pool.high):
        sound_alarm(pool)
