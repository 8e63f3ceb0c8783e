/* In front of every module of the engine in a fuzzing build: bytes moved count as work. */
#ifndef AIO_COUNTED_H
#define AIO_COUNTED_H

#define _GNU_SOURCE 1 /* as Python.h, which comes too late for it here */
#include <string.h>

extern unsigned long long aio_fuzz_work;

static inline void *aio_counted_memcpy(void *to, const void *from, size_t n)
{
    aio_fuzz_work += n / 64;
    return memcpy(to, from, n);
}

static inline void *aio_counted_memmove(void *to, const void *from, size_t n)
{
    aio_fuzz_work += n / 64;
    return memmove(to, from, n);
}

static inline int aio_counted_memcmp(const void *a, const void *b, size_t n)
{
    aio_fuzz_work += n / 64;
    return memcmp(a, b, n);
}

#define memcpy aio_counted_memcpy
#define memmove aio_counted_memmove
#define memcmp aio_counted_memcmp

#endif
