/* ring.c -- rings of frames: their memory, their counters. */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Looks at a cursor that moves all the time end after so many. */
#define LOOKS 1000

int aio_ring_fail(char *message, int result, const char *format, ...)
{
    va_list args;

    if (message) {
        va_start(args, format);
        vsnprintf(message, 256, format, args);
        va_end(args);
    }
    return result;
}

/* ---- memory ----------------------------------------------------------------------- */

static size_t mapped_bytes(const struct aio_ring *ring)
{
    return AIO_RING_HEADER + ring->size;
}

static struct aio_ring *ring_new(void)
{
    struct aio_ring *ring = calloc(1, sizeof *ring);

    if (ring) {
        ring->fd = ring->bell = -1;
        atomic_init(&ring->refs, 1);
    }
    return ring;
}

struct aio_ring *aio_ring_get(struct aio_ring *ring)
{
    atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
    return ring;
}

void aio_ring_put(struct aio_ring *ring)
{
    if (atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (ring->header)
        munmap(ring->header, mapped_bytes(ring));
    if (ring->fd >= 0)
        close(ring->fd);
    if (ring->bell >= 0)
        close(ring->bell);
    free(ring);
}

static void set_size(struct aio_ring *ring, uint64_t size)
{
    ring->size = size;
    ring->mask = size - 1;
}

static int map(struct aio_ring *ring, char *message)
{
    int flags = ring->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *at = mmap(NULL, mapped_bytes(ring), PROT_READ | PROT_WRITE, flags, ring->fd, 0);

    if (at == MAP_FAILED)
        return aio_ring_fail(message, AIO_ENOMEM, "no memory for a ring of %llu bytes: %s",
                             (unsigned long long)ring->size, strerror(errno));
    ring->header = at;
    ring->data = (uint8_t *)at + AIO_RING_HEADER;
    return AIO_OK;
}

/* Sealed: a mapping of a file that somebody cuts short would end in SIGBUS. */
static int memory_make(struct aio_ring *ring, char *message)
{
    ring->fd = memfd_create("aiomos-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ring->fd < 0 || ftruncate(ring->fd, (off_t)mapped_bytes(ring)) < 0 ||
        fcntl(ring->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return aio_ring_fail(message, AIO_EIO, "no memory file for a ring: %s",
                             strerror(errno));
    return AIO_OK;
}

/* ---- making ----------------------------------------------------------------------- */

static void cursor_init(struct aio_ring_cursor *cursor)
{
    aio_ring_set64(&cursor->mark[1].pos, UINT64_MAX); /* only the other is valid */
}

static void header_init(struct aio_ring *ring)
{
    struct aio_ring_header *header = ring->header;

    cursor_init(&header->head);
    cursor_init(&header->taken);
    cursor_init(&header->tail);
    header->abi = AIO_RING_ABI;
    header->record = sizeof(struct aio_ring_record);
    header->size = ring->size;
    header->magic = AIO_RING_MAGIC;
}

static uint64_t power_of_two(uint64_t size)
{
    uint64_t power = AIO_RING_SMALLEST;

    while (power < size)
        power *= 2;
    return power;
}

static int ring_make(struct aio_ring *ring, int shared, char *message)
{
    int r = shared ? memory_make(ring, message) : AIO_OK;

    if (r == AIO_OK)
        r = map(ring, message);
    if (r < 0)
        return r;
    if (!shared) /* without huge pages it works as well, but slower */
        madvise(ring->header, mapped_bytes(ring), MADV_HUGEPAGE);
    ring->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ring->bell < 0)
        return aio_ring_fail(message, AIO_EIO, "no event descriptor for a ring: %s",
                             strerror(errno));
    header_init(ring);
    return AIO_OK;
}

int aio_ring_create(struct aio_ring **out, uint64_t size, int shared, char *message)
{
    struct aio_ring *ring;
    int r;

    *out = NULL;
    if (size == 0 || size > AIO_RING_LARGEST)
        return aio_ring_fail(
            message, AIO_EINVAL, "a ring of %llu bytes: it can have 1 to %llu",
            (unsigned long long)size, (unsigned long long)AIO_RING_LARGEST);
    ring = ring_new();
    if (!ring)
        return aio_ring_fail(message, AIO_ENOMEM, "out of memory");
    set_size(ring, power_of_two(size));
    r = ring_make(ring, shared, message);
    if (r < 0)
        aio_ring_put(ring);
    else
        *out = ring;
    return r;
}

/* ---- attaching -------------------------------------------------------------------- */

static bool valid_size(uint64_t size)
{
    return size >= AIO_RING_SMALLEST && size <= AIO_RING_LARGEST && !(size & (size - 1));
}

/* The size is that of the file; the header has to agree. */
static int measure(struct aio_ring *ring, char *message)
{
    struct stat st;

    if (fstat(ring->fd, &st) < 0)
        return aio_ring_fail(message, AIO_EIO, "descriptor of a ring: %s", strerror(errno));
    if (st.st_size < AIO_RING_HEADER || !valid_size((uint64_t)st.st_size - AIO_RING_HEADER))
        return aio_ring_fail(message, AIO_ECORRUPT,
                             "descriptor %d is no ring of frames: it has %lld bytes",
                             ring->fd, (long long)st.st_size);
    set_size(ring, (uint64_t)st.st_size - AIO_RING_HEADER);
    return AIO_OK;
}

static int header_check(const struct aio_ring *ring, char *message)
{
    const struct aio_ring_header *header = ring->header;

    if (header->magic != AIO_RING_MAGIC)
        return aio_ring_fail(message, AIO_ECORRUPT,
                             "no ring of frames: wrong magic number");
    if (header->abi != AIO_RING_ABI || header->record != sizeof(struct aio_ring_record))
        return aio_ring_fail(message, AIO_ECORRUPT,
                             "a ring of version %u, this is version %u: "
                             "start all processes from one installation",
                             header->abi, AIO_RING_ABI);
    if (header->size != ring->size)
        return aio_ring_fail(message, AIO_ECORRUPT,
                             "the ring's header is damaged: %llu bytes, there are %llu",
                             (unsigned long long)header->size,
                             (unsigned long long)ring->size);
    return AIO_OK;
}

static int ring_take(struct aio_ring *ring, int fd, int bell, char *message)
{
    int r;

    ring->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ring->bell = fcntl(bell, F_DUPFD_CLOEXEC, 0);
    if (ring->fd < 0 || ring->bell < 0)
        return aio_ring_fail(message, AIO_EIO, "descriptors %d and %d of a ring: %s", fd,
                             bell, strerror(errno));
    r = measure(ring, message);
    if (r == AIO_OK)
        r = map(ring, message);
    return r == AIO_OK ? header_check(ring, message) : r;
}

int aio_ring_attach(struct aio_ring **out, int fd, int bell, char *message)
{
    struct aio_ring *ring = ring_new();
    int r;

    *out = NULL;
    if (!ring)
        return aio_ring_fail(message, AIO_ENOMEM, "out of memory");
    r = ring_take(ring, fd, bell, message);
    if (r < 0)
        aio_ring_put(ring);
    else
        *out = ring;
    return r;
}

/* ---- looking ---------------------------------------------------------------------- */

int aio_ring_fd(const struct aio_ring *ring)
{
    return ring->fd;
}

int aio_ring_bell(const struct aio_ring *ring)
{
    return ring->bell;
}

/* An eventfd takes an addition unless it is readable already: nothing to check. */
void aio_ring_wake(int bell)
{
    uint64_t one = 1;
    ssize_t n = write(bell, &one, sizeof one);

    (void)n;
}

static bool look_once(const struct aio_ring_cursor *cursor, struct aio_ring_mark *out)
{
    uint64_t pos = atomic_load_explicit(&cursor->pos, memory_order_acquire);
    const struct aio_ring_mark *mark = cursor->mark;

    if (atomic_load_explicit(&mark->pos, memory_order_acquire) != pos)
        mark++;
    if (atomic_load_explicit(&mark->pos, memory_order_acquire) != pos)
        return false;
    aio_ring_set64(&out->pos, pos);
    aio_ring_set64(&out->frames, atomic_load_explicit(&mark->frames, memory_order_acquire));
    aio_ring_set64(&out->other, atomic_load_explicit(&mark->other, memory_order_acquire));
    return atomic_load_explicit(&cursor->pos, memory_order_acquire) == pos;
}

bool aio_ring_look(const struct aio_ring_cursor *cursor, struct aio_ring_mark *out)
{
    for (int i = 0; i < LOOKS; i++)
        if (look_once(cursor, out))
            return true;
    return false;
}

uint64_t aio_ring_settle(struct aio_ring *ring)
{
    uint64_t dropped = aio_ring_get64(&ring->header->dropped);

    return dropped - atomic_exchange(&ring->header->settled, dropped);
}

/* The tail first: what is read after it can only have moved on. */
void aio_ring_get_stats(const struct aio_ring *ring, struct aio_ring_stats *out)
{
    const struct aio_ring_header *header = ring->header;
    struct aio_ring_mark tail = {0}, taken = {0}, head = {0};

    aio_ring_look(&header->tail, &tail);
    aio_ring_look(&header->taken, &taken);
    aio_ring_look(&header->head, &head);
    out->size = ring->size;
    out->used = head.pos - tail.pos;
    out->pushed = head.frames;
    out->pushed_bytes = head.other;
    out->dropped = aio_ring_get64(&header->dropped);
    out->dropped_bytes = aio_ring_get64(&header->dropped_bytes);
    out->taken = taken.frames;
    out->released = tail.frames - tail.other;
    out->abandoned = tail.other;
    out->ended = atomic_load_explicit(&header->ended, memory_order_relaxed);
}
