/* source_merge.c -- several sources as one, ordered by time.
 *
 * Of each part some frames lie in a small buffer; a heap of the parts, ordered by the
 * time of their next frame, says whose turn it is. Frames keep the owner that their part
 * gave them, and an owner knows its source: so release and retain find the part without
 * any table. Ports are renumbered as they are first met, since every file calls its first
 * interface 0. */
#include "base.h"

#include <stdlib.h>
#include <string.h>

struct part {
    struct aio_source *src;
    unsigned head, n; /* of ahead: next to hand out, number */
    int result;       /* not 0: it has ended, and how */
    uint16_t n_ports; /* length of ports */
    uint16_t *ports;  /* merged port + 1 of each of its ports, 0 = not met yet */
    struct aio_frame ahead[AIO_BURST_MAX];
};

struct aio_merge {
    struct aio_base base;
    struct part *parts;
    unsigned n_parts;
    unsigned *heap; /* parts with a frame ahead, earliest first */
    unsigned n_heap;
    unsigned *dry; /* parts to be asked again: new, exhausted, or with nothing just now */
    unsigned n_dry;
    uint32_t n_ports;
};

static struct aio_merge *merge_of(struct aio_source *src)
{
    return (struct aio_merge *)src;
}

static struct aio_source *source_of(const struct aio_frame *frame)
{
    return ((struct aio_owner *)frame->owner)->src;
}

/* ---- whose turn it is ------------------------------------------------------------- */

static bool earlier(const struct aio_merge *m, unsigned a, unsigned b)
{
    int64_t time_a = m->parts[a].ahead[m->parts[a].head].time_ns;
    int64_t time_b = m->parts[b].ahead[m->parts[b].head].time_ns;

    return time_a != time_b ? time_a < time_b : a < b;
}

static void heap_sink(struct aio_merge *m)
{
    unsigned i = 0, part = m->heap[0];

    for (;;) {
        unsigned child = 2 * i + 1;

        if (child + 1 < m->n_heap && earlier(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (child >= m->n_heap || !earlier(m, m->heap[child], part))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = part;
}

static void heap_add(struct aio_merge *m, unsigned part)
{
    unsigned i = m->n_heap++;

    for (; i > 0 && earlier(m, part, m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = part;
}

static void heap_drop_first(struct aio_merge *m)
{
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap)
        heap_sink(m);
}

/* ---- filling ---------------------------------------------------------------------- */

static void part_fill(struct aio_merge *m, unsigned index)
{
    struct part *part = &m->parts[index];
    int n = part->src->ops->burst(part->src, part->ahead, AIO_BURST_MAX);

    if (part->src->time_precision < m->base.pub.time_precision)
        m->base.pub.time_precision = part->src->time_precision;
    part->head = 0;
    part->n = n > 0 ? (unsigned)n : 0;
    if (n > 0)
        heap_add(m, index);
    else if (n == 0)
        m->dry[m->n_dry++] = index;
    else
        part->result = n;
}

/* Asks every dry part once. One that has nothing now (a memory source that is still being
 * filled) is not waited for. */
static void merge_fill(struct aio_merge *m)
{
    unsigned n = m->n_dry;

    m->n_dry = 0;
    for (unsigned i = 0; i < n; i++)
        part_fill(m, m->dry[i]);
}

/* ---- ports ------------------------------------------------------------------------ */

static bool ports_grow(struct part *part, uint16_t port)
{
    uint32_t n = port < 8 ? 8 : 2u * port;
    uint16_t *ports;

    n = n < UINT16_MAX ? n : UINT16_MAX;
    ports = realloc(part->ports, n * sizeof *ports);
    if (!ports)
        return false;
    memset(ports + part->n_ports, 0, (n - part->n_ports) * sizeof *ports);
    part->ports = ports;
    part->n_ports = (uint16_t)n;
    return true;
}

/* Ports beyond the last number share it, as they do when memory is short. */
static uint16_t merged_port(struct aio_merge *m, struct part *part, uint16_t port)
{
    if (port >= part->n_ports && (port == UINT16_MAX || !ports_grow(part, port)))
        return UINT16_MAX;
    if (part->ports[port] == 0)
        part->ports[port] = (uint16_t)(m->n_ports < UINT16_MAX ? ++m->n_ports : UINT16_MAX);
    return (uint16_t)(part->ports[port] - 1);
}

/* ---- operations ------------------------------------------------------------------- */

static void merge_hand_out(struct aio_merge *m, struct aio_frame *out)
{
    unsigned index = m->heap[0];
    struct part *part = &m->parts[index];

    *out = part->ahead[part->head++];
    out->port = merged_port(m, part, out->port);
    m->base.stats.frames++;
    m->base.stats.bytes += out->cap_len;
    if (part->head < part->n) {
        heap_sink(m);
    } else {
        m->dry[m->n_dry++] = index;
        heap_drop_first(m);
    }
}

/* What the parts ended with: the worst of it, of equals the first. */
static int merge_result(struct aio_merge *m)
{
    const struct part *worst = &m->parts[0];

    for (unsigned i = 1; i < m->n_parts; i++)
        if (aio_severity(m->parts[i].result) > aio_severity(worst->result))
            worst = &m->parts[i];
    memcpy(m->base.pub.message, worst->src->message, sizeof m->base.pub.message);
    return worst->result;
}

/* A ring among the parts must not be asked again before its frames came back: then the
 * burst ends where a part is exhausted, and the rest comes with the next. */
static int merge_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_merge *m = merge_of(src);
    bool ring = src->caps & AIO_CAP_RING;
    unsigned n = 0;

    while (n < max) {
        if (m->n_dry && ring && n)
            break;
        if (m->n_dry)
            merge_fill(m);
        if (m->n_heap == 0)
            break;
        merge_hand_out(m, &out[n++]);
    }
    if (n || max == 0 || m->n_dry)
        return (int)n;
    return merge_result(m);
}

static void merge_release(struct aio_source *src, const struct aio_frame *frames,
                          unsigned n)
{
    (void)src;
    for (unsigned i = 0, end; i < n; i = end) {
        struct aio_source *part = source_of(&frames[i]);

        for (end = i + 1; end < n && source_of(&frames[end]) == part; end++)
            ;
        part->ops->release(part, &frames[i], end - i);
    }
}

static int merge_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_source *part = source_of(frame);
    int r = part->ops->retain(part, frame);

    if (r < 0)
        memcpy(src->message, part->message, sizeof src->message);
    return r;
}

static void add_part(struct aio_source_stats *sum, const struct part *part, bool *sized)
{
    struct aio_source_stats one;

    part->src->ops->stats(part->src, &one);
    aio_stats_add_parts(sum, &one);
    sum->outstanding -= part->n - part->head;
    *sized = *sized && one.input_size;
}

static void merge_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_merge *m = merge_of(src);
    bool sized = true;

    *out = m->base.stats;
    for (unsigned i = 0; i < m->n_parts; i++)
        add_part(out, &m->parts[i], &sized);
    if (!sized)
        out->input_size = 0;
}

static void merge_free(struct aio_merge *m)
{
    for (unsigned i = 0; m->parts && i < m->n_parts; i++)
        free(m->parts[i].ports);
    free(m->parts);
    free(m->heap);
    free(m->dry);
    free(m);
}

static void merge_close(struct aio_source *src)
{
    struct aio_merge *m = merge_of(src);

    for (unsigned i = 0; i < m->n_parts; i++)
        m->parts[i].src->ops->close(m->parts[i].src);
    merge_free(m);
}

static const struct aio_source_ops merge_ops = {
    .burst = merge_burst,
    .release = merge_release,
    .retain = merge_retain,
    .transmit = aio_base_no_transmit,
    .descriptor = aio_base_no_descriptor,
    .stats = merge_stats,
    .close = merge_close,
};

/* ---- opening ---------------------------------------------------------------------- */

static struct aio_merge *merge_new(unsigned n)
{
    struct aio_merge *m = calloc(1, sizeof *m);

    if (!m)
        return NULL;
    m->parts = calloc(n, sizeof *m->parts);
    m->heap = calloc(n, sizeof *m->heap);
    m->dry = calloc(n, sizeof *m->dry);
    if (m->parts && m->heap && m->dry)
        return m;
    merge_free(m);
    return NULL;
}

static bool all_mergeable(struct aio_source **parts, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (parts[i]->caps & AIO_CAP_LIVE)
            return false;
    return true;
}

static void merge_adopt(struct aio_merge *m, struct aio_source **parts, unsigned n)
{
    uint32_t ring = 0;

    for (unsigned i = 0; i < n; i++) {
        m->parts[i].src = parts[i];
        m->dry[m->n_dry++] = i;
        ring |= parts[i]->caps & AIO_CAP_RING;
    }
    m->n_parts = n;
    aio_base_init(&m->base, &merge_ops, ring ? ring : AIO_CAP_RETAIN_FREE, 0);
    m->base.pub.time_precision = parts[0]->time_precision;
    for (unsigned i = 1; i < n; i++)
        if (parts[i]->time_precision < m->base.pub.time_precision)
            m->base.pub.time_precision = parts[i]->time_precision;
}

/* Live sources have no order to wait for: AIO_ENOTSUP, and the parts stay the caller's,
 * as they do whenever this fails. One part needs no merging and is handed back. */
int aio_merge_open(struct aio_source **out, struct aio_source **parts, unsigned n)
{
    struct aio_merge *m;

    *out = NULL;
    if (n == 0)
        return AIO_EINVAL;
    if (!all_mergeable(parts, n))
        return AIO_ENOTSUP;
    if (n == 1) {
        *out = parts[0];
        return AIO_OK;
    }
    m = merge_new(n);
    if (!m)
        return AIO_ENOMEM;
    merge_adopt(m, parts, n);
    *out = &m->base.pub;
    return AIO_OK;
}
