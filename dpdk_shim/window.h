/* window.h -- the buffers that a file is read into, kept as long as a frame in them is. */
#ifndef AIO_WINDOW_H
#define AIO_WINDOW_H

#include "base.h"

#define AIO_WINDOW_DEFAULT (512u << 10)
#define AIO_WINDOW_SMALLEST 64u

struct aio_window {
    struct aio_owner owner;
    struct aio_windows *set;
    struct aio_window *next_idle;
    size_t size;
    uint8_t data[];
};

struct aio_windows {
    struct aio_base *base;
    size_t size; /* of an ordinary window; a record that is longer gets one of its own */
    struct aio_window *idle;
    unsigned n_idle;
};

void aio_windows_init(struct aio_windows *set, struct aio_base *base, uint32_t size);

/* One of at least need bytes with one hold on it, or NULL. */
struct aio_window *aio_window_get(struct aio_windows *set, size_t need);

/* Frees the idle ones; those with holds are the base's to drop before. */
void aio_windows_free(struct aio_windows *set);

#endif
