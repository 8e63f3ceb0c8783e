/* source_join.c -- several sources as one, frames as they come (by time: source_merge.c).
 *
 * Each part has a range of port numbers, so the port of a frame says whose it is, whatever
 * stands behind its owner.
 */
#include "base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct part {
    struct aio_source *src;
    uint16_t base, n_ports;
    int result;  /* not 0: it has ended, and how */
    int watched; /* its descriptor, as the epoll descriptor has it; -1: none */
};

struct aio_join {
    struct aio_base base;
    struct part *parts;
    unsigned n_parts;
    unsigned turn;     /* the part that is asked first */
    uint16_t *part_of; /* index of the part of each port */
    uint32_t n_ports;
    int epoll;
};

static struct aio_join *join_of(struct aio_source *src)
{
    return (struct aio_join *)src;
}

static struct part *part_of(const struct aio_join *join, uint16_t port)
{
    return &join->parts[join->part_of[port]];
}

/* ---- taking ----------------------------------------------------------------------- */

static void part_unwatch(struct aio_join *join, struct part *part)
{
    if (part->watched >= 0)
        epoll_ctl(join->epoll, EPOLL_CTL_DEL, part->watched, NULL);
    part->watched = -1;
}

static void part_end(struct aio_join *join, struct part *part, int result)
{
    part->result = result;
    part_unwatch(join, part);
    if (result != AIO_END)
        memcpy(join->base.pub.message, part->src->message, sizeof join->base.pub.message);
}

static unsigned part_burst(struct aio_join *join, struct part *part, struct aio_frame *out,
                           unsigned max)
{
    int n = part->src->ops->burst(part->src, out, max);

    if (n < 0) {
        part_end(join, part, n);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        uint16_t port = out[i].port < part->n_ports ? out[i].port : part->n_ports - 1;

        out[i].port = (uint16_t)(part->base + port);
    }
    if (part->src->time_precision < join->base.pub.time_precision)
        join->base.pub.time_precision = part->src->time_precision;
    return (unsigned)n;
}

/* What the parts ended with: the worst of it, of equals the first. 0 while one has not; but
 * a live part that failed ends all, when the others have nothing just now: some of them may
 * never end, and nobody would hear of it. */
static int join_result(struct aio_join *join)
{
    const struct part *worst = NULL;
    bool over = true;

    for (unsigned i = 0; i < join->n_parts; i++) {
        const struct part *part = &join->parts[i];

        if (part->result == AIO_OK)
            over = false;
        else if (!worst || aio_severity(part->result) > aio_severity(worst->result))
            worst = part;
    }
    if (!over && !(worst && worst->result == AIO_EIO && join->base.pub.caps & AIO_CAP_LIVE))
        return AIO_OK;
    memcpy(join->base.pub.message, worst->src->message, sizeof join->base.pub.message);
    return worst->result;
}

/* The parts in turns, each for all that there is still room for: when room is left at the
 * end, every part was asked for more than it had, and may be waited for. Who fills the
 * burst comes last in the next. */
static int join_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_join *join = join_of(src);
    unsigned n = 0, first = join->turn;

    for (unsigned i = 0; i < join->n_parts && n < max; i++) {
        unsigned index = (first + i) % join->n_parts;

        if (join->parts[index].result == AIO_OK)
            n += part_burst(join, &join->parts[index], out + n, max - n);
        join->turn = (index + 1) % join->n_parts;
    }
    return n ? (int)n : join_result(join);
}

/* ---- giving back ------------------------------------------------------------------ */

/* A part gets its frames as it gave them, which is with its own port. */
static void part_release(struct part *part, const struct aio_frame *frames, unsigned n)
{
    struct aio_frame own[AIO_BURST_MAX];

    while (part->base && n) {
        unsigned some = n < AIO_BURST_MAX ? n : AIO_BURST_MAX;

        memcpy(own, frames, some * sizeof *own);
        for (unsigned i = 0; i < some; i++)
            own[i].port = (uint16_t)(own[i].port - part->base);
        part->src->ops->release(part->src, own, some);
        frames += some;
        n -= some;
    }
    if (n)
        part->src->ops->release(part->src, frames, n);
}

static void join_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    struct aio_join *join = join_of(src);

    for (unsigned i = 0, end; i < n; i = end) {
        struct part *part = part_of(join, frames[i].port);

        for (end = i + 1; end < n && part_of(join, frames[end].port) == part; end++)
            ;
        part_release(part, &frames[i], end - i);
    }
}

static int join_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct part *part = part_of(join_of(src), frame->port);
    int r;

    frame->port = (uint16_t)(frame->port - part->base);
    r = part->src->ops->retain(part->src, frame);
    frame->port = (uint16_t)(frame->port + part->base);
    if (r < 0)
        memcpy(src->message, part->src->message, sizeof src->message);
    return r;
}

static int join_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n)
{
    struct aio_join *join = join_of(src);
    struct part *part;
    int r;

    if (port >= join->n_ports)
        return aio_fail(src, AIO_EINVAL, "there is no port %u: they are 0 to %u", port,
                        (unsigned)join->n_ports - 1);
    part = part_of(join, port);
    r = part->src->ops->transmit(part->src, (uint16_t)(port - part->base), frames, n);
    if (r < 0)
        memcpy(src->message, part->src->message, sizeof src->message);
    return r;
}

/* ---- waiting ---------------------------------------------------------------------- */

static bool part_watch(struct aio_join *join, struct part *part)
{
    struct epoll_event event = {.events = EPOLLIN};
    int fd;

    if (part->result < 0 || part->watched >= 0)
        return true;
    fd = part->src->ops->descriptor(part->src);
    if (fd < 0 || epoll_ctl(join->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return false;
    part->watched = fd;
    return true;
}

/* One part that cannot be waited for is reason enough not to wait. */
static int join_descriptor(struct aio_source *src)
{
    struct aio_join *join = join_of(src);

    for (unsigned i = 0; i < join->n_parts; i++)
        if (!part_watch(join, &join->parts[i]))
            return -1;
    return join->epoll;
}

/* ---- the rest --------------------------------------------------------------------- */

static void join_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_join *join = join_of(src);
    bool sized = true;

    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < join->n_parts; i++) {
        struct aio_source_stats one;

        join->parts[i].src->ops->stats(join->parts[i].src, &one);
        out->frames += one.frames;
        out->bytes += one.bytes;
        out->transmitted += one.transmitted;
        aio_stats_add_parts(out, &one);
        sized = sized && one.input_size;
    }
    if (!sized)
        out->input_size = 0;
}

static void join_free(struct aio_join *join)
{
    if (join->epoll >= 0)
        close(join->epoll);
    free(join->parts);
    free(join->part_of);
    free(join);
}

static void join_close(struct aio_source *src)
{
    struct aio_join *join = join_of(src);

    for (unsigned i = 0; i < join->n_parts; i++) {
        part_unwatch(join, &join->parts[i]);
        join->parts[i].src->ops->close(join->parts[i].src);
    }
    join_free(join);
}

static const struct aio_source_ops join_ops = {
    .burst = join_burst,
    .release = join_release,
    .retain = join_retain,
    .transmit = join_transmit,
    .descriptor = join_descriptor,
    .stats = join_stats,
    .close = join_close,
};

/* ---- opening ---------------------------------------------------------------------- */

static struct aio_join *join_new(unsigned n_parts, uint32_t n_ports)
{
    struct aio_join *join = calloc(1, sizeof *join);

    if (!join)
        return NULL;
    join->parts = calloc(n_parts, sizeof *join->parts);
    join->part_of = calloc(UINT16_MAX + 1, sizeof *join->part_of);
    join->epoll = epoll_create1(EPOLL_CLOEXEC);
    join->n_parts = n_parts;
    join->n_ports = n_ports;
    if (join->parts && join->part_of && join->epoll >= 0)
        return join;
    join_free(join);
    return NULL;
}

/* What all have, or, of a ring and of transmitting, any: whom a port belongs to says if
 * it can. Never AIO_CAP_TRANSMIT_THREAD: message is of one thread. */
static uint32_t joined_caps(struct aio_source **parts, unsigned n)
{
    uint32_t all = UINT32_MAX, any = 0;

    for (unsigned i = 0; i < n; i++) {
        all &= parts[i]->caps;
        any |= parts[i]->caps;
    }
    return (all & (AIO_CAP_LIVE | AIO_CAP_RETAIN_FREE)) |
           (any & (AIO_CAP_RING | AIO_CAP_TRANSMIT));
}

static void join_adopt(struct aio_join *join, struct aio_source **parts,
                       const uint16_t *ports)
{
    uint32_t port = 0;

    aio_base_init(&join->base, &join_ops, joined_caps(parts, join->n_parts), 0);
    join->base.pub.time_precision = parts[0]->time_precision;
    for (unsigned i = 0; i < join->n_parts; i++) {
        struct part *part = &join->parts[i];

        part->src = parts[i];
        part->watched = -1;
        part->base = (uint16_t)port;
        part->n_ports = ports ? ports[i] : 1;
        for (unsigned k = 0; k < part->n_ports; k++)
            join->part_of[port++] = (uint16_t)i;
        if (parts[i]->time_precision < join->base.pub.time_precision)
            join->base.pub.time_precision = parts[i]->time_precision;
    }
}

/* The number of all ports; 0 when a part has none, or they are too many. */
static uint32_t count_ports(const uint16_t *ports, unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n && sum <= UINT16_MAX; i++) {
        if (ports && ports[i] == 0)
            return 0;
        sum += ports ? ports[i] : 1;
    }
    return sum <= UINT16_MAX ? sum : 0;
}

static bool alike(struct aio_source **parts, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        if ((parts[i]->caps ^ parts[0]->caps) & AIO_CAP_LIVE)
            return false;
    return true;
}

int aio_join_open(struct aio_source **out, struct aio_source **parts, const uint16_t *ports,
                  unsigned n)
{
    uint32_t n_ports = count_ports(ports, n);
    struct aio_join *join;

    *out = NULL;
    if (n_ports == 0)
        return AIO_EINVAL;
    if (!alike(parts, n))
        return AIO_ENOTSUP;
    join = join_new(n, n_ports);
    if (!join)
        return AIO_ENOMEM;
    join_adopt(join, parts, ports);
    *out = &join->base.pub;
    return AIO_OK;
}
