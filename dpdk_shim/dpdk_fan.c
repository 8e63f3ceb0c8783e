/* dpdk_fan.c -- frames handed to workers over rings in shared memory, and taken back.
 *
 * Nothing is copied: an mbuf goes out by one ring and comes back by another, each with one
 * producer and one consumer. Only the receiver touches pools. So wherever a process dies,
 * the others go on, and what is half done is undone by setting a ring's head to its tail.
 * Each mbuf on its way or in a worker's hands is marked with that worker's number.
 */
#include "dpdk_fan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Set in a holder while marks are counted: lies in a ring, so nobody lost it. */
#define IN_RING 0x8000u

struct aio_dpdk_fan {
    const struct rte_memzone *zone;
    struct aio_fan_shared *state;
    bool creator;
};

/* ---- making and finding -------------------------------------------------------------------- */

static void zone_name(char *out, const char *name)
{
    snprintf(out, RTE_MEMZONE_NAMESIZE, "aiof_%.20s", name);
}

static struct rte_ring *make_ring(const char *name, unsigned worker, char way,
                                  unsigned size)
{
    char ring[RTE_RING_NAMESIZE];

    snprintf(ring, sizeof ring, "%c%u_%.16s", way, worker, name);
    return rte_ring_create(ring, size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
}

/* A worker has at most what waits for it and what it may hold; when all that comes back
 * at once, the way back must take it. */
static bool make_rings(struct aio_fan_shared *state, const char *name, unsigned size)
{
    for (unsigned w = 0; w < state->workers; w++) {
        state->out[w] = make_ring(name, w, 'o', size);
        state->back[w] = make_ring(name, w, 'b', 4 * size);
        if (!state->out[w] || !state->back[w])
            return false;
    }
    return true;
}

static void free_rings(struct aio_fan_shared *state)
{
    for (unsigned w = 0; w < state->workers; w++) {
        rte_ring_free(state->out[w]);
        rte_ring_free(state->back[w]);
    }
}

static int check(const char *name, unsigned workers, char *message)
{
    message[0] = '\0';
    if (!aio_dpdk_started())
        return aio_dpdk_fail(message, AIO_EINVAL, "DPDK is not initialised");
    if (workers < 1 || workers > AIO_FAN_WORKERS_MAX)
        return aio_dpdk_fail(message, AIO_EINVAL, "%s: 1 to %d workers, not %u", name,
                             AIO_FAN_WORKERS_MAX, workers);
    return AIO_OK;
}

int aio_dpdk_fan_create(struct aio_dpdk_fan **out, const char *name, unsigned workers,
                        unsigned size, char *message)
{
    char zone[RTE_MEMZONE_NAMESIZE];
    struct aio_dpdk_fan *fan;
    int result = check(name, workers, message);

    *out = NULL;
    if (result < 0)
        return result;
    size = rte_align32pow2(RTE_MAX(size, 2u * AIO_BURST_MAX));
    zone_name(zone, name);
    fan = calloc(1, sizeof *fan);
    aio_log_mark();
    if (fan)
        fan->zone = rte_memzone_reserve(zone, sizeof *fan->state, SOCKET_ID_ANY, 0);
    if (!fan || !fan->zone) {
        free(fan);
        return aio_dpdk_fail_log(message, AIO_ENOMEM,
                                 "no memory for rings %s, or they exist", name);
    }
    fan->creator = true;
    fan->state = fan->zone->addr;
    memset(fan->state, 0, sizeof *fan->state);
    fan->state->workers = workers;
    fan->state->size = size;
    if (!make_rings(fan->state, name, size)) {
        aio_dpdk_fan_close(fan);
        return aio_dpdk_fail_log(message, AIO_ENOMEM, "no memory for rings of %u frames",
                                 size);
    }
    *out = fan;
    return AIO_OK;
}

struct aio_fan_shared *aio_fan_find(const char *name, const struct rte_memzone **zone,
                                    char *message)
{
    char text[RTE_MEMZONE_NAMESIZE];

    if (check(name, 1, message) < 0)
        return NULL;
    zone_name(text, name);
    *zone = rte_memzone_lookup(text);
    if (*zone)
        return (*zone)->addr;
    aio_dpdk_fail(message, AIO_EIO, "there are no rings %s: the primary has to create them",
                  name);
    return NULL;
}

/* What the last receiver left half done. */
static void mend_receiver(struct aio_fan_shared *state)
{
    for (unsigned w = 0; w < state->workers; w++) {
        state->out[w]->prod.head = state->out[w]->prod.tail;
        state->back[w]->cons.head = state->back[w]->cons.tail;
    }
}

int aio_dpdk_fan_attach(struct aio_dpdk_fan **out, const char *name, char *message)
{
    const struct rte_memzone *zone;
    struct aio_fan_shared *state = aio_fan_find(name, &zone, message);
    struct aio_dpdk_fan *fan;

    *out = NULL;
    if (!state)
        return AIO_EIO;
    fan = calloc(1, sizeof *fan);
    if (!fan)
        return aio_dpdk_fail(message, AIO_ENOMEM, "out of memory");
    *fan = (struct aio_dpdk_fan){.zone = zone, .state = state};
    mend_receiver(state);
    *out = fan;
    return AIO_OK;
}

/* ---- handing over --------------------------------------------------------------------------- */

static unsigned take_back(struct rte_ring *back)
{
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    unsigned n, all = 0;

    do {
        n = rte_ring_sc_dequeue_burst(back, (void **)mbufs, AIO_BURST_MAX, NULL);
        if (n)
            aio_mbufs_free(mbufs, n);
        all += n;
    } while (n == AIO_BURST_MAX);
    return all;
}

int aio_dpdk_ring_push(struct aio_dpdk_fan *fan, unsigned worker, struct aio_source *from,
                       const struct aio_frame *frames, unsigned n)
{
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    struct rte_ring *out;
    unsigned taken;

    if (worker >= fan->state->workers)
        return AIO_EINVAL;
    take_back(fan->state->back[worker]);
    out = fan->state->out[worker];
    n = RTE_MIN(n, (unsigned)AIO_BURST_MAX);
    n = RTE_MIN(n, rte_ring_free_count(out));
    for (unsigned i = 0; i < n; i++) {
        mbufs[i] = frames[i].owner;
        ((struct aio_mbuf_room *)rte_mbuf_to_priv(mbufs[i]))->frame = frames[i];
        aio_mark_of(mbufs[i])->holder = (uint16_t)(AIO_HELD_BY_WORKER + worker);
    }
    aio_source_gave(from, mbufs, n);
    taken = rte_ring_sp_enqueue_bulk(out, (void *const *)mbufs, n, NULL);
    return (int)taken; /* all: nobody else enqueues, and there was room */
}

unsigned aio_dpdk_fan_drain(struct aio_dpdk_fan *fan)
{
    unsigned n = 0;

    for (unsigned w = 0; w < fan->state->workers; w++)
        n += take_back(fan->state->back[w]);
    return n;
}

unsigned aio_dpdk_fan_waiting(struct aio_dpdk_fan *fan, unsigned worker)
{
    return worker < fan->state->workers ? rte_ring_count(fan->state->out[worker]) : 0;
}

unsigned aio_dpdk_fan_room(struct aio_dpdk_fan *fan, unsigned worker)
{
    return worker < fan->state->workers ? rte_ring_free_count(fan->state->out[worker]) : 0;
}

/* ---- counting --------------------------------------------------------------------------------- */

void aio_dpdk_fan_drop(struct aio_dpdk_fan *fan, unsigned worker, unsigned n)
{
    if (worker < fan->state->workers)
        aio_tally_add(&fan->state->tallies[worker].dropped, n);
}

uint64_t aio_dpdk_fan_taken(struct aio_dpdk_fan *fan, unsigned worker)
{
    return worker < fan->state->workers ? aio_tally_get(&fan->state->tallies[worker].taken)
                                        : 0;
}

uint64_t aio_dpdk_fan_dropped(struct aio_dpdk_fan *fan, unsigned worker)
{
    return worker < fan->state->workers
               ? aio_tally_get(&fan->state->tallies[worker].dropped)
               : 0;
}

uint64_t aio_dpdk_fan_settle(struct aio_dpdk_fan *fan, unsigned worker)
{
    struct aio_tally *tally;

    if (worker >= fan->state->workers)
        return 0;
    tally = &fan->state->tallies[worker];
    return aio_tally_settle(tally, aio_tally_get(&tally->dropped));
}

/* ---- after a death ---------------------------------------------------------------------------- */

static void flip_waiting(const struct rte_ring *ring)
{
    void *const *slots = (void *const *)&ring[1];

    for (uint32_t i = ring->cons.tail; i != ring->prod.tail; i++)
        aio_mark_of(slots[i & ring->mask])->holder ^= IN_RING;
}

static unsigned reclaim_everywhere(uint16_t holder)
{
    unsigned n = 0;

    for (struct aio_dpdk_port *port = aio_dpdk_ports; port; port = port->next)
        for (unsigned q = 0; q < RTE_MAX_QUEUES_PER_PORT && port->state->pools[q]; q++)
            n += aio_mbuf_pool_reclaim(port->state->pools[q], holder);
    return n;
}

int aio_dpdk_fan_recover(struct aio_dpdk_fan *fan, unsigned worker, char *message)
{
    struct rte_ring *out, *back;
    unsigned n;

    message[0] = '\0';
    if (worker >= fan->state->workers)
        return aio_dpdk_fail(message, AIO_EINVAL, "there is no worker %u of %u", worker,
                             fan->state->workers);
    out = fan->state->out[worker];
    back = fan->state->back[worker];
    out->cons.head = out->cons.tail;
    back->prod.head = back->prod.tail;
    take_back(back);
    flip_waiting(out);
    n = reclaim_everywhere((uint16_t)(AIO_HELD_BY_WORKER + worker));
    flip_waiting(out);
    return (int)n;
}

void aio_dpdk_fan_close(struct aio_dpdk_fan *fan)
{
    if (fan->creator) {
        for (unsigned w = 0; w < fan->state->workers; w++) {
            if (fan->state->out[w])
                take_back(fan->state->out[w]);
            if (fan->state->back[w])
                take_back(fan->state->back[w]);
        }
        free_rings(fan->state);
        rte_memzone_free(fan->zone);
    }
    free(fan);
}
