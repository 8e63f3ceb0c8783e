/* ticks.c -- units of time that are not worth a place in the record loop. */
#include "ticks.h"

#define NS_PER_S 1000000000

__extension__ typedef __int128 wide;

static uint64_t power_of_ten(unsigned n)
{
    uint64_t power = 1;

    while (n-- > 0)
        power *= 10;
    return power;
}

void aio_ticks_set(struct aio_ticks *t, uint8_t resolution, int64_t offset_s)
{
    unsigned n = resolution & 0x7f;

    t->binary = resolution & 0x80;
    t->shift = (uint8_t)n;
    t->multiply = n <= 9 ? power_of_ten(9 - n) : 1;
    t->divide = n <= 9 ? 1 : 0; /* 0: a tick is too short for 64 bits to reach 1 ns */
    if (n > 9 && n <= 28)
        t->divide = power_of_ten(n - 9);
    t->offset_s = offset_s;
    t->plain = !t->binary && t->divide == 1 && offset_s == 0;
}

uint32_t aio_ticks_precision(const struct aio_ticks *t)
{
    if (t->binary)
        return t->shift < 30 ? NS_PER_S >> t->shift : 1;
    return (uint32_t)t->multiply;
}

static wide wide_ns(const struct aio_ticks *t, wide ticks)
{
    wide ns = 0;

    if (t->binary)
        ns = ticks * NS_PER_S / ((wide)1 << (t->shift < 96 ? t->shift : 96));
    else if (t->divide)
        ns = ticks * (wide)t->multiply / (wide)t->divide;
    return ns + (wide)t->offset_s * NS_PER_S;
}

int64_t aio_ticks_odd(const struct aio_ticks *t, uint64_t ticks)
{
    wide ns = wide_ns(t, ticks);

    if (ns > AIO_TIME_LIMIT && ticks > INT64_MAX)
        ns = wide_ns(t, (int64_t)ticks);
    if (ns > AIO_TIME_LIMIT)
        return AIO_TIME_LIMIT;
    return ns > -AIO_TIME_LIMIT ? (int64_t)ns : -AIO_TIME_LIMIT;
}
