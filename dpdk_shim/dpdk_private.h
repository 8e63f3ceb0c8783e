/* dpdk_private.h -- what the files over DPDK share. The only header that includes DPDK's. */
#ifndef AIO_DPDK_PRIVATE_H
#define AIO_DPDK_PRIVATE_H

#include "base.h"
#include "dpdk.h"

#include <rte_common.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include <stdatomic.h>

/* ---- who holds an mbuf (dpdk_pool.c) --------------------------------------------------
 * A field in the mbuf itself, in the cache line that freeing it reads anyway: so holds of
 * another process can be found after its death, and closing a source finds its own. */
struct aio_mark {
    uint16_t holder; /* enum aio_holder, or AIO_HELD_BY_WORKER + its number */
    uint16_t holds;  /* of the consumer; the mbuf goes back when the last is gone */
};

enum aio_holder {
    AIO_HELD_BY_NOBODY = 0,
    AIO_HELD_BY_RECEIVER = 1,
    AIO_HELD_BY_WORKER = 2
};

extern int aio_mark_offset;

static inline struct aio_mark *aio_mark_of(const struct rte_mbuf *mbuf)
{
    return RTE_MBUF_DYNFIELD((uintptr_t)mbuf, aio_mark_offset, struct aio_mark *);
}

/* The private area of each mbuf: the frame on its way to a worker, the mbuf's link in a
 * frame's chain, and a place for the head of a frame whose first mbuf is too short. */
struct aio_mbuf_room {
    struct aio_frame frame;
    struct aio_seg seg;
    uint8_t head[AIO_HEAD_MIN];
};

/* Once a process, after EAL: false when mbufs have no room for it. */
bool aio_marks_register(void);

/* Where drivers put the time of a frame, if the mbuf has the flag. */
extern int aio_stamp_offset;
extern uint64_t aio_stamp_flag;

/* shared: one user at a time, no caches, and its ring can be mended after a death. */
struct rte_mempool *aio_mbuf_pool_create(const char *name, unsigned n, uint32_t room,
                                         int socket, bool shared);
/* Frees the mbufs marked as held by holder; their number. */
unsigned aio_mbuf_pool_reclaim(struct rte_mempool *pool, uint16_t holder);
/* Mbufs marked as held by anybody. */
unsigned aio_mbuf_pool_marked(struct rte_mempool *pool);
/* Of a shared pool whose user died: makes its ring whole, and takes the marks off what
 * is in it. */
void aio_mbuf_pool_mend(struct rte_mempool *pool);

/* Frees mbufs that nobody holds any more, and takes their marks off. */
void aio_mbufs_free(struct rte_mbuf **mbufs, unsigned n);

/* Ends one hold on each; frees those without holds. */
void aio_mbufs_put(struct rte_mbuf *const *mbufs, unsigned n);

/* ---- mbufs and frames (dpdk_mbuf.c) ----------------------------------------------------- */

/* Fills in all of a frame but time, port and owner's mark. False: a chain of a pool that
 * is not ours, with a head too short; nothing to be done but free it. */
bool aio_mbuf_to_frame(struct rte_mbuf *mbuf, struct aio_frame *out);
/* An mbuf to be sent: the frame's own with one more reference, if it lies in one of the n
 * pools, else a copy, with stripped VLAN tags put back. NULL: the pool is empty. */
struct rte_mbuf *aio_mbuf_of_frame(const struct aio_frame *frame,
                                   struct rte_mempool *const *pools, unsigned n,
                                   struct rte_mempool *copies);

/* ---- the environment ---------------------------------------------------------------------- */

bool aio_dpdk_started(void);
bool aio_dpdk_is_secondary(void);

/* Writes the message; returns the result. */
int aio_dpdk_fail(char *message, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with the first line behind it that was logged since aio_log_mark(), if any. */
int aio_dpdk_fail_log(char *message, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool aio_log_open(void); /* EAL and drivers log into a buffer from now on */
void aio_log_mark(void); /* what is logged from here on may explain a failure */
/* Catches what is written to stderr meanwhile, which EAL does before and besides logging. */
int aio_log_stderr_begin(void);
void aio_log_stderr_end(int saved);

/* ---- ports ----------------------------------------------------------------------------------- */

enum aio_clock {
    AIO_CLOCK_HOST = 0, /* the machine's, read once a burst */
    AIO_CLOCK_EPOCH_US, /* the driver writes us since the epoch (net_pcap) */
    AIO_CLOCK_DEVICE    /* ticks of the device's clock, converted */
};

#define AIO_RSS_KEY_MAX 64

/* What outlives whoever reads a queue, or a ring to a worker: the frames that all readers so
 * far took; those dropped before they were a reader's; and of these, those before the
 * present one. Each in a cache line of its own, since others count beside it. */
struct aio_tally {
    _Alignas(RTE_CACHE_LINE_SIZE) _Atomic uint64_t taken;
    _Atomic uint64_t dropped, settled;
};

static inline uint64_t aio_tally_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Each counter has one writer at a time, so it needs no locked instruction. */
static inline void aio_tally_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, aio_tally_get(counter) + n, memory_order_relaxed);
}

/* A reader is gone: what it is settled with, of so many drops in all. */
static inline uint64_t aio_tally_settle(struct aio_tally *tally, uint64_t dropped)
{
    uint64_t before = atomic_exchange(&tally->settled, dropped);

    return dropped > before ? dropped - before : 0;
}

/* What the present reader tells of so many drops in all. */
static inline uint64_t aio_tally_unsettled(const struct aio_tally *tally, uint64_t dropped)
{
    uint64_t settled = aio_tally_get(&tally->settled);

    return dropped > settled ? dropped - settled : 0;
}

/* Lies in a memzone, so that secondaries find it; written by the primary alone, but for
 * the tallies. */
struct aio_port_shared {
    struct aio_dpdk_port_info info;
    struct rte_mempool *pools[RTE_MAX_QUEUES_PER_PORT];
    uint32_t budget;
    uint8_t clock; /* enum aio_clock */
    uint8_t shared;
    uint8_t keeps; /* the driver never gives back what it had: only marks are counted */
    uint8_t is_virtual;
    uint8_t rss_key[AIO_RSS_KEY_MAX]; /* drivers look at it again later */
    struct aio_tally tallies[RTE_MAX_QUEUES_PER_PORT];
};

struct aio_dpdk_port {
    const struct rte_memzone *zone;
    struct aio_port_shared *state; /* in zone */
    struct aio_dpdk_port *next;    /* of this process */
    uint16_t id;
    bool attached;  /* by a secondary: never stops or closes the device */
    bool abandoned; /* to be closed with its last source */
    unsigned users; /* sources */
    uint8_t taken[RTE_MAX_QUEUES_PER_PORT]; /* queues with a source in this process */
};

extern struct aio_dpdk_port *aio_dpdk_ports;

/* A source of a queue ends. */
void aio_port_leave(struct aio_dpdk_port *port, uint16_t queue);

/* Adds RSS to a device's configuration, and after its start spreads the table and asks
 * what became of it. */
void aio_rss_configure(const struct rte_eth_dev_info *info, uint16_t queues,
                       struct rte_eth_conf *conf, uint8_t *key);
void aio_rss_started(uint16_t port, const struct rte_eth_dev_info *info, uint16_t queues,
                     struct aio_dpdk_port_info *out);
bool aio_dev_is_virtual(const struct rte_eth_dev_info *info);
/* A port that was not opened to the end: frees what there is of it, but for itself. */
void aio_port_undo(struct aio_dpdk_port *port);

/* ---- a device's clock (dpdk_time.c) --------------------------------------------------------- */

struct aio_dev_clock {
    uint64_t first_ticks, last_ticks; /* two readings, and the machine's time at them */
    int64_t first_ns, last_ns;
};

int64_t aio_clock_now(void);
bool aio_clock_start(struct aio_dev_clock *clock, uint16_t port);
/* Reads again, if a second went by since: keeps with the machine's clock. */
void aio_clock_refresh(struct aio_dev_clock *clock, uint16_t port, int64_t now);
int64_t aio_clock_convert(const struct aio_dev_clock *clock, uint64_t ticks);

#endif
