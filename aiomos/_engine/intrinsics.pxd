"""What the compiler knows and Cython has no words for: wide multiply, early loads, hints."""
from libc.stdint cimport uint64_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t aio_mum(uint64_t a, uint64_t b)
    {
        __uint128_t r = (__uint128_t)a * b;
        return (uint64_t)(r >> 64) ^ (uint64_t)r;
    }
    /* Brings a line of memory near. A load whose result nobody waits for, and no prefetch: that may
       be dropped where the address is not in the TLB, which is where it is wanted most. */
    #define aio_fetch(p) ((void)*(const volatile char *)(p))
    #define aio_likely(x) __builtin_expect(!!(x), 1)
    #define aio_unlikely(x) __builtin_expect(!!(x), 0)
    #define aio_ctz64(x) ((uint32_t)__builtin_ctzll(x))
    #define aio_clz64(x) ((uint32_t)__builtin_clzll(x))
    """
    uint64_t aio_mum(uint64_t a, uint64_t b) noexcept nogil
    void aio_fetch(const void *p) noexcept nogil
    bint likely "aio_likely"(bint x) noexcept nogil
    bint unlikely "aio_unlikely"(bint x) noexcept nogil
    uint32_t ctz64 "aio_ctz64"(uint64_t x) noexcept nogil
    uint32_t clz64 "aio_clz64"(uint64_t x) noexcept nogil
