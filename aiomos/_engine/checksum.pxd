"""The Internet checksum (RFC 1071), eight bytes at a time.

Sums are of the machine's own 16-bit words: one's complement addition gives the same in any
byte order, but for the order of the result. What overflows 64 bits is added at the other end,
which is right modulo 2^64 - 1, and so modulo its divisor 2^16 - 1.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t aio_add_around(uint64_t sum, uint64_t v)
    {
        sum += v;
        return sum + (sum < v);
    }

    /* Blocks of 32 bytes: halves of 32-bit words, each summed in a lane of its own. n is 64 KiB
     * at the most: then no lane overflows. */
    typedef uint32_t aio_words __attribute__((vector_size(16)));

    static inline aio_words aio_load(const uint8_t *p)
    {
        aio_words v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    static inline uint64_t aio_sum_lanes(const uint8_t *p, uint64_t n)
    {
        aio_words low = {0}, high = {0}, low2 = {0}, high2 = {0};
        for (; n; p += 32, n -= 32) {
            aio_words v = aio_load(p), v2 = aio_load(p + 16);
            low += v & 0xFFFF;
            high += v >> 16;
            low2 += v2 & 0xFFFF;
            high2 += v2 >> 16;
        }
        low += low2;
        high += high2;
        return ((uint64_t)low[0] + low[1]) + ((uint64_t)low[2] + low[3])
               + ((uint64_t)high[0] + high[1]) + ((uint64_t)high[2] + high[3]);
    }
    #ifdef __x86_64__
    #include <immintrin.h>
    /* The same, a block at once; words are made signed for the one instruction that adds pairs
     * of them, and what that took from each is put back. */
    __attribute__((target("avx2")))
    static uint64_t aio_sum_avx2(const uint8_t *p, uint64_t n)
    {
        const __m256i flip = _mm256_set1_epi16((short)0x8000), ones = _mm256_set1_epi16(1);
        __m256i sum = _mm256_setzero_si256();
        int64_t total = (int64_t)(n / 2) * 0x8000;
        int32_t lanes[8];
        int i;
        for (; n; p += 32, n -= 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)p);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_xor_si256(v, flip), ones));
        }
        _mm256_storeu_si256((__m256i *)lanes, sum);
        for (i = 0; i < 8; i++)
            total += lanes[i];
        return (uint64_t)total;
    }
    #define AIO_SUM_LANES(p, n) \
        (__builtin_cpu_supports("avx2") ? aio_sum_avx2(p, n) : aio_sum_lanes(p, n))
    #else
    #define AIO_SUM_LANES(p, n) aio_sum_lanes(p, n)
    #endif

    /* Whole blocks; what is left is less than one. */
    static inline uint64_t aio_sum_blocks(const uint8_t **p, uint64_t *n)
    {
        uint64_t sum = 0;
        while (*n >= 32) {
            uint64_t part = (*n < 65536 ? *n : 65536) & ~(uint64_t)31;
            sum += AIO_SUM_LANES(*p, part);
            *p += part;
            *n -= part;
        }
        return sum;
    }
    /* Of a word of which only the last n bytes have not been summed. */
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define AIO_FIRST_BYTE(v) (v)
    #define AIO_LAST_BYTES(v, n) ((v) >> (64 - 8 * (n)))
    #else
    #define AIO_FIRST_BYTE(v) ((uint64_t)(v) << 8)
    #define AIO_LAST_BYTES(v, n) ((v) << (64 - 8 * (n)))
    #endif
    static inline uint64_t aio_sum_few(const uint8_t *p, uint64_t n, uint64_t sum)
    {
        for (; n >= 2; p += 2, n -= 2) {
            uint16_t w;
            memcpy(&w, p, 2);
            sum = aio_add_around(sum, w);
        }
        return n ? aio_add_around(sum, AIO_FIRST_BYTE(*p)) : sum;
    }
    /* Frames are mostly short, and of any length: the less is asked about it, the less is
     * guessed wrong. What is left of a word is read with the bytes in front of it, and they
     * are shifted out. */
    static inline uint64_t aio_sum(const uint8_t *p, uint64_t n, uint64_t sum)
    {
        uint64_t v;
        if (n < 8)
            return aio_sum_few(p, n, sum);
        if (n >= 128)
            sum = aio_add_around(sum, aio_sum_blocks(&p, &n));
        for (; n >= 8; p += 8, n -= 8) {
            memcpy(&v, p, 8);
            sum = aio_add_around(sum, v);
        }
        if (n) {
            memcpy(&v, p + n - 8, 8);
            sum = aio_add_around(sum, AIO_LAST_BYTES(v, n));
        }
        return sum;
    }
    /* Of an IPv4 header without options. */
    static inline uint64_t aio_sum20(const uint8_t *p)
    {
        uint64_t a, b;
        uint32_t c;
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        memcpy(&c, p + 16, 4);
        return aio_add_around(aio_add_around(a, b), c);
    }
    /* Both halves with the carry of their sum, in the upper one; then the same of that. */
    static inline uint16_t aio_fold(uint64_t sum)
    {
        uint32_t half = (uint32_t)((sum + (sum << 32 | sum >> 32)) >> 32);
        return (uint16_t)((half + (half << 16 | half >> 16)) >> 16);
    }
    #define aio_swap16(v) __builtin_bswap16(v)
    #define aio_swap32(v) __builtin_bswap32(v)
    """
    # Adds n bytes, the last of an odd number padded with a zero.
    uint64_t sum_bytes "aio_sum"(const uint8_t *p, uint64_t n, uint64_t sum) noexcept nogil
    # The same of n bytes, 32 or a multiple of it and 64 KiB at the most, without AVX2.
    uint64_t sum_portable "aio_sum_lanes"(const uint8_t *p, uint64_t n) noexcept nogil
    uint64_t sum_20_bytes "aio_sum20"(const uint8_t *p) noexcept nogil
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
