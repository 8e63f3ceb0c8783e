/* ticks.h -- time stamps in the units that a pcapng interface may choose. */
#ifndef AIO_TICKS_H
#define AIO_TICKS_H

#include <stdbool.h>
#include <stdint.h>

/* ns = ticks * multiply / divide; or, when binary, ticks are 2 ** -shift seconds. */
struct aio_ticks {
    uint64_t multiply, divide;
    int64_t offset_s; /* to be added to all time stamps */
    uint8_t shift;
    bool binary;
    bool plain; /* divide and offset change nothing */
};

/* resolution as in if_tsresol: 10 ** -n seconds, or with the upper bit set 2 ** -n. */
void aio_ticks_set(struct aio_ticks *t, uint8_t resolution, int64_t offset_s);

/* ns in one tick, at least 1. */
uint32_t aio_ticks_precision(const struct aio_ticks *t);

/* Any unit, offset included; what 64 bits cannot hold ends at their limits. */
int64_t aio_ticks_odd(const struct aio_ticks *t, uint64_t ticks);

static inline int64_t aio_ticks_ns(const struct aio_ticks *t, uint64_t ticks)
{
    uint64_t ns;

    if (t->plain && !__builtin_mul_overflow(ticks, t->multiply, &ns) && ns <= INT64_MAX)
        return (int64_t)ns;
    return aio_ticks_odd(t, ticks);
}

#endif
