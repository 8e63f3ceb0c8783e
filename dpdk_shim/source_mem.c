/* source_mem.c -- frames from memory: tests, fuzzing, benchmarks, simulated ports.
 *
 * Plainly opened it hands out pointers to its own store: nothing is allocated for a
 * frame, and a benchmark can rewind. With segments or as a ring it makes a delivery of
 * every frame instead, each piece allocated by itself and overwritten when released, so
 * that a sanitizer (or a garbled byte) shows who reads too far or too late.
 */
#include "base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIECE 700u

struct frame_list {
    struct aio_frame *items; /* data of each: an allocation of exactly its length */
    size_t n, capacity;
};

struct aio_mem {
    struct aio_base base;
    struct aio_owner store;  /* owner of the frames that need no delivery */
    struct frame_list input; /* what was pushed */
    struct frame_list sent;  /* what was transmitted, perhaps by another thread */
    _Atomic uint64_t transmitted;
    size_t next;   /* index into input of the next frame to hand out */
    uint64_t lent; /* deliveries that are not released */
    uint32_t segment_seed;
    bool finished;
};

/* One frame as handed out, with the pieces that are freed together with it. */
struct delivery {
    struct aio_owner owner;
    uint8_t *head;
    uint32_t head_len;
    uint32_t n_segs;
    struct aio_seg *segs;
};

static struct aio_mem *mem_of(struct aio_source *src)
{
    return (struct aio_mem *)src;
}

/* ---- lists of frames -------------------------------------------------------------- */

static bool list_grow(struct frame_list *list)
{
    size_t capacity = list->capacity ? 2 * list->capacity : 64;
    struct aio_frame *items;

    if (list->n < list->capacity)
        return true;
    items = realloc(list->items, capacity * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    list->capacity = capacity;
    return true;
}

/* A place at the end of the list, with memory for len bytes; NULL without memory. */
static struct aio_frame *list_add(struct frame_list *list, const struct aio_frame *meta,
                                  uint32_t len)
{
    struct aio_frame *frame;
    uint8_t *data = malloc(len);

    if ((!data && len) || !list_grow(list)) {
        free(data);
        return NULL;
    }
    frame = &list->items[list->n++];
    *frame = *meta;
    frame->data = data;
    frame->next = NULL;
    frame->owner = NULL;
    frame->head_len = frame->cap_len = len;
    return frame;
}

static void list_free(struct frame_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free((void *)list->items[i].data);
    free(list->items);
}

/* ---- deliveries ------------------------------------------------------------------- */

static uint32_t random_next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Depends on seed and index alone: a rewound source cuts its frames in the same way. */
static uint32_t random_start(uint32_t seed, size_t index)
{
    uint32_t state = seed ^ ((uint32_t)index + 1) * 2654435761u;

    return state ? state : 1;
}

/* Every fourth piece is empty, the others are mostly short. */
static uint32_t piece_len(uint32_t *state, uint32_t left)
{
    uint32_t r = random_next(state);
    uint32_t len = r % 4 == 0 ? 0 : 1 + (r >> 8) % ((r & 0x40) ? MAX_PIECE : 16);

    return len < left ? len : left;
}

static uint8_t *copy_exactly(const uint8_t *data, uint32_t len)
{
    uint8_t *copy = malloc(len);

    if (copy)
        memcpy(copy, data, len);
    return copy;
}

static void scrub(uint8_t *data, uint32_t len)
{
    if (data)
        memset(data, 0xdd, len);
    free(data);
}

static void delivery_drop(struct aio_owner *owner)
{
    struct delivery *d = (struct delivery *)owner;

    mem_of(owner->src)->lent--;
    scrub(d->head, d->head_len);
    for (uint32_t i = 0; i < d->n_segs; i++)
        scrub((uint8_t *)d->segs[i].data, d->segs[i].len);
    free(d->segs);
    free(d);
}

/* Cuts what lies behind the head into pieces; false without memory. The lengths are
 * drawn twice, first to count them, so that the array is allocated once. */
static bool delivery_cut(struct delivery *d, const uint8_t *data, uint32_t len,
                         uint32_t state)
{
    uint32_t again = state, n = random_next(&again) % 4 == 0, left = len;

    for (state = again; left; n++)
        left -= piece_len(&again, left);
    d->segs = n ? calloc(n, sizeof *d->segs) : NULL;
    if (n && !d->segs)
        return false;
    for (; d->n_segs < n; d->n_segs++) {
        struct aio_seg *seg = &d->segs[d->n_segs];

        seg->len = piece_len(&state, len);
        seg->data = copy_exactly(data, seg->len);
        if (!seg->data)
            return false;
        seg->next = d->n_segs + 1 < n ? seg + 1 : NULL;
        data += seg->len;
        len -= seg->len;
    }
    return len == 0;
}

static uint32_t delivery_head(const struct aio_frame *frame, uint32_t *state)
{
    uint32_t len = frame->cap_len;
    uint32_t head = len < AIO_HEAD_MIN ? len : AIO_HEAD_MIN;

    if (random_next(state) % 2)
        head += piece_len(state, len - head);
    return head;
}

static bool delivery_fill(struct delivery *d, const struct aio_frame *frame, uint32_t seed,
                          size_t index)
{
    uint32_t state = random_start(seed, index);

    d->head_len = seed ? delivery_head(frame, &state) : frame->cap_len;
    d->head = copy_exactly(frame->data, d->head_len);
    if (!d->head)
        return false;
    return !seed ||
           delivery_cut(d, frame->data + d->head_len, frame->cap_len - d->head_len, state);
}

/* ---- operations ------------------------------------------------------------------- */

static bool mem_delivers(const struct aio_mem *mem)
{
    return mem->segment_seed || (mem->base.pub.caps & AIO_CAP_RING);
}

static bool mem_deliver(struct aio_mem *mem, struct aio_frame *out)
{
    struct delivery *d = calloc(1, sizeof *d);

    if (!d)
        return false;
    aio_owner_take(&mem->base, &d->owner, delivery_drop);
    mem->lent++;
    if (!delivery_fill(d, &mem->input.items[mem->next], mem->segment_seed, mem->next)) {
        aio_owner_put(&d->owner);
        return false;
    }
    *out = mem->input.items[mem->next];
    out->owner = d;
    out->data = d->head;
    out->head_len = d->head_len;
    out->next = d->n_segs ? d->segs : NULL;
    return true;
}

static bool mem_hand_out(struct aio_mem *mem, struct aio_frame *out)
{
    if (mem_delivers(mem)) {
        if (!mem_deliver(mem, out))
            return false;
    } else {
        *out = mem->input.items[mem->next];
        out->owner = &mem->store;
        mem->store.refs++;
    }
    mem->next++;
    mem->base.stats.frames++;
    mem->base.stats.bytes += out->cap_len;
    mem->base.stats.outstanding++;
    return true;
}

static int mem_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_mem *mem = mem_of(src);
    unsigned n = 0;

    if (mem->lent && (src->caps & AIO_CAP_RING))
        return aio_fail(src, AIO_EINVAL,
                        "burst() of a ring while %llu of its frames are not released",
                        (unsigned long long)mem->lent);
    while (n < max && mem->next < mem->input.n) {
        if (!mem_hand_out(mem, &out[n]))
            return n ? (int)n : aio_fail(src, AIO_ENOMEM, "out of memory");
        n++;
    }
    if (n || mem->next < mem->input.n || !mem->finished)
        return (int)n;
    return AIO_END;
}

static int mem_transmit(struct aio_source *src, uint16_t port,
                        const struct aio_frame *frames, unsigned n)
{
    struct aio_mem *mem = mem_of(src);

    for (unsigned i = 0; i < n; i++) {
        uint32_t len = frames[i].cap_len;
        struct aio_frame *sent = list_add(&mem->sent, &frames[i], len);

        if (!sent)
            return i ? (int)i : aio_fail(src, AIO_ENOMEM, "out of memory");
        aio_frame_copy(&frames[i], 0, len, (uint8_t *)sent->data);
        sent->port = port;
        atomic_fetch_add_explicit(&mem->transmitted, 1, memory_order_relaxed);
    }
    return (int)n;
}

static void mem_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_mem *mem = mem_of(src);

    *out = mem->base.stats;
    out->transmitted = atomic_load_explicit(&mem->transmitted, memory_order_relaxed);
}

static void mem_close(struct aio_source *src)
{
    struct aio_mem *mem = mem_of(src);

    aio_base_close(&mem->base);
    list_free(&mem->input);
    list_free(&mem->sent);
    free(mem);
}

static const struct aio_source_ops mem_ops = {
    .burst = mem_burst,
    .release = aio_base_release,
    .retain = aio_base_retain,
    .transmit = mem_transmit,
    .descriptor = aio_base_no_descriptor,
    .stats = mem_stats,
    .close = mem_close,
};

/* ---- what only a memory source can do --------------------------------------------- */

/* The store itself is freed by mem_close(). */
static void store_drop(struct aio_owner *owner)
{
    (void)owner;
}

int aio_mem_open(struct aio_source **out, const struct aio_mem_options *opt)
{
    bool ring = opt && opt->copy_on_retain;
    struct aio_mem *mem = calloc(1, sizeof *mem);

    *out = NULL;
    if (!mem)
        return AIO_ENOMEM;
    aio_base_init(&mem->base, &mem_ops,
                  AIO_CAP_TRANSMIT | AIO_CAP_TRANSMIT_THREAD |
                      (ring ? AIO_CAP_RING : AIO_CAP_RETAIN_FREE),
                  opt ? opt->retain_budget : 0);
    aio_owner_take(&mem->base, &mem->store, store_drop);
    mem->segment_seed = opt ? opt->segment_seed : 0;
    *out = &mem->base.pub;
    return AIO_OK;
}

int aio_mem_push(struct aio_source *src, const struct aio_frame *meta, const uint8_t *data,
                 uint32_t len)
{
    struct aio_mem *mem = mem_of(src);
    struct aio_frame *frame;

    if (meta->n_vlan > 2)
        return aio_fail(src, AIO_EINVAL, "more than two stripped VLAN tags");
    frame = list_add(&mem->input, meta, len);
    if (!frame)
        return aio_fail(src, AIO_ENOMEM, "out of memory");
    if (len)
        memcpy((uint8_t *)frame->data, data, len);
    if (frame->wire_len < len)
        frame->wire_len = len;
    mem->base.stats.input_pos += len;
    return AIO_OK;
}

void aio_mem_finish(struct aio_source *src)
{
    mem_of(src)->finished = true;
}

int aio_mem_rewind(struct aio_source *src)
{
    struct aio_mem *mem = mem_of(src);

    if (mem->base.stats.outstanding)
        return aio_fail(src, AIO_EINVAL, "%llu frames are not released",
                        (unsigned long long)mem->base.stats.outstanding);
    mem->next = 0;
    return AIO_OK;
}

int aio_mem_sent(struct aio_source *src, uint64_t index, struct aio_frame *out)
{
    struct aio_mem *mem = mem_of(src);

    if (index >= mem->sent.n)
        return AIO_END;
    *out = mem->sent.items[index];
    return AIO_OK;
}
