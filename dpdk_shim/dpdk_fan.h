/* dpdk_fan.h -- what receiver and workers of shared rings have in common. */
#ifndef AIO_DPDK_FAN_H
#define AIO_DPDK_FAN_H

#include "dpdk_source.h"

#define AIO_FAN_WORKERS_MAX 128

struct aio_fan_shared {
    unsigned workers;
    unsigned size;                              /* frames on the way to one worker */
    struct rte_ring *out[AIO_FAN_WORKERS_MAX];  /* receiver to worker */
    struct rte_ring *back[AIO_FAN_WORKERS_MAX]; /* worker to receiver */
    struct aio_tally tallies[AIO_FAN_WORKERS_MAX];
};

struct aio_fan_shared *aio_fan_find(const char *name, const struct rte_memzone **zone,
                                    char *message);

/* Mbufs that a source handed out and that go back another way than by release(). */
void aio_source_gave(struct aio_source *source, struct rte_mbuf *const *mbufs, unsigned n);

#endif
