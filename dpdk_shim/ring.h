/* ring.h -- the layout of a ring of frames in shared memory.
 *
 * A page of header, then 2^k bytes of records. A record is the metadata of a frame and
 * its bytes, contiguous; where one does not fit before the end of the area, a marker
 * fills the rest. Positions count bytes for ever; a position & mask is an offset.
 *
 *     tail <= taken <= head <= tail + size
 *
 * [taken, head) waits for the reader; [tail, taken) is with it. The writer moves head,
 * the reader the other two, each of them only forward, after what lies behind is as it
 * should be: so whoever dies in the middle of anything leaves a ring that goes on.
 */
#ifndef AIO_RING_H
#define AIO_RING_H

#include "shim.h"

#include <stdatomic.h>
#include <stdbool.h>

#define AIO_RING_MAGIC 0x31676e69726f6961u /* "aioring1" */
#define AIO_RING_ABI 2u
#define AIO_RING_HEADER 4096u
#define AIO_RING_SMALLEST 4096u
#define AIO_RING_LARGEST ((uint64_t)1 << 32)

/* A line of the cache. Records begin on one: what the reader writes (state) is never in a
 * line that the writer is filling. */
#define AIO_RING_ALIGN 64u

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock would not be shared by processes");

/* How much had gone by at a position. */
struct aio_ring_mark {
    _Atomic uint64_t pos;
    _Atomic uint64_t frames;
    _Atomic uint64_t other; /* head, taken: captured bytes; tail: frames abandoned */
};

/* A position and its counters, which must not disagree when their owner dies between two
 * stores. So there are two marks: the one of the next position is written first, then
 * the position; the one that bears the present position is the valid one. */
struct aio_ring_cursor {
    _Alignas(AIO_RING_ALIGN) _Atomic uint64_t pos;
    struct aio_ring_mark mark[2];
};

struct aio_ring_header {
    uint64_t magic;
    uint32_t abi;
    uint32_t record; /* sizeof (struct aio_ring_record) */
    uint64_t size;

    struct aio_ring_cursor head; /* the writer's */
    _Alignas(AIO_RING_ALIGN) _Atomic uint64_t dropped;
    _Atomic uint64_t dropped_bytes;
    _Atomic uint32_t ended;

    struct aio_ring_cursor taken; /* the reader's */
    struct aio_ring_cursor tail;
    _Alignas(AIO_RING_ALIGN) _Atomic uint32_t asleep; /* it wants the bell rung */

    _Alignas(AIO_RING_ALIGN) _Atomic uint64_t settled; /* drops before the present reader */
};

_Static_assert(sizeof(struct aio_ring_header) <= AIO_RING_HEADER, "the header is a page");

enum aio_ring_state {
    AIO_RING_FRAME = 0x66726d31, /* waiting, or with the reader */
    AIO_RING_GIVEN = 0x66726d32, /* given back, behind one that is not */
    AIO_RING_WRAP = 0x66726d33   /* no frame: the next record is at offset 0 */
};

/* What a frame is besides pointers: the end of struct aio_frame, copied as it stands. */
#define AIO_RING_META (sizeof(struct aio_frame) - offsetof(struct aio_frame, time_ns))

struct aio_ring_record {
    _Atomic uint32_t state;
    _Atomic uint32_t length; /* of all of the record */
    uint8_t meta[AIO_RING_META];
    uint8_t data[];
};

_Static_assert(sizeof(struct aio_ring_record) == 48, "the layout that others map");

/* A mapping of a ring in this process. Size and mask were checked when it was made, and
 * are not read from the header again. */
struct aio_ring {
    struct aio_ring_header *header;
    uint8_t *data;
    uint64_t size, mask;
    int fd, bell;
    _Atomic uint32_t refs;
    _Atomic bool has_writer, has_reader; /* of this mapping */
};

struct aio_ring *aio_ring_get(struct aio_ring *ring);

/* Writes into message, if there is one, and returns the result. */
int aio_ring_fail(char *message, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Wakes whoever waits on the descriptor. */
void aio_ring_wake(int bell);

/* Reads the counters of a cursor that another may be moving; false when no mark bears its
 * position, which only damage brings about. */
bool aio_ring_look(const struct aio_ring_cursor *cursor, struct aio_ring_mark *out);

static inline uint64_t aio_ring_get64(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static inline void aio_ring_set64(_Atomic uint64_t *value, uint64_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

/* By the cursor's owner, with a position that differs. Each store has release order:
 * a mark is not overwritten before the position has left it behind. */
static inline void aio_ring_move(struct aio_ring_cursor *cursor, uint64_t pos,
                                 uint64_t frames, uint64_t other, memory_order order)
{
    uint64_t now = aio_ring_get64(&cursor->pos);
    struct aio_ring_mark *mark = &cursor->mark[aio_ring_get64(&cursor->mark[0].pos) == now];

    atomic_store_explicit(&mark->pos, pos, memory_order_release);
    atomic_store_explicit(&mark->frames, frames, memory_order_release);
    atomic_store_explicit(&mark->other, other, memory_order_release);
    atomic_store_explicit(&cursor->pos, pos, order);
}

/* The record at pos, with its length, when it can be one that ends before end; else NULL.
 * Nothing outside the ring is read whatever stands there, and the length only once. */
static inline struct aio_ring_record *aio_ring_at(const struct aio_ring *ring, uint64_t pos,
                                                  uint64_t end, uint32_t *length)
{
    uint64_t offset = pos & ring->mask;
    struct aio_ring_record *record = (struct aio_ring_record *)(ring->data + offset);

    *length = atomic_load_explicit(&record->length, memory_order_relaxed);
    if (*length == 0 || *length % AIO_RING_ALIGN || *length > end - pos ||
        *length > ring->size - offset)
        return NULL;
    return record;
}

#endif
