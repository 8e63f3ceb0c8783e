/* dpdk_time.c -- the machine's clock, and stamps of a device's clock converted to it. */
#include "dpdk_private.h"

#include <rte_cycles.h>

#include <time.h>

#define SECOND INT64_C(1000000000)
#define FIRST_MS 20 /* how long the clock's rate is measured at the start */

int64_t aio_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

/* Both clocks read at nearly one moment: the machine's is taken before and after. */
static bool read_both(uint16_t port, uint64_t *ticks, int64_t *ns)
{
    int64_t before = aio_clock_now();

    if (rte_eth_read_clock(port, ticks) != 0)
        return false;
    *ns = before + (aio_clock_now() - before) / 2;
    return true;
}

bool aio_clock_start(struct aio_dev_clock *clock, uint16_t port)
{
    if (!read_both(port, &clock->first_ticks, &clock->first_ns))
        return false;
    rte_delay_ms(FIRST_MS);
    return read_both(port, &clock->last_ticks, &clock->last_ns) &&
           clock->last_ticks > clock->first_ticks && clock->last_ns > clock->first_ns;
}

void aio_clock_refresh(struct aio_dev_clock *clock, uint16_t port, int64_t now)
{
    struct aio_dev_clock next = *clock;

    if (now - clock->last_ns < SECOND)
        return;
    /* The rate comes from the last second or so: it follows a clock that is being slewed. */
    next.first_ticks = clock->last_ticks;
    next.first_ns = clock->last_ns;
    if (read_both(port, &next.last_ticks, &next.last_ns) &&
        next.last_ticks > next.first_ticks && next.last_ns > next.first_ns)
        *clock = next;
}

int64_t aio_clock_convert(const struct aio_dev_clock *clock, uint64_t ticks)
{
    double ns_per_tick = (double)(clock->last_ns - clock->first_ns) /
                         (double)(clock->last_ticks - clock->first_ticks);
    int64_t since = (int64_t)(ticks - clock->last_ticks);

    return clock->last_ns + (int64_t)((double)since * ns_per_tick);
}
