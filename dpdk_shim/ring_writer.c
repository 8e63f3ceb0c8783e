/* ring_writer.c -- the writing end of a ring of frames.
 *
 * Frames are written behind the head and stay unseen until it moves: a writer that dies
 * meanwhile leaves nothing behind, and its successor begins at the head again.
 */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

struct aio_ring_writer {
    struct aio_ring *ring;
    uint64_t pos, frames, bytes; /* with what is not published */
    uint64_t published;          /* the head */
    uint64_t tail;               /* as it was last looked at */
};

/* ---- pushing ---------------------------------------------------------------------- */

/* The reader's acquire of the head sees the records; our acquire of its tail, that it is
 * done with those we overwrite. */
static bool has_room(struct aio_ring_writer *w, uint64_t need)
{
    if (w->pos - w->tail + need <= w->ring->size)
        return true;
    w->tail = atomic_load_explicit(&w->ring->header->tail.pos, memory_order_acquire);
    return w->pos - w->tail <= w->ring->size && /* else the header is damaged */
           w->pos - w->tail + need <= w->ring->size;
}

static uint64_t record_bytes(const struct aio_frame *frame)
{
    uint64_t need = sizeof(struct aio_ring_record) + (uint64_t)frame->cap_len;

    return (need + AIO_RING_ALIGN - 1) & ~(uint64_t)(AIO_RING_ALIGN - 1);
}

/* Bytes in front of a record of so many that it cannot have: they end the area. */
static uint64_t bytes_skipped(const struct aio_ring_writer *w, uint64_t need)
{
    uint64_t rest = w->ring->size - (w->pos & w->ring->mask);

    return rest < need ? rest : 0;
}

static void count_drop(struct aio_ring_writer *w, uint32_t len)
{
    struct aio_ring_header *header = w->ring->header;

    aio_ring_set64(&header->dropped, aio_ring_get64(&header->dropped) + 1);
    aio_ring_set64(&header->dropped_bytes, aio_ring_get64(&header->dropped_bytes) + len);
}

static void write_head(struct aio_ring_record *record, enum aio_ring_state state,
                       uint64_t length)
{
    atomic_store_explicit(&record->state, state, memory_order_relaxed);
    atomic_store_explicit(&record->length, (uint32_t)length, memory_order_relaxed);
}

/* A chain that is shorter than its frame says must not show what lay here before. */
static void write_chain(struct aio_ring_record *record, const struct aio_frame *frame)
{
    uint32_t n = aio_frame_copy(frame, 0, frame->cap_len, record->data);

    memset(record->data + n, 0, frame->cap_len - n);
}

static void write_frame(struct aio_ring_record *record, const struct aio_frame *frame)
{
    memcpy(record->meta, &frame->time_ns, sizeof record->meta);
    if (frame->head_len >= frame->cap_len)
        memcpy(record->data, frame->data, frame->cap_len);
    else
        write_chain(record, frame);
}

/* What needs more than half the ring might never be contiguous, and is refused always. In
 * an empty one there is room for all else, as less is skipped than is needed. */
int aio_ring_is_full(struct aio_ring_writer *w, const struct aio_frame *frame)
{
    uint64_t need = record_bytes(frame);

    return need <= w->ring->size / 2 && !has_room(w, bytes_skipped(w, need) + need) &&
           w->pos - w->tail <= w->ring->size; /* no room in a damaged one, ever */
}

/* Where need contiguous bytes begin, behind a marker if they must; NULL: no room. */
static struct aio_ring_record *find_room(struct aio_ring_writer *w, uint64_t need)
{
    const struct aio_ring *ring = w->ring;
    uint64_t offset = w->pos & ring->mask;
    uint64_t skip = bytes_skipped(w, need);

    if (need > ring->size / 2 || !has_room(w, skip + need))
        return NULL;
    if (skip) {
        write_head((struct aio_ring_record *)(ring->data + offset), AIO_RING_WRAP, skip);
        w->pos += skip;
        offset = 0;
    }
    return (struct aio_ring_record *)(ring->data + offset);
}

int aio_ring_push(struct aio_ring_writer *w, const struct aio_frame *frame)
{
    uint64_t need = record_bytes(frame);
    struct aio_ring_record *record = find_room(w, need);

    if (!record) {
        count_drop(w, frame->cap_len);
        return 0;
    }
    write_head(record, AIO_RING_FRAME, need);
    write_frame(record, frame);
    w->pos += need;
    w->frames++;
    w->bytes += frame->cap_len;
    return 1;
}

/* ---- showing ---------------------------------------------------------------------- */

/* No wake-up is lost. The reader, about to sleep, stores asleep and then loads the head;
 * the writer stores the head and then loads asleep. All four are sequentially consistent,
 * so they have one order, and whichever store comes first in it is seen by the other's
 * load: either the reader finds the frames, or the writer finds it asleep. The exchange
 * makes one bell of a sleep, whoever else clears the flag. */
static void wake_reader(struct aio_ring *ring)
{
    if (atomic_load(&ring->header->asleep) && atomic_exchange(&ring->header->asleep, 0))
        aio_ring_wake(ring->bell);
}

void aio_ring_publish(struct aio_ring_writer *w)
{
    if (w->pos == w->published)
        return;
    aio_ring_move(&w->ring->header->head, w->pos, w->frames, w->bytes,
                  memory_order_seq_cst);
    w->published = w->pos;
    wake_reader(w->ring);
}

void aio_ring_end(struct aio_ring_writer *w)
{
    aio_ring_publish(w);
    atomic_store(&w->ring->header->ended, 1);
    wake_reader(w->ring);
}

/* ---- opening ---------------------------------------------------------------------- */

static bool writer_resume(struct aio_ring_writer *w)
{
    const struct aio_ring_header *header = w->ring->header;
    struct aio_ring_mark head;

    if (!aio_ring_look(&header->head, &head))
        return false;
    w->pos = w->published = head.pos;
    w->frames = head.frames;
    w->bytes = head.other;
    w->tail = atomic_load_explicit(&header->tail.pos, memory_order_acquire);
    return w->pos % AIO_RING_ALIGN == 0 && w->pos - w->tail <= w->ring->size;
}

static int writer_new(struct aio_ring_writer **out, struct aio_ring *ring, char *message)
{
    struct aio_ring_writer *w = calloc(1, sizeof *w);

    if (!w)
        return aio_ring_fail(message, AIO_ENOMEM, "out of memory");
    w->ring = ring;
    if (writer_resume(w)) {
        *out = w;
        return AIO_OK;
    }
    free(w);
    return aio_ring_fail(message, AIO_ECORRUPT, "the ring's header is damaged");
}

/* The bell is rung once in any case: the writer before may have died between clearing the
 * flag and ringing. */
int aio_ring_writer_open(struct aio_ring_writer **out, struct aio_ring *ring, char *message)
{
    int r;

    *out = NULL;
    if (atomic_exchange(&ring->has_writer, true))
        return aio_ring_fail(message, AIO_EINVAL, "the ring has a writer already");
    r = writer_new(out, ring, message);
    if (r < 0) {
        atomic_store(&ring->has_writer, false);
        return r;
    }
    aio_ring_get(ring);
    atomic_store(&ring->header->ended, 0);
    aio_ring_wake(ring->bell);
    return AIO_OK;
}

void aio_ring_writer_close(struct aio_ring_writer *w)
{
    aio_ring_publish(w);
    atomic_store(&w->ring->has_writer, false);
    aio_ring_put(w->ring);
    free(w);
}
