/* ring_stress.c -- rings, joins and pumps under load, for the sanitizers.
 *
 * tests/unit/test_ring_sanitized.py builds it together with dpdk_shim/ and runs it. Exits
 * with 0, or says what was wrong; data races and bad accesses are the sanitizer's to find.
 */
#include "ring.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 20000u
#define LONGEST 1500u

#define MUST(what)                                                                         \
    do {                                                                                   \
        if (!(what)) {                                                                     \
            fprintf(stderr, "%s:%d: not so: %s\n", __func__, __LINE__, #what);             \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- frames whose bytes follow from their number ----------------------------------- */

static uint32_t length_of(uint32_t number)
{
    return number * 2654435761u % (LONGEST + 1);
}

static void content(uint32_t number, uint8_t *out)
{
    for (uint32_t i = 0; i < length_of(number); i++)
        out[i] = (uint8_t)(number + i * 7);
}

static void check(const struct aio_frame *frame)
{
    uint8_t want[LONGEST], got[LONGEST];
    uint32_t number = frame->hash;

    content(number, want);
    MUST(frame->cap_len == length_of(number));
    MUST(aio_frame_copy(frame, 0, frame->cap_len, got) == frame->cap_len);
    MUST(memcmp(want, got, frame->cap_len) == 0);
    MUST(frame->time_ns == (int64_t)number && frame->vlan[1] == (uint16_t)number);
}

/* In three pieces, of which some are empty. */
static int push(struct aio_ring_writer *w, uint32_t number)
{
    uint8_t bytes[LONGEST];
    uint32_t len = length_of(number), head = len / 3;
    struct aio_seg last = {.data = bytes + head, .len = len - head};
    struct aio_seg empty = {.next = &last};
    struct aio_frame frame = {.data = bytes, .head_len = head, .cap_len = len};

    content(number, bytes);
    empty.data = bytes;
    frame.next = &empty;
    frame.wire_len = len;
    frame.hash = number;
    frame.time_ns = number;
    frame.n_vlan = 2;
    frame.vlan[1] = (uint16_t)number;
    return aio_ring_push(w, &frame);
}

/* ---- a writing thread --------------------------------------------------------------- */

struct writing {
    struct aio_ring *ring;
    pthread_t thread;
    int patient; /* tries again until there is room */
};

static void *write_all(void *arg)
{
    struct writing *writing = arg;
    struct aio_ring_writer *w;
    uint32_t state = 1;

    MUST(aio_ring_writer_open(&w, writing->ring, NULL) == AIO_OK);
    for (uint32_t i = 0; i < FRAMES; i++) {
        while (!push(w, i) && writing->patient) {
            aio_ring_publish(w);
            poll(NULL, 0, 1);
        }
        if (random_next(&state) % 16 == 0)
            aio_ring_publish(w);
        if (random_next(&state) % 1024 == 0)
            poll(NULL, 0, 1);
    }
    aio_ring_end(w);
    aio_ring_writer_close(w);
    return NULL;
}

/* The reading end is opened first: its counters then are the ring's. */
static struct aio_source *writing_start(struct writing *writing, uint64_t size, int shared,
                                        int patient)
{
    struct aio_ring_options opt = {.end = 1};
    struct aio_source *src;

    MUST(aio_ring_create(&writing->ring, size, shared, NULL) == AIO_OK);
    MUST(aio_ring_source_open(&src, writing->ring, &opt, NULL) == AIO_OK);
    writing->patient = patient;
    MUST(pthread_create(&writing->thread, NULL, write_all, writing) == 0);
    return src;
}

static void writing_finish(struct writing *writing)
{
    pthread_join(writing->thread, NULL);
    aio_ring_put(writing->ring);
}

/* ---- reading everything ------------------------------------------------------------- */

static void shuffle(struct aio_frame *frames, unsigned n, uint32_t *state)
{
    for (unsigned i = n; i > 1; i--) {
        unsigned k = random_next(state) % i;
        struct aio_frame swap = frames[i - 1];

        frames[i - 1] = frames[k];
        frames[k] = swap;
    }
}

static void give_back(struct aio_source *src, struct aio_frame *frames, unsigned n,
                      uint32_t *state)
{
    unsigned half = n / 2;
    struct aio_frame kept;
    int retained = 0;

    for (unsigned i = 0; i < n; i++)
        check(&frames[i]);
    if (n && random_next(state) % 8 == 0) {
        kept = frames[0];
        retained = src->ops->retain(src, &kept) == AIO_OK;
    }
    shuffle(frames, n, state);
    src->ops->release(src, frames, half);
    src->ops->release(src, frames + half, n - half);
    if (retained) {
        check(&kept);
        src->ops->release(src, &kept, 1);
    }
}

/* Sleeps on the descriptor whenever a burst brought less than was asked for. */
static uint64_t read_all(struct aio_source *src, int pause_once)
{
    struct aio_frame frames[AIO_BURST_MAX];
    struct aio_source_stats stats;
    uint64_t total = 0;
    uint32_t state = 7;
    int n;

    while ((n = src->ops->burst(src, frames, AIO_BURST_MAX)) >= 0) {
        struct pollfd fd = {.fd = src->ops->descriptor(src), .events = POLLIN};

        give_back(src, frames, (unsigned)n, &state);
        total += (unsigned)n;
        src->ops->stats(src, &stats);
        MUST(stats.outstanding == 0);
        if (pause_once && total > FRAMES / 4) {
            poll(NULL, 0, 200);
            pause_once = 0;
        }
        if (n < AIO_BURST_MAX && fd.fd >= 0)
            MUST(poll(&fd, 1, 60000) == 1);
    }
    MUST(n == AIO_END);
    return total;
}

/* ---- what is tried ------------------------------------------------------------------ */

static void try_ring(int shared, int patient)
{
    struct writing writing;
    struct aio_ring_stats stats;
    struct aio_source *src;
    uint64_t total;

    src = writing_start(&writing, 1 << 16, shared, patient);
    total = read_all(src, !patient);
    aio_ring_get_stats(writing.ring, &stats);
    MUST(stats.released == total && stats.pushed == total && stats.used == 0);
    MUST(patient ? total == FRAMES : total + stats.dropped == FRAMES);
    src->ops->close(src);
    writing_finish(&writing);
}

/* Two frames at a time, the second some moment after the bell for the first: also just
 * when the reader has looked and is about to sleep. The writer waits until both are taken,
 * so a bell that is missed is missed for ever. */
static void *write_pairs(void *arg)
{
    struct aio_ring *ring = arg;
    struct aio_ring_stats stats = {0};
    struct aio_ring_writer *w;
    uint32_t state = 3;

    MUST(aio_ring_writer_open(&w, ring, NULL) == AIO_OK);
    for (uint32_t i = 0; i < FRAMES; i++) {
        while (aio_ring_get_stats(ring, &stats), i % 2 == 0 && stats.taken < i)
            sched_yield();
        for (uint32_t spin = random_next(&state) % 65536; spin; spin--)
            atomic_signal_fence(memory_order_seq_cst);
        MUST(push(w, i));
        aio_ring_publish(w);
    }
    aio_ring_end(w);
    aio_ring_writer_close(w);
    return NULL;
}

static void try_pairs(void)
{
    struct aio_ring_options opt = {.end = 1};
    struct aio_source *src;
    struct aio_ring *ring;
    pthread_t thread;

    MUST(aio_ring_create(&ring, 1 << 16, 0, NULL) == AIO_OK);
    MUST(aio_ring_source_open(&src, ring, &opt, NULL) == AIO_OK);
    MUST(pthread_create(&thread, NULL, write_pairs, ring) == 0);
    MUST(read_all(src, 0) == FRAMES);
    pthread_join(thread, NULL);
    src->ops->close(src);
    aio_ring_put(ring);
}

static void try_pump(uint64_t ring_bytes)
{
    struct aio_pump_options opt = {.ring_bytes = ring_bytes};
    struct aio_source_stats stats;
    struct aio_ring_stats first; /* whose writer tried again: no loss */
    struct writing writing;
    struct aio_source *src;
    uint64_t total;

    src = writing_start(&writing, 1 << 16, 0, 1);
    MUST(aio_pump_open(&src, src, &opt, NULL) == AIO_OK);
    total = read_all(src, 1);
    src->ops->stats(src, &stats);
    aio_ring_get_stats(writing.ring, &first);
    MUST(stats.queued == 0 && total + stats.dropped_ring - first.dropped == FRAMES);
    MUST(ring_bytes < (1 << 20) || total == FRAMES);
    src->ops->close(src);
    writing_finish(&writing);
}

/* Two pumps and a ring, joined, and that pumped again. */
static void try_join(void)
{
    struct aio_pump_options opt = {.ring_bytes = 64 << 20};
    struct writing writings[3];
    struct aio_source *parts[3], *src;

    for (int i = 0; i < 3; i++) {
        parts[i] = writing_start(&writings[i], 1 << 16, i == 2, 1);
        if (i < 2)
            MUST(aio_pump_open(&parts[i], parts[i], &opt, NULL) == AIO_OK);
    }
    MUST(aio_join_open(&src, parts, NULL, 3) == AIO_OK);
    MUST(aio_pump_open(&src, src, &opt, NULL) == AIO_OK);
    MUST(read_all(src, 0) == 3 * FRAMES);
    src->ops->close(src);
    for (int i = 0; i < 3; i++)
        writing_finish(&writings[i]);
}

/* What is sent goes through a source that a thread is reading. */
static void try_transmit(void)
{
    struct aio_pump_options opt = {.ring_bytes = 1 << 20};
    struct aio_source *mem, *src;
    struct aio_frame frame = {.data = (const uint8_t *)"sent", .head_len = 4, .cap_len = 4};

    MUST(aio_mem_open(&mem, NULL) == AIO_OK);
    for (int i = 0; i < 1000; i++)
        MUST(aio_mem_push(mem, &frame, frame.data, 4) == AIO_OK);
    MUST(aio_pump_open(&src, mem, &opt, NULL) == AIO_OK);
    for (int i = 0; i < 100; i++)
        MUST(src->ops->transmit(src, 0, &frame, 1) == 1);
    src->ops->close(src);
}

/* Random bytes over a ring in use: whatever is read then lies within it. */
static void try_damage(uint32_t seed)
{
    struct aio_frame frames[AIO_BURST_MAX];
    struct aio_ring_writer *w;
    struct aio_source *src;
    struct aio_ring *ring;
    uint32_t sum = 0;

    MUST(aio_ring_create(&ring, 1 << 14, 0, NULL) == AIO_OK);
    MUST(aio_ring_writer_open(&w, ring, NULL) == AIO_OK);
    MUST(aio_ring_source_open(&src, ring, NULL, NULL) == AIO_OK);
    for (int turn = 0; turn < 20; turn++) {
        int n;

        for (uint32_t i = 0; i < 10; i++)
            push(w, i * seed);
        aio_ring_publish(w);
        for (int i = 0; turn > 2 && i < 20; i++) {
            uint32_t bytes = seed & 1 ? AIO_RING_HEADER : (uint32_t)ring->size;
            uint32_t at = random_next(&seed) % bytes;

            (bytes == AIO_RING_HEADER ? (uint8_t *)ring->header : ring->data)[at] ^=
                (uint8_t)random_next(&seed);
        }
        n = src->ops->burst(src, frames, AIO_BURST_MAX);
        for (int i = 0; i < n; i++)
            for (uint32_t k = 0; k < frames[i].cap_len; k++)
                sum += frames[i].data[k];
        if (n > 0)
            src->ops->release(src, frames, (unsigned)n);
    }
    MUST(sum != 1);
    src->ops->close(src);
    aio_ring_writer_close(w);
    aio_ring_put(ring);
}

int main(void)
{
    try_ring(1, 1);
    try_ring(0, 0);
    try_pairs();
    try_pump(256 << 20);
    try_pump(1 << 14);
    try_join();
    try_transmit();
    for (uint32_t seed = 1; seed < 200; seed++)
        try_damage(seed * 77);
    puts("as it should be");
    return 0;
}
