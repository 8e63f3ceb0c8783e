/* dpdk_pool.c -- pools of mbufs, and the mark in each mbuf that says who holds it.
 *
 * Each queue has a pool of its own, used by whoever reads that queue and by nobody else.
 * A process that dies in the middle of an operation on a pool that others use would stop
 * them for good, since DPDK's rings are not proof against that; alone, it hurts nobody,
 * and its successor finds a ring that is mended first.
 */
#include "dpdk_private.h"

#include <string.h>

int aio_mark_offset = -1;
int aio_stamp_offset = -1;
uint64_t aio_stamp_flag;

bool aio_marks_register(void)
{
    static const struct rte_mbuf_dynfield field = {
        .name = "aiomos_mark",
        .size = sizeof(struct aio_mark),
        .align = __alignof__(struct aio_mark),
    };

    aio_mark_offset = rte_mbuf_dynfield_register(&field);
    return aio_mark_offset >= 0 &&
           rte_mbuf_dyn_rx_timestamp_register(&aio_stamp_offset, &aio_stamp_flag) == 0;
}

static void clear_mark(struct rte_mempool *pool, void *opaque, void *object, unsigned index)
{
    struct rte_mbuf *mbuf = object;

    (void)pool, (void)opaque, (void)index;
    memset(aio_mark_of(mbuf), 0, sizeof(struct aio_mark));
}

/* With ordinary pages DPDK would let no mbuf lie across two, for devices that want addresses
 * of the bus: one to a page, all at the same place in it, where they drive each other out of
 * the cache. Such devices need huge pages; there, what holds an mbuf is of one piece anyway. */
static unsigned flags_of_pages(void)
{
    return rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
}

static bool fill(struct rte_mempool *pool, const char *ops, uint16_t room, uint16_t own)
{
    struct rte_pktmbuf_pool_private sizes = {.mbuf_data_room_size = room,
                                             .mbuf_priv_size = own};

    if (rte_mempool_set_ops_byname(pool, ops, NULL) != 0)
        return false;
    rte_pktmbuf_pool_init(pool, &sizes);
    if (rte_mempool_populate_default(pool) < 0)
        return false;
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    rte_mempool_obj_iter(pool, clear_mark, NULL);
    return true;
}

struct rte_mempool *aio_mbuf_pool_create(const char *name, unsigned n, uint32_t room,
                                         int socket, bool shared)
{
    /* a multiple of cache lines, so that data begins where one does: drivers copy aligned
     * bytes faster */
    uint16_t own = RTE_ALIGN(sizeof(struct aio_mbuf_room), RTE_CACHE_LINE_SIZE);
    uint16_t bytes = (uint16_t)(room + RTE_PKTMBUF_HEADROOM);
    struct rte_mempool *pool = rte_mempool_create_empty(
        name, n, (unsigned)sizeof(struct rte_mbuf) + own + bytes,
        shared ? 0 : RTE_MEMPOOL_CACHE_MAX_SIZE / 2,
        sizeof(struct rte_pktmbuf_pool_private), socket, flags_of_pages());

    if (pool && !fill(pool, shared ? "ring_sp_sc" : "ring_mp_mc", bytes, own)) {
        rte_mempool_free(pool);
        return NULL;
    }
    return pool;
}

/* ---- holds -------------------------------------------------------------------------------- */

/* Nobody else holds it, and nothing hangs on it: it goes back as it is. */
static bool is_plain(const struct rte_mbuf *mbuf, const struct rte_mempool *pool)
{
    return mbuf->pool == pool && rte_mbuf_refcnt_read(mbuf) == 1 && !mbuf->next &&
           RTE_MBUF_DIRECT(mbuf);
}

static void forget_holders(struct rte_mbuf *const *mbufs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        aio_mark_of(mbufs[i])->holder = AIO_HELD_BY_NOBODY;
}

/* The mark goes after the mbuf went: who dies in between leaves a mark on a free mbuf,
 * which mending takes off, instead of an mbuf that nobody would ever find. */
void aio_mbufs_free(struct rte_mbuf **mbufs, unsigned n)
{
    struct rte_mempool *pool = n ? mbufs[0]->pool : NULL;
    unsigned plain = 0;

    while (plain < n && likely(is_plain(mbufs[plain], pool)))
        plain++;
    if (plain)
        rte_mempool_put_bulk(pool, (void **)mbufs, plain);
    if (unlikely(plain < n))
        rte_pktmbuf_free_bulk(mbufs + plain, n - plain);
    forget_holders(mbufs, n);
}

void aio_mbufs_put(struct rte_mbuf *const *mbufs, unsigned n)
{
    struct rte_mbuf *done[AIO_BURST_MAX];
    unsigned n_done = 0;

    for (unsigned i = 0; i < n; i++) {
        if (--aio_mark_of(mbufs[i])->holds > 0)
            continue;
        done[n_done++] = mbufs[i];
        if (unlikely(n_done == AIO_BURST_MAX)) {
            aio_mbufs_free(done, n_done);
            n_done = 0;
        }
    }
    aio_mbufs_free(done, n_done);
}

/* ---- after a close, or a death --------------------------------------------------------------- */

struct reclaim {
    uint16_t holder;
    unsigned n;
};

static void reclaim_one(struct rte_mempool *pool, void *opaque, void *object,
                        unsigned index)
{
    struct reclaim *reclaim = opaque;
    struct rte_mbuf *mbuf = object;

    (void)pool, (void)index;
    if (aio_mark_of(mbuf)->holder != reclaim->holder)
        return;
    aio_mark_of(mbuf)->holds = 0;
    aio_mbufs_free(&mbuf, 1);
    reclaim->n++;
}

unsigned aio_mbuf_pool_reclaim(struct rte_mempool *pool, uint16_t holder)
{
    struct reclaim reclaim = {.holder = holder};

    rte_mempool_obj_iter(pool, reclaim_one, &reclaim);
    return reclaim.n;
}

static void count_one(struct rte_mempool *pool, void *opaque, void *object, unsigned index)
{
    (void)pool, (void)index;
    *(unsigned *)opaque += aio_mark_of(object)->holder != AIO_HELD_BY_NOBODY;
}

unsigned aio_mbuf_pool_marked(struct rte_mempool *pool)
{
    unsigned n = 0;

    rte_mempool_obj_iter(pool, count_one, &n);
    return n;
}

void aio_mbuf_pool_mend(struct rte_mempool *pool)
{
    struct rte_ring *ring = pool->pool_data;
    void **slots = (void **)&ring[1];

    ring->prod.head = ring->prod.tail;
    ring->cons.head = ring->cons.tail;
    for (uint32_t i = ring->cons.tail; i != ring->prod.tail; i++)
        clear_mark(pool, NULL, slots[i & ring->mask], 0);
}
