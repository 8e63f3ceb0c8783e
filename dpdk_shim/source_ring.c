/* source_ring.c -- the reading end of a ring of frames, as a source.
 *
 * Frames are handed out where they lie. What is given back is marked in its record, and
 * the tail moves over marked records only: so the room comes back in order, and whoever
 * takes over from a dead reader knows what it had in its hands.
 */
#include "base.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Wake-ups for nothing after which a bell is read that nobody expects. */
#define LATE_BELL 16

struct ring_source {
    struct aio_base base;
    struct aio_ring *ring;
    uint64_t pos, frames, bytes; /* taken */
    uint64_t head;               /* as it was last looked at */
    uint64_t tail, gone;         /* given back, with the abandoned, and how many frames */
    uint64_t abandoned;
    uint64_t dropped_before; /* the ring's drops before this reader */
    bool end_when_ended;
    bool armed;    /* asleep was set, and not cleared by us */
    bool bell_due; /* the bell was rung, or is about to be, and was not read */
    uint8_t idle;  /* bursts in a row that found nothing and nobody's bell */
    int result;    /* not 0: no frame will come any more, and why */
};

static struct ring_source *ring_of(struct aio_source *src)
{
    return (struct ring_source *)src;
}

/* ---- the tail --------------------------------------------------------------------- */

static uint32_t state_of(const struct aio_ring_record *record)
{
    return atomic_load_explicit(&record->state, memory_order_relaxed);
}

static void tail_publish(struct ring_source *rs, uint64_t pos)
{
    if (pos == rs->tail)
        return;
    rs->tail = pos;
    aio_ring_move(&rs->ring->header->tail, pos, rs->gone, rs->abandoned,
                  memory_order_release);
}

/* Over what was given back, up to the first record that was not. */
static void tail_advance(struct ring_source *rs)
{
    uint64_t pos = rs->tail;

    while (pos != rs->pos) {
        uint32_t length;
        struct aio_ring_record *record = aio_ring_at(rs->ring, pos, rs->pos, &length);

        if (!record || state_of(record) == AIO_RING_FRAME)
            break;
        rs->gone += state_of(record) == AIO_RING_GIVEN;
        pos += length;
    }
    tail_publish(rs, pos);
}

/* What the reader before us held goes: it may be the reason why it is gone. Of the frames
 * that had gone by at the tail, and at its end, we know the numbers; of those between,
 * the marked ones were given back. */
static void abandon(struct ring_source *rs)
{
    uint64_t held = rs->frames - rs->gone;
    uint32_t length;

    for (uint64_t pos = rs->tail; pos != rs->pos; pos += length) {
        struct aio_ring_record *record = aio_ring_at(rs->ring, pos, rs->pos, &length);

        if (!record)
            break;
        held -= held && state_of(record) == AIO_RING_GIVEN;
    }
    rs->gone = rs->frames;
    rs->abandoned += held;
    tail_publish(rs, rs->pos);
}

/* ---- sleeping --------------------------------------------------------------------- */

static uint64_t look_at_head(struct ring_source *rs)
{
    return rs->head = atomic_load(&rs->ring->header->head.pos);
}

/* Whoever clears the flag decides: if it was the writer, its bell is on the way. */
static void disarm(struct ring_source *rs)
{
    if (!rs->armed)
        return;
    rs->armed = false;
    if (atomic_exchange(&rs->ring->header->asleep, 0) == 0)
        rs->bell_due = true;
}

static void drain_bell(struct ring_source *rs)
{
    uint64_t count;
    ssize_t n = read(rs->ring->bell, &count, sizeof count);

    (void)n; /* nothing yet: the bell comes late, and wakes somebody for nothing */
    rs->bell_due = false;
}

/* True when there is nothing and the writer will ring; see wake_reader() for why the head
 * is looked at after the flag was set. It is looked at after the bell was read, too: the
 * frames that a bell stood for are not slept over. A bell that comes late, or that a new
 * writer rings, is found by reading it now and then where bursts find nothing. */
static bool arm(struct ring_source *rs)
{
    if (rs->armed && atomic_load(&rs->ring->header->asleep) == 0)
        disarm(rs); /* rung since */
    if (rs->bell_due || (rs->armed && ++rs->idle % LATE_BELL == 0))
        drain_bell(rs);
    if (!rs->armed) {
        atomic_store(&rs->ring->header->asleep, 1);
        rs->armed = true;
    }
    return look_at_head(rs) == rs->pos;
}

/* ---- taking ----------------------------------------------------------------------- */

/* The lengths are checked as copied: what stands in the ring may change. */
static bool fill(struct aio_frame *out, struct aio_ring_record *record, uint32_t length)
{
    memcpy(&out->time_ns, record->meta, sizeof record->meta);
    out->data = record->data;
    out->next = NULL;
    out->owner = record;
    out->head_len = out->cap_len;
    return out->cap_len <= length - sizeof *record && out->n_vlan <= 2;
}

/* The next record; 1 a frame, 0 a marker, or AIO_ECORRUPT. */
static int take_one(struct ring_source *rs, struct aio_frame *out)
{
    uint32_t length, state;
    struct aio_ring_record *record = aio_ring_at(rs->ring, rs->pos, rs->head, &length);

    if (!record)
        return AIO_ECORRUPT;
    state = state_of(record);
    if (state == AIO_RING_WRAP) {
        rs->pos += length;
        return 0;
    }
    if (state != AIO_RING_FRAME || !fill(out, record, length))
        return AIO_ECORRUPT;
    rs->pos += length;
    rs->frames++;
    rs->bytes += out->cap_len;
    return 1;
}

static unsigned take_waiting(struct ring_source *rs, struct aio_frame *out, unsigned max)
{
    bool sane = rs->head - rs->tail <= rs->ring->size;
    unsigned n = 0;

    while (n < max && rs->pos != rs->head) {
        int r = sane ? take_one(rs, &out[n]) : AIO_ECORRUPT;

        if (r < 0) {
            rs->result = aio_fail(&rs->base.pub, r,
                                  "the ring is damaged at %llu: start writer and reader "
                                  "again with a new one",
                                  (unsigned long long)rs->pos);
            break;
        }
        n += (unsigned)r;
    }
    return n;
}

/* Before the frames are seen: a successor must know them, if one of them kills us. */
static void take_publish(struct ring_source *rs, unsigned n, uint64_t bytes_before)
{
    aio_ring_move(&rs->ring->header->taken, rs->pos, rs->frames, rs->bytes,
                  memory_order_release);
    rs->base.stats.frames += n;
    rs->base.stats.bytes += rs->bytes - bytes_before;
    rs->base.stats.outstanding += n;
}

/* Whether all was said; the head is looked at after the flag, as what comes before it. */
static bool has_ended(struct ring_source *rs)
{
    return rs->end_when_ended && atomic_load(&rs->ring->header->ended) &&
           look_at_head(rs) == rs->pos;
}

/* What there is, up to max; armed, if that is less. */
static unsigned take(struct ring_source *rs, struct aio_frame *out, unsigned max)
{
    unsigned n = 0;

    look_at_head(rs);
    while (rs->result == AIO_OK) {
        if (rs->pos != rs->head)
            disarm(rs);
        n += take_waiting(rs, out + n, max - n);
        if (n == max || arm(rs))
            break;
    }
    return n;
}

/* Something is left to be told that no writer will ring for. */
static void ring_for_result(struct ring_source *rs)
{
    if (rs->result == AIO_OK && !has_ended(rs))
        return;
    aio_ring_wake(rs->ring->bell);
    rs->bell_due = true;
}

static int ring_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct ring_source *rs = ring_of(src);
    uint64_t bytes = rs->bytes;
    unsigned n;

    if (max == 0)
        return rs->result;
    n = take(rs, out, max);
    if (n) {
        take_publish(rs, n, bytes);
        if (n < max)
            ring_for_result(rs);
        return (int)n;
    }
    if (rs->result == AIO_OK && has_ended(rs))
        rs->result = AIO_END;
    return rs->result;
}

/* ---- giving back ------------------------------------------------------------------ */

static bool in_ring(const struct ring_source *rs, const void *owner)
{
    return (uintptr_t)owner - (uintptr_t)rs->ring->data < rs->ring->size;
}

static void ring_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    struct ring_source *rs = ring_of(src);

    for (unsigned i = 0; i < n; i++) {
        struct aio_ring_record *record = frames[i].owner;

        if (in_ring(rs, record))
            atomic_store_explicit(&record->state, AIO_RING_GIVEN, memory_order_relaxed);
        else
            aio_owner_put(frames[i].owner);
    }
    rs->base.stats.outstanding -= n;
    tail_advance(rs);
}

/* A frame of the ring has no owner that could be held twice: it is copied, as its caps
 * say; a copy is held as often as anybody likes. */
static int ring_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct ring_source *rs = ring_of(src);

    if (!in_ring(rs, frame->owner))
        return aio_base_retain(src, frame);
    if (!aio_pool_copy(&rs->base.pool, frame)) {
        rs->base.stats.dropped_pool++;
        return aio_fail(src, AIO_ENOMEM, "the retain pool's budget is used up");
    }
    rs->base.stats.outstanding++;
    return AIO_OK;
}

/* ---- the rest --------------------------------------------------------------------- */

static int ring_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n)
{
    (void)port, (void)frames, (void)n;
    return aio_fail(src, AIO_ENOTSUP, "a ring of frames is read here, not written");
}

static int ring_descriptor(struct aio_source *src)
{
    return ring_of(src)->ring->bell;
}

static void ring_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct ring_source *rs = ring_of(src);
    struct aio_ring_stats ring;

    aio_ring_get_stats(rs->ring, &ring);
    *out = rs->base.stats;
    out->dropped_ring = ring.dropped - rs->dropped_before;
    out->queued = ring.pushed > rs->frames ? ring.pushed - rs->frames : 0;
}

static void ring_close(struct aio_source *src)
{
    struct ring_source *rs = ring_of(src);

    aio_base_close(&rs->base);
    atomic_store(&rs->ring->has_reader, false);
    aio_ring_put(rs->ring);
    free(rs);
}

static const struct aio_source_ops ring_ops = {
    .burst = ring_burst,
    .release = ring_release,
    .retain = ring_retain,
    .transmit = ring_transmit,
    .descriptor = ring_descriptor,
    .stats = ring_stats,
    .close = ring_close,
};

/* ---- opening ---------------------------------------------------------------------- */

/* Where the reader before stopped, or false when its header cannot be right. */
static bool resume(struct ring_source *rs)
{
    const struct aio_ring_header *header = rs->ring->header;
    struct aio_ring_mark tail, taken;

    if (!aio_ring_look(&header->tail, &tail) || !aio_ring_look(&header->taken, &taken))
        return false;
    rs->tail = tail.pos;
    rs->gone = tail.frames;
    rs->abandoned = tail.other;
    rs->pos = taken.pos;
    rs->frames = taken.frames;
    rs->bytes = taken.other;
    look_at_head(rs);
    return rs->tail % AIO_RING_ALIGN == 0 && rs->pos % AIO_RING_ALIGN == 0 &&
           rs->head % AIO_RING_ALIGN == 0 && rs->head - rs->tail <= rs->ring->size &&
           rs->pos - rs->tail <= rs->head - rs->tail && rs->frames >= rs->gone;
}

static void reader_start(struct ring_source *rs, const struct aio_ring_options *opt)
{
    aio_base_init(&rs->base, &ring_ops,
                  AIO_CAP_RING | (opt && opt->captured ? 0 : AIO_CAP_LIVE),
                  opt ? opt->retain_budget : 0);
    rs->end_when_ended = opt && opt->end;
    rs->dropped_before = aio_ring_get64(opt && opt->settled ? &rs->ring->header->settled
                                                            : &rs->ring->header->dropped);
    rs->bell_due = true; /* rung for the one before us, perhaps */
    atomic_store(&rs->ring->header->asleep, 0);
    abandon(rs);
}

static int reader_new(struct ring_source **out, struct aio_ring *ring, char *message)
{
    struct ring_source *rs = calloc(1, sizeof *rs);

    if (!rs)
        return aio_ring_fail(message, AIO_ENOMEM, "out of memory");
    rs->ring = ring;
    if (resume(rs)) {
        *out = rs;
        return AIO_OK;
    }
    free(rs);
    return aio_ring_fail(message, AIO_ECORRUPT, "the ring's header is damaged");
}

int aio_ring_source_open(struct aio_source **out, struct aio_ring *ring,
                         const struct aio_ring_options *opt, char *message)
{
    struct ring_source *rs = NULL;
    int r;

    *out = NULL;
    if (atomic_exchange(&ring->has_reader, true))
        return aio_ring_fail(message, AIO_EINVAL, "the ring has a reader already");
    r = reader_new(&rs, ring, message);
    if (r < 0) {
        atomic_store(&ring->has_reader, false);
        return r;
    }
    aio_ring_get(ring);
    reader_start(rs, opt);
    *out = &rs->base.pub;
    return AIO_OK;
}
