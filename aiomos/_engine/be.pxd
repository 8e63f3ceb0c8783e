"""Big-endian loads from any address, and stores to it."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint16_t aio_be16(const uint8_t *p)
    { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
    static inline uint32_t aio_be32(const uint8_t *p)
    { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
    static inline uint32_t aio_raw32(const uint8_t *p)
    { uint32_t v; memcpy(&v, p, 4); return v; }
    static inline uint64_t aio_raw64(const uint8_t *p)
    { uint64_t v; memcpy(&v, p, 8); return v; }
    static inline void aio_put16(uint8_t *p, uint16_t v)
    { v = __builtin_bswap16(v); memcpy(p, &v, 2); }
    """
    uint16_t be16 "aio_be16"(const uint8_t *p) noexcept nogil
    uint32_t be32 "aio_be32"(const uint8_t *p) noexcept nogil
    void put16 "aio_put16"(uint8_t *p, uint16_t v) noexcept nogil
    # In the machine's own order: to compare and to hash, never to calculate.
    uint32_t raw32 "aio_raw32"(const uint8_t *p) noexcept nogil
    uint64_t raw64 "aio_raw64"(const uint8_t *p) noexcept nogil
