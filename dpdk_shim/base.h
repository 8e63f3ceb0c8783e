/* base.h -- what the sources of capture time (memory, file, merge) have in common: how
 * the owner behind a frame is laid out, holds and their return, counters, messages.
 *
 * Every frame's owner points to a struct aio_owner, so giving a frame back needs no
 * look at what kind of source it came from, and a merge finds the part to give it to.
 */
#ifndef AIO_BASE_H
#define AIO_BASE_H

#include "pool.h"
#include "shim.h"

#include <stdbool.h>

/* Whatever keeps the bytes of one or more frames alive: a window of a file, a copy in
 * the retain pool, one delivery of a memory source. Stands first in its struct. */
struct aio_owner {
    struct aio_source *src;
    void (*drop)(struct aio_owner *owner); /* the last hold is gone: recycle or free */
    struct aio_owner *prev, *next;         /* list of those with holds, for close() */
    uint32_t refs;
    bool pooled; /* lies in the retain pool: another hold on it costs nothing */
};

struct aio_base {
    struct aio_source pub;
    struct aio_source_stats stats;
    struct aio_pool pool;
    struct aio_owner held; /* head of the ring of owners with holds */
    bool closing;          /* drop() must free, nothing is recycled any more */
};

static inline struct aio_base *aio_base_of(struct aio_source *src)
{
    return (struct aio_base *)src;
}

void aio_base_init(struct aio_base *base, const struct aio_source_ops *ops, uint32_t caps,
                   uint64_t retain_budget);

/* Drops every owner that still has holds; afterwards the container frees its own. */
void aio_base_close(struct aio_base *base);

/* A first hold on an owner that has none. */
void aio_owner_take(struct aio_base *base, struct aio_owner *owner,
                    void (*drop)(struct aio_owner *));

void aio_owner_put(struct aio_owner *owner);

/* Operations that need nothing but the above. */
void aio_base_release(struct aio_source *src, const struct aio_frame *frames, unsigned n);
int aio_base_retain(struct aio_source *src, struct aio_frame *frame);
int aio_base_no_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n);
int aio_base_no_descriptor(struct aio_source *src);
void aio_base_stats(struct aio_source *src, struct aio_source_stats *out);

/* For sources made of others: which of two ends is worse, and the counters that are the
 * sum of the parts' (all but what this source hands out and takes itself). */
int aio_severity(int result);
void aio_stats_add_parts(struct aio_source_stats *sum, const struct aio_source_stats *one);

/* Writes the message and returns the result, so that one line can do both. */
int aio_fail(struct aio_source *src, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
