"""The Internet checksum (RFC 1071), eight bytes at a time.

Sums are of the machine's own 16-bit words: one's complement addition gives the same in any
byte order, but for the order of the result. A sum has 64 bits and room for 4 GiB.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Two accumulators of halves: no carry to wait for, and compilers make vectors of it. */
    static inline uint64_t aio_sum(const uint8_t *p, uint64_t n, uint64_t sum)
    {
        uint64_t low = 0, high = 0;
        while (n >= 32) {
            uint64_t v[4];
            memcpy(v, p, 32);
            low += (v[0] & 0xFFFFFFFF) + (v[1] & 0xFFFFFFFF) + (v[2] & 0xFFFFFFFF)
                   + (v[3] & 0xFFFFFFFF);
            high += (v[0] >> 32) + (v[1] >> 32) + (v[2] >> 32) + (v[3] >> 32);
            p += 32;
            n -= 32;
        }
        while (n >= 4) {
            uint32_t w;
            memcpy(&w, p, 4);
            low += w;
            p += 4;
            n -= 4;
        }
        if (n) {
            uint32_t w = 0;
            memcpy(&w, p, n);
            low += w;
        }
        return sum + low + high;
    }
    static inline uint16_t aio_fold(uint64_t sum)
    {
        sum = (sum & 0xFFFFFFFF) + (sum >> 32);
        sum = (sum & 0xFFFFFFFF) + (sum >> 32);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        return (uint16_t)sum;
    }
    #define aio_swap16(v) __builtin_bswap16(v)
    #define aio_swap32(v) __builtin_bswap32(v)
    """
    # Adds n bytes, the last of an odd number padded with a zero.
    uint64_t sum_bytes "aio_sum"(const uint8_t *p, uint64_t n, uint64_t sum) noexcept nogil
    uint16_t sum_fold "aio_fold"(uint64_t sum) noexcept nogil
    # A number as the word that stands for it in a header.
    uint16_t swap16 "aio_swap16"(uint16_t v) noexcept nogil
    uint32_t swap32 "aio_swap32"(uint32_t v) noexcept nogil

# What belongs into the checksum field of these bytes, whose own field is zero.
cdef inline uint16_t checksum_of(const uint8_t *p, uint64_t n) noexcept nogil:
    return ~swap16(sum_fold(sum_bytes(p, n, 0)))

# Whether bytes with their checksum among them, and what `sum` holds already, are sound.
cdef inline bint checksum_right(uint64_t sum) noexcept nogil:
    return sum_fold(sum) == 0xFFFF
