/* source_dpdk.c -- queues of DPDK ports as a source of frames.
 *
 * A frame's owner is its mbuf, and data points into it: nothing is copied on the way up,
 * and holding a frame costs a count. What it costs is mbufs, which the port needs back, so
 * holds are refused beyond a budget of mbufs.
 *
 * Mbufs that come back from another port of this process (net_ring gives the sender's own),
 * or that somebody else refers to, are copied: whatever is handed out belongs to the
 * queue's pool and to this source alone.
 */
#include "dpdk_fan.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define RX_CHUNK 32 /* vector drivers give no more at once */

/* ---- one queue ----------------------------------------------------------------------------- */

static struct rte_mbuf *own(const struct aio_queue *queue, struct rte_mbuf *mbuf)
{
    struct rte_mbuf *copy;

    if (likely(mbuf->pool == queue->pool && rte_mbuf_refcnt_read(mbuf) == 1))
        return mbuf;
    copy = rte_pktmbuf_copy(mbuf, queue->pool, 0, UINT32_MAX);
    rte_pktmbuf_free(mbuf);
    return copy;
}

static int64_t stamp_of(const struct aio_queue *queue, const struct rte_mbuf *mbuf,
                        int64_t now)
{
    uint64_t stamp;

    if (queue->clock == AIO_CLOCK_HOST || !(mbuf->ol_flags & aio_stamp_flag))
        return now;
    stamp = *RTE_MBUF_DYNFIELD((uintptr_t)mbuf, aio_stamp_offset, const uint64_t *);
    if (queue->clock == AIO_CLOCK_EPOCH_US)
        return (int64_t)stamp * 1000;
    return aio_clock_convert(&queue->dev_clock, stamp);
}

/* One mbuf received becomes a frame; false: it had to be dropped. */
static bool hand_out(struct aio_dpdk_source *s, const struct aio_queue *queue,
                     struct rte_mbuf *mbuf, struct aio_frame *out, int64_t now)
{
    struct aio_mark *mark;

    mbuf = own(queue, mbuf);
    if (unlikely(!mbuf || !aio_mbuf_to_frame(mbuf, out))) {
        rte_pktmbuf_free(mbuf);
        /* no mbuf to copy it to, or a foreign chain */
        aio_tally_add(&queue->tally->dropped, 1);
        return false;
    }
    mark = aio_mark_of(mbuf);
    mark->holder = AIO_HELD_BY_RECEIVER;
    mark->holds = 1;
    out->port = queue->index;
    out->direction = queue->ends ? AIO_DIR_UNKNOWN : AIO_DIR_IN;
    out->time_ns = stamp_of(queue, mbuf, now);
    s->held += mbuf->nb_segs;
    s->stats.bytes += out->cap_len;
    return true;
}

static unsigned receive(struct aio_dpdk_source *s, struct aio_queue *queue,
                        struct aio_frame *out, unsigned max)
{
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    unsigned got = 0, n = 0, asked;
    int64_t now;

    max = RTE_MIN(max, (unsigned)AIO_BURST_MAX);
    do {
        asked = RTE_MIN(max - got, (unsigned)RX_CHUNK);
        n = rte_eth_rx_burst(queue->port->id, queue->queue, mbufs + got, (uint16_t)asked);
        got += n;
    } while (n == asked && got < max);
    if (got == 0)
        return 0;
    now = aio_clock_now();
    if (queue->clock == AIO_CLOCK_DEVICE)
        aio_clock_refresh(&queue->dev_clock, queue->port->id, now);
    for (unsigned i = 0; i < got; i++)
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], const void *));
    n = 0;
    for (unsigned i = 0; i < got; i++)
        n += hand_out(s, queue, mbufs[i], &out[n], now);
    return n;
}

/* Of a capture file: nothing came. Its driver gives nothing for three reasons, which its
 * counters tell apart: the end, a file that cannot be read on, and no mbuf for a frame,
 * which is then lost, but others follow. */
static void judge_silence(struct aio_queue *queue)
{
    struct aio_dpdk_port_counters now;

    if (aio_dpdk_port_counters(queue->port, &now) < 0)
        return;
    if (now.no_memory == queue->no_memory) {
        queue->ended = true;
        queue->cut = now.errors != 0;
    }
    queue->no_memory = now.no_memory;
}

/* ---- interrupts ------------------------------------------------------------------------------- */

/* The counter of an eventfd is read, so that it is quiet until the next interrupt. Where
 * the driver has nothing to switch on, the descriptor is the device's own, as with tap. */
static void arm(struct aio_queue *queue)
{
    struct pollfd raised = {.fd = queue->descriptor, .events = POLLIN};
    uint64_t counted;

    if (poll(&raised, 1, 0) > 0 && read(queue->descriptor, &counted, sizeof counted) < 0)
        return;
    if (rte_eth_dev_rx_intr_enable(queue->port->id, queue->queue) == 0)
        queue->armed = true;
}

static void disarm(struct aio_queue *queue)
{
    if (queue->armed)
        rte_eth_dev_rx_intr_disable(queue->port->id, queue->queue);
    queue->armed = false;
}

/* ---- operations ---------------------------------------------------------------------------------- */

/* A frame may come between the last look and the arming, so there is one more look. */
static unsigned burst_queue(struct aio_dpdk_source *s, struct aio_queue *queue,
                            struct aio_frame *out, unsigned max)
{
    unsigned n;

    disarm(queue);
    n = receive(s, queue, out, max);
    if (n < max && queue->descriptor >= 0 && !queue->always_armed) {
        arm(queue);
        n += receive(s, queue, out + n, max - n);
    }
    if (n == 0 && queue->ends)
        judge_silence(queue);
    if (n)
        aio_tally_add(&queue->tally->taken, n);
    return n;
}

static int end_of(struct aio_dpdk_source *s)
{
    bool cut = false;

    for (unsigned i = 0; i < s->n_queues; i++) {
        if (!s->queues[i].ended)
            return 0;
        cut |= s->queues[i].cut;
    }
    if (!cut)
        return AIO_END;
    return aio_fail(&s->pub, AIO_CUT, "the capture stops inside a record");
}

static int dpdk_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;
    unsigned n = 0;

    if (s->result)
        return s->result;
    for (unsigned i = 0; i < s->n_queues && n < max; i++) {
        struct aio_queue *queue = &s->queues[s->turn];

        s->turn = s->turn + 1 == s->n_queues ? 0 : s->turn + 1;
        if (!queue->ended)
            n += burst_queue(s, queue, out + n, max - n);
    }
    s->stats.frames += n;
    s->stats.outstanding += n;
    if (n == 0 && s->ends)
        s->result = end_of(s);
    return n ? (int)n : s->result;
}

static void dpdk_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    unsigned part;

    s->stats.outstanding -= n;
    for (; n; n -= part, frames += part) {
        part = RTE_MIN(n, (unsigned)AIO_BURST_MAX);
        for (unsigned i = 0; i < part; i++) {
            mbufs[i] = frames[i].owner;
            if (aio_mark_of(mbufs[i])->holds == 1)
                s->held -= mbufs[i]->nb_segs;
        }
        aio_mbufs_put(mbufs, part);
    }
}

static int dpdk_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;

    return aio_mark_retain(src, &s->stats, s->held, s->budget, frame);
}

static int dpdk_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;
    int sent;

    if (port >= s->n_queues)
        return aio_fail(src, AIO_EINVAL, "no port %u: this source has %u", port,
                        s->n_queues);
    sent = aio_queue_send(&s->queues[port], s->pools, s->n_queues, frames, n);
    if (sent < 0)
        return aio_fail(src, AIO_ENOTSUP, "queue %u of %s sends nothing: more tx_queues",
                        s->queues[port].queue, s->queues[port].port->state->info.name);
    s->stats.transmitted += (unsigned)sent;
    return sent;
}

static int dpdk_descriptor(struct aio_source *src)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;

    return s->n_queues == 1 ? s->queues[0].descriptor : s->all_descriptors;
}

/* One descriptor that is readable when any of the queues' is; -1 unless all have one. */
static int join_descriptors(const struct aio_dpdk_source *s)
{
    int joined = epoll_create1(EPOLL_CLOEXEC);

    for (unsigned i = 0; i < s->n_queues; i++) {
        struct epoll_event event = {.events = EPOLLIN};

        if (joined >= 0 &&
            (s->queues[i].descriptor < 0 ||
             epoll_ctl(joined, EPOLL_CTL_ADD, s->queues[i].descriptor, &event))) {
            close(joined);
            joined = -1;
        }
    }
    return joined;
}

static void dpdk_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;

    *out = s->stats;
    for (unsigned i = 0; i < s->n_queues; i++) {
        const struct aio_queue *queue = &s->queues[i];
        uint64_t dropped = aio_dpdk_port_dropped(queue->port, queue->queue);

        out->dropped_nic += aio_tally_unsettled(queue->tally, dropped);
    }
}

static void dpdk_close(struct aio_source *src)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)src;

    for (unsigned i = 0; i < s->n_queues; i++) {
        struct aio_queue *queue = &s->queues[i];

        disarm(queue);
        aio_mbuf_pool_reclaim(queue->pool, AIO_HELD_BY_RECEIVER);
        aio_port_leave(queue->port, queue->queue);
    }
    if (s->all_descriptors >= 0)
        close(s->all_descriptors);
    free(s);
}

static const struct aio_source_ops dpdk_ops = {
    .burst = dpdk_burst,
    .release = dpdk_release,
    .retain = dpdk_retain,
    .transmit = dpdk_transmit,
    .descriptor = dpdk_descriptor,
    .stats = dpdk_stats,
    .close = dpdk_close,
};

void aio_source_gave(struct aio_source *source, struct rte_mbuf *const *mbufs, unsigned n)
{
    struct aio_dpdk_source *s = (struct aio_dpdk_source *)source;

    s->stats.outstanding -= n;
    for (unsigned i = 0; i < n; i++)
        s->held -= mbufs[i]->nb_segs;
}

/* ---- sending -------------------------------------------------------------------------------------- */

int aio_queue_send(const struct aio_queue *queue, struct rte_mempool *const *pools,
                   unsigned n_pools, const struct aio_frame *frames, unsigned n)
{
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    unsigned sent = 0, made, taken;

    if (queue->queue >= queue->port->state->info.tx_queues)
        return -1;
    while (sent < n) {
        unsigned part = RTE_MIN(n - sent, (unsigned)AIO_BURST_MAX);

        for (made = 0; made < part; made++) {
            mbufs[made] =
                aio_mbuf_of_frame(&frames[sent + made], pools, n_pools, queue->pool);
            if (!mbufs[made])
                break;
        }
        taken = rte_eth_tx_burst(queue->port->id, queue->queue, mbufs, (uint16_t)made);
        if (taken < made)
            rte_pktmbuf_free_bulk(mbufs + taken, made - taken);
        sent += taken;
        if (taken < part)
            break;
    }
    return (int)sent;
}

/* ---- opening --------------------------------------------------------------------------------------- */

static void open_descriptor(struct aio_queue *queue)
{
    queue->descriptor = -1;
    if (!queue->port->state->info.interrupts || queue->port->attached)
        return;
    queue->descriptor = rte_eth_dev_rx_intr_ctl_q_get_fd(queue->port->id, queue->queue);
    if (queue->descriptor < 0)
        return;
    queue->always_armed =
        rte_eth_dev_rx_intr_enable(queue->port->id, queue->queue) == -ENOTSUP;
}

int aio_queue_open(struct aio_queue *queue, const struct aio_dpdk_queue *what,
                   unsigned index, char *message)
{
    const struct aio_port_shared *state = what->port->state;

    *queue = (struct aio_queue){.port = what->port,
                                .queue = what->queue,
                                .index = (uint16_t)index,
                                .ends = state->info.ends,
                                .clock = state->clock};
    if (what->queue >= RTE_MAX(state->info.rx_queues, state->info.tx_queues))
        return aio_dpdk_fail(message, AIO_EINVAL, "%s has no queue %u", state->info.name,
                             what->queue);
    if (what->port->taken[what->queue])
        return aio_dpdk_fail(message, AIO_EINVAL, "queue %u of %s has a source already",
                             what->queue, state->info.name);
    queue->pool = state->pools[what->queue];
    queue->tally = &what->port->state->tallies[what->queue];
    if (state->clock == AIO_CLOCK_DEVICE &&
        !aio_clock_start(&queue->dev_clock, what->port->id))
        queue->clock = AIO_CLOCK_HOST;
    return AIO_OK;
}

static uint32_t caps_of(const struct aio_dpdk_source *s)
{
    uint32_t caps = AIO_CAP_RETAIN_FREE | AIO_CAP_TRANSMIT;

    return s->ends ? caps : caps | AIO_CAP_LIVE;
}

static int add_queue(struct aio_dpdk_source *s, const struct aio_dpdk_queue *what,
                     char *message)
{
    struct aio_queue *queue = &s->queues[s->n_queues];
    int result = aio_queue_open(queue, what, s->n_queues, message);

    if (result < 0)
        return result;
    open_descriptor(queue);
    what->port->taken[what->queue] = true;
    what->port->users++;
    s->pools[s->n_queues] = queue->pool;
    s->budget += what->port->state->budget;
    s->ends &= queue->ends;
    return AIO_OK;
}

int aio_dpdk_source_open(struct aio_source **out, const struct aio_dpdk_queue *queues,
                         unsigned n, char *message)
{
    struct aio_dpdk_source *s;
    int result;

    *out = NULL;
    message[0] = '\0';
    if (n == 0 || n > AIO_DPDK_PORTS_MAX)
        return aio_dpdk_fail(message, AIO_EINVAL, "a source reads 1 to %d queues",
                             AIO_DPDK_PORTS_MAX);
    s = calloc(1, sizeof *s);
    if (!s)
        return aio_dpdk_fail(message, AIO_ENOMEM, "out of memory");
    s->ends = true;
    s->all_descriptors = -1;
    for (; s->n_queues < n; s->n_queues++) {
        result = add_queue(s, &queues[s->n_queues], message);
        if (result < 0) {
            dpdk_close(&s->pub);
            return result;
        }
    }
    if (n > 1)
        s->all_descriptors = join_descriptors(s);
    s->pub.ops = &dpdk_ops;
    s->pub.caps = caps_of(s);
    s->pub.time_precision = s->ends ? 1000 : 1;
    *out = &s->pub;
    return AIO_OK;
}
