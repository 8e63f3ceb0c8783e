/* base.c -- holds on frames and the operations that all sources of capture time share. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void aio_base_init(struct aio_base *base, const struct aio_source_ops *ops, uint32_t caps,
                   uint64_t retain_budget)
{
    memset(base, 0, sizeof *base);
    base->pub.ops = ops;
    base->pub.caps = caps;
    base->pub.time_precision = 1;
    base->held.prev = base->held.next = &base->held;
    aio_pool_init(&base->pool, base, retain_budget);
}

void aio_base_close(struct aio_base *base)
{
    base->closing = true;
    while (base->held.next != &base->held) {
        base->held.next->refs = 1;
        aio_owner_put(base->held.next);
    }
    aio_pool_free(&base->pool);
}

void aio_owner_take(struct aio_base *base, struct aio_owner *owner,
                    void (*drop)(struct aio_owner *))
{
    owner->src = &base->pub;
    owner->drop = drop;
    owner->refs = 1;
    owner->pooled = false;
    owner->prev = &base->held;
    owner->next = base->held.next;
    owner->next->prev = owner;
    base->held.next = owner;
}

void aio_owner_put(struct aio_owner *owner)
{
    if (--owner->refs > 0)
        return;
    owner->prev->next = owner->next;
    owner->next->prev = owner->prev;
    owner->drop(owner);
}

void aio_base_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        aio_owner_put(frames[i].owner);
    aio_base_of(src)->stats.outstanding -= n;
}

/* A ring's bytes are gone with the next burst, so a hold on them means a copy; but a
 * copy is held as often as anybody likes. */
int aio_base_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_base *base = aio_base_of(src);
    struct aio_owner *owner = frame->owner;

    if (owner->pooled || !(src->caps & AIO_CAP_RING)) {
        owner->refs++;
    } else if (!aio_pool_copy(&base->pool, frame)) {
        base->stats.dropped_pool++;
        strcpy(src->message, "the retain pool's budget is used up");
        return AIO_ENOMEM;
    }
    base->stats.outstanding++;
    return AIO_OK;
}

int aio_base_no_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n)
{
    (void)port, (void)frames, (void)n;
    return aio_fail(src, AIO_ENOTSUP, "a capture file takes no frames");
}

int aio_base_no_descriptor(struct aio_source *src)
{
    (void)src;
    return -1;
}

void aio_base_stats(struct aio_source *src, struct aio_source_stats *out)
{
    *out = aio_base_of(src)->stats;
}

int aio_severity(int result)
{
    static const int order[] = {AIO_END, AIO_CUT, AIO_ECORRUPT};

    for (int i = 0; i < 3; i++)
        if (result == order[i])
            return i;
    return 3;
}

void aio_stats_add_parts(struct aio_source_stats *sum, const struct aio_source_stats *one)
{
    sum->dropped_nic += one->dropped_nic;
    sum->dropped_kernel += one->dropped_kernel;
    sum->dropped_ring += one->dropped_ring;
    sum->dropped_pool += one->dropped_pool;
    sum->cut += one->cut;
    sum->outstanding += one->outstanding;
    sum->queued += one->queued;
    sum->input_pos += one->input_pos;
    sum->input_size += one->input_size;
}

int aio_fail(struct aio_source *src, int result, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(src->message, sizeof src->message, format, args);
    va_end(args);
    return result;
}
