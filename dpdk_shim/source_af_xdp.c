/* source_af_xdp.c -- frames that an XDP program takes away from the kernel.
 *
 * They lie in memory that is shared with the kernel, cut into chunks. A chunk is the
 * kernel's until a frame comes in it, then its owner counts the holds on that frame, and
 * goes back to the fill ring with the last one. What is held starves the kernel; so when
 * half of all chunks are out, retain() copies instead.
 */
#include "xdp.h"

#include "offload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINKTYPE_ETHERNET 1
#define NS_PER_S 1000000000
#define MOST_KICKS 16u

static struct aio_xdp *xdp_of(struct aio_source *src)
{
    return (struct aio_xdp *)src;
}

/* ---- receiving -------------------------------------------------------------------- */

static void chunk_drop(struct aio_owner *owner)
{
    struct aio_xdp *x = xdp_of(owner->src);
    uint64_t index = (uint64_t)((struct aio_xdp_chunk *)owner - x->chunks);

    ((uint64_t *)x->fill.items)[aio_xdp_place(&x->fill)] = index * x->chunk_size;
    aio_xdp_produced(&x->fill);
    x->lent--;
}

static int64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void hand_out(struct aio_xdp *x, const struct xdp_desc *desc, int64_t now,
                     struct aio_frame *out)
{
    struct aio_xdp_chunk *chunk = &x->chunks[desc->addr / x->chunk_size];

    memset(out, 0, sizeof *out);
    aio_owner_take(&x->base, &chunk->owner, chunk_drop);
    x->lent++;
    out->owner = chunk;
    out->data = x->memory + desc->addr;
    out->head_len = out->cap_len = out->wire_len = desc->len;
    out->time_ns = now;
    out->link_type = LINKTYPE_ETHERNET;
    x->base.stats.bytes += desc->len;
}

/* The socket itself says nothing when its interface is deleted. */
static int xdp_idle(struct aio_xdp *x)
{
    struct epoll_event events[2];
    int n = epoll_wait(x->epoll_fd, events, 2, 0);

    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == x->watch_fd) {
            struct aio_netdev_news news =
                aio_netdev_changes(x->watch_fd, x->dev.index, x->dev.up);

            x->dev.up = news.up && !news.gone;
            x->link_losses += news.losses;
            x->gone = x->gone || news.gone;
        }
    }
    if (x->gone)
        return aio_fail(
            &x->base.pub, AIO_EIO,
            "interface %s is gone: it was deleted, or moved to another namespace",
            x->dev.name);
    return 0;
}

static int xdp_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_xdp *x = xdp_of(src);
    uint32_t n = aio_xdp_ready(&x->receive);
    int64_t now;

    if (n > max)
        n = max;
    if (n == 0)
        return max ? xdp_idle(x) : 0;
    now = clock_now();
    for (uint32_t i = 0; i < n; i++)
        hand_out(x, aio_xdp_desc(&x->receive, i), now, &out[i]);
    aio_xdp_consumed(&x->receive, n);
    x->base.stats.frames += n;
    x->base.stats.outstanding += n;
    return (int)n;
}

static int xdp_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_xdp *x = xdp_of(src);
    struct aio_owner *owner = frame->owner;

    if (!owner->pooled && x->lent > x->n_receive / 2) {
        if (!aio_pool_copy(&x->base.pool, frame)) {
            x->base.stats.dropped_pool++;
            return aio_fail(src, AIO_ENOMEM, "the retain pool's budget is used up");
        }
        x->base.stats.outstanding++;
        return AIO_OK;
    }
    return aio_base_retain(src, frame);
}

/* ---- sending ---------------------------------------------------------------------- */

static void reap(struct aio_xdp *x)
{
    uint32_t n = aio_xdp_ready(&x->done);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = ((uint64_t *)x->done.items)[(x->done.own + i) & x->done.mask];

        x->send_free[x->n_send_free++] = (uint32_t)(at / x->chunk_size);
    }
    if (n)
        aio_xdp_consumed(&x->done, n);
}

static void send_one(struct aio_xdp *x, const struct aio_frame *frame)
{
    uint64_t at = (uint64_t)x->send_free[--x->n_send_free] * x->chunk_size;
    struct xdp_desc *desc = (struct xdp_desc *)x->send.items + aio_xdp_place(&x->send);

    aio_frame_copy(frame, 0, frame->cap_len, x->memory + at);
    if (frame->csum_l4 == AIO_CSUM_NOT_FILLED)
        aio_offload_fill(x->memory + at, frame->cap_len);
    *desc = (struct xdp_desc){.addr = at, .len = frame->cap_len};
    aio_xdp_produced(&x->send);
}

/* The kernel takes some 32 frames a call, and says "again" while there are more. What it
 * does not take now, it takes when somebody waits on the descriptor. */
static void kick(struct aio_xdp *x)
{
    for (unsigned i = 0; i < MOST_KICKS; i++) {
        if (__atomic_load_n(x->send.consumer, __ATOMIC_ACQUIRE) == x->send.own)
            return;
        if (sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN)
            return;
    }
}

static int xdp_transmit(struct aio_source *src, uint16_t port,
                        const struct aio_frame *frames, unsigned n)
{
    struct aio_xdp *x = xdp_of(src);
    unsigned done = 0;

    (void)port;
    if (n && frames[0].cap_len > x->chunk_size)
        return aio_fail(src, AIO_EINVAL, "%s: a frame of %u bytes; AF_XDP sends up to %u",
                        x->dev.name, frames[0].cap_len, x->chunk_size);
    reap(x);
    while (done < n && x->n_send_free && frames[done].cap_len <= x->chunk_size)
        send_one(x, &frames[done++]);
    kick(x);
    x->base.stats.transmitted += done;
    return (int)done;
}

/* ---- the rest --------------------------------------------------------------------- */

static int xdp_descriptor(struct aio_source *src)
{
    return xdp_of(src)->epoll_fd;
}

static void xdp_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_xdp *x = xdp_of(src);
    struct xdp_statistics kernel = {.rx_dropped = 0};
    socklen_t len = sizeof kernel;
    uint64_t missed = aio_netdev_missed(x->ask_fd, x->dev.index);

    *out = x->base.stats;
    getsockopt(x->fd, SOL_XDP, XDP_STATISTICS, &kernel, &len);
    out->dropped_kernel = kernel.rx_dropped + kernel.rx_ring_full;
    if (missed > x->missed_before)
        out->dropped_nic = missed - x->missed_before;
}

static void unmap(struct aio_xdp_ring *ring)
{
    if (ring->map)
        munmap(ring->map, ring->map_len);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void aio_xdp_free(struct aio_xdp *x)
{
    if (x->program)
        aio_xdp_program_put(x->program);
    aio_base_close(&x->base);
    close_fd(x->epoll_fd);
    close_fd(x->fd);
    close_fd(x->watch_fd);
    close_fd(x->ask_fd);
    unmap(&x->receive);
    unmap(&x->fill);
    unmap(&x->send);
    unmap(&x->done);
    if (x->memory)
        munmap(x->memory, x->memory_len);
    free(x->chunks);
    free(x->send_free);
    free(x);
}

static void xdp_close(struct aio_source *src)
{
    aio_xdp_free(xdp_of(src));
}

void aio_xdp_get_link(struct aio_source *src, struct aio_xdp_link *out)
{
    struct aio_xdp *x = xdp_of(src);

    *out = (struct aio_xdp_link){
        .losses = x->link_losses,
        .up = x->dev.up,
        .generic = aio_xdp_program_is_generic(x->program),
    };
}

const struct aio_source_ops aio_xdp_ops = {
    .burst = xdp_burst,
    .release = aio_base_release,
    .retain = xdp_retain,
    .transmit = xdp_transmit,
    .descriptor = xdp_descriptor,
    .stats = xdp_stats,
    .close = xdp_close,
};
