/* source_fan.c -- a worker's end of the rings: frames that a receiver handed over. */
#include "dpdk_fan.h"

#include <stdlib.h>

struct fan_source {
    struct aio_source pub;
    struct aio_source_stats stats;
    struct rte_ring *out, *back;
    struct aio_tally *tally;
    uint64_t held;   /* mbufs */
    uint64_t budget; /* of them, before holds are refused */
    bool sends;
    struct aio_queue tx;
};

static int fan_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct fan_source *s = (struct fan_source *)src;
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    unsigned n;

    max = RTE_MIN(max, (unsigned)AIO_BURST_MAX);
    n = rte_ring_sc_dequeue_burst(s->out, (void **)mbufs, max, NULL);
    for (unsigned i = 0; i < n; i++)
        rte_prefetch0(rte_mbuf_to_priv(mbufs[i]));
    for (unsigned i = 0; i < n; i++) {
        out[i] = ((struct aio_mbuf_room *)rte_mbuf_to_priv(mbufs[i]))->frame;
        rte_prefetch0(out[i].data);
        s->held += mbufs[i]->nb_segs;
        s->stats.bytes += out[i].cap_len;
    }
    if (n)
        aio_tally_add(&s->tally->taken, n);
    s->stats.frames += n;
    s->stats.outstanding += n;
    return (int)n;
}

/* Back to the receiver, who frees: the way back always has room (make_rings()). */
static void fan_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    struct fan_source *s = (struct fan_source *)src;
    struct rte_mbuf *done[AIO_BURST_MAX];
    unsigned n_done = 0;

    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *mbuf = frames[i].owner;

        s->stats.outstanding--;
        if (--aio_mark_of(mbuf)->holds > 0)
            continue;
        s->held -= mbuf->nb_segs;
        done[n_done++] = mbuf;
        if (n_done == AIO_BURST_MAX) {
            rte_ring_sp_enqueue_bulk(s->back, (void *const *)done, n_done, NULL);
            n_done = 0;
        }
    }
    if (n_done)
        rte_ring_sp_enqueue_bulk(s->back, (void *const *)done, n_done, NULL);
}

static int fan_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct fan_source *s = (struct fan_source *)src;

    return aio_mark_retain(src, &s->stats, s->held, s->budget, frame);
}

/* Copies: the receiver's mbufs may not be freed by a driver of this process. */
static int fan_transmit(struct aio_source *src, uint16_t port,
                        const struct aio_frame *frames, unsigned n)
{
    struct fan_source *s = (struct fan_source *)src;
    int sent;

    if (!s->sends || port != 0)
        return aio_fail(src, AIO_ENOTSUP, "this worker was given no queue to send on");
    sent = aio_queue_send(&s->tx, NULL, 0, frames, n);
    if (sent < 0)
        return aio_fail(src, AIO_ENOTSUP, "the queue sends nothing: more tx_queues");
    s->stats.transmitted += (unsigned)sent;
    return sent;
}

static int fan_descriptor(struct aio_source *src)
{
    (void)src;
    return -1;
}

static void fan_stats(struct aio_source *src, struct aio_source_stats *out)
{
    const struct fan_source *s = (const struct fan_source *)src;

    *out = s->stats;
    out->queued = rte_ring_count(s->out);
    out->dropped_ring = aio_tally_unsettled(s->tally, aio_tally_get(&s->tally->dropped));
}

/* What is held still stays marked with this worker, and is freed by aio_dpdk_fan_recover(),
 * as after a death. */
static void fan_close(struct aio_source *src)
{
    struct fan_source *s = (struct fan_source *)src;

    if (s->sends)
        aio_port_leave(s->tx.port, s->tx.queue);
    free(s);
}

static const struct aio_source_ops fan_ops = {
    .burst = fan_burst,
    .release = fan_release,
    .retain = fan_retain,
    .transmit = fan_transmit,
    .descriptor = fan_descriptor,
    .stats = fan_stats,
    .close = fan_close,
};

static int open_tx(struct fan_source *s, const struct aio_dpdk_queue *tx, char *message)
{
    int result = aio_queue_open(&s->tx, tx, 0, message);

    if (result < 0)
        return result;
    s->sends = true;
    tx->port->taken[tx->queue] = true;
    tx->port->users++;
    return AIO_OK;
}

int aio_dpdk_fan_source(struct aio_source **out, const char *name, unsigned worker,
                        const struct aio_dpdk_queue *tx, int captured, char *message)
{
    const struct rte_memzone *zone;
    struct aio_fan_shared *state = aio_fan_find(name, &zone, message);
    struct fan_source *s;

    *out = NULL;
    if (!state)
        return AIO_EIO;
    if (worker >= state->workers)
        return aio_dpdk_fail(message, AIO_EINVAL, "there is no worker %u of %u", worker,
                             state->workers);
    s = calloc(1, sizeof *s);
    if (!s)
        return aio_dpdk_fail(message, AIO_ENOMEM, "out of memory");
    if (tx && open_tx(s, tx, message) < 0) {
        free(s);
        return AIO_EINVAL;
    }
    s->out = state->out[worker];
    s->back = state->back[worker];
    s->tally = &state->tallies[worker];
    s->budget = state->size;
    s->pub.ops = &fan_ops;
    s->pub.caps =
        AIO_CAP_RETAIN_FREE | (captured ? 0 : AIO_CAP_LIVE) | (tx ? AIO_CAP_TRANSMIT : 0);
    s->pub.time_precision = 1;
    *out = &s->pub;
    return AIO_OK;
}
