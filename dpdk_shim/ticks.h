/* ticks.h -- time stamps in the units that a pcapng interface may choose. */
#ifndef AIO_TICKS_H
#define AIO_TICKS_H

#include <stdbool.h>
#include <stdint.h>

/* No time is further from 1970 than this (the years 1823 to 2116, all that pcap has): sums
 * of a time and any delay stay within 64 bits. */
#define AIO_TIME_LIMIT ((int64_t)1 << 62)

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

/* Any unit, offset included. What would be beyond the limit is read as a time before
 * 1970, if it can be one (there are such captures), and else ends at the limit. */
int64_t aio_ticks_odd(const struct aio_ticks *t, uint64_t ticks);

static inline int64_t aio_ticks_ns(const struct aio_ticks *t, uint64_t ticks)
{
    uint64_t ns;

    if (t->plain && !__builtin_mul_overflow(ticks, t->multiply, &ns) &&
        ns <= AIO_TIME_LIMIT)
        return (int64_t)ns;
    return aio_ticks_odd(t, ticks);
}

#endif
