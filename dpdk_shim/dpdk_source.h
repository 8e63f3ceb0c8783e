/* dpdk_source.h -- what the two sources over DPDK share. */
#ifndef AIO_DPDK_SOURCE_H
#define AIO_DPDK_SOURCE_H

#include "dpdk_private.h"

/* A queue that a source reads from and sends to. */
struct aio_queue {
    struct aio_dpdk_port *port;
    struct rte_mempool *pool;
    struct aio_tally *tally; /* in shared memory */
    uint64_t no_memory;      /* of the device's counters, when last looked at */
    uint16_t queue;
    uint16_t index; /* among the source's queues */
    bool ends;      /* reads a capture file */
    bool ended;
    bool cut;          /* ended by damage */
    bool armed;        /* the next frame raises an interrupt */
    bool always_armed; /* the descriptor is the device's own */
    uint8_t clock;     /* enum aio_clock */
    int descriptor;    /* of its receive interrupt; -1: none */
    struct aio_dev_clock dev_clock;
};

struct aio_dpdk_source {
    struct aio_source pub;
    struct aio_source_stats stats;
    uint64_t held;   /* mbufs handed out and not released */
    uint64_t budget; /* of them, before holds are refused */
    unsigned n_queues;
    unsigned turn;       /* the queue to begin with next */
    int result;          /* the end, once reached */
    int all_descriptors; /* of several queues, in one; -1: not all have one */
    bool ends;           /* all queues do */
    struct aio_queue queues[AIO_DPDK_PORTS_MAX];
    struct rte_mempool *pools[AIO_DPDK_PORTS_MAX];
};

/* Checks and fills in; takes nothing yet. */
int aio_queue_open(struct aio_queue *queue, const struct aio_dpdk_queue *what,
                   unsigned index, char *message);

/* Sends what can be sent; frames that lie in one of the pools are not copied. The number
 * taken; -1: the queue has no transmit side. */
int aio_queue_send(const struct aio_queue *queue, struct rte_mempool *const *pools,
                   unsigned n_pools, const struct aio_frame *frames, unsigned n);

/* One more hold on a frame, unless too many mbufs are with the consumer already. */
static inline int aio_mark_retain(struct aio_source *src, struct aio_source_stats *stats,
                                  uint64_t held, uint64_t budget,
                                  const struct aio_frame *frame)
{
    struct aio_mark *mark = aio_mark_of(frame->owner);

    if (held > budget || mark->holds == UINT16_MAX) {
        stats->dropped_pool++;
        return aio_fail(src, AIO_ENOMEM, "the budget of %llu held mbufs is used up",
                        (unsigned long long)budget);
    }
    mark->holds++;
    stats->outstanding++;
    return AIO_OK;
}

#endif
