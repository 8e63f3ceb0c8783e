/* window.c -- reference-counted read windows and the list of those free for reuse. */
#include "window.h"

#include <stdlib.h>
#include <string.h>

/* A consumer that gives frames back soon needs two; more than these are not hoarded when
 * one that held many lets go of them. */
#define MOST_IDLE 4

void aio_windows_init(struct aio_windows *set, struct aio_base *base, uint32_t size)
{
    memset(set, 0, sizeof *set);
    set->base = base;
    set->size = size ? size : AIO_WINDOW_DEFAULT;
    if (set->size < AIO_WINDOW_SMALLEST)
        set->size = AIO_WINDOW_SMALLEST;
}

static void window_drop(struct aio_owner *owner)
{
    struct aio_window *window = (struct aio_window *)owner;
    struct aio_windows *set = window->set;

    if (set->base->closing || window->size != set->size || set->n_idle == MOST_IDLE) {
        free(window);
        return;
    }
    window->next_idle = set->idle;
    set->idle = window;
    set->n_idle++;
}

static struct aio_window *window_new(struct aio_windows *set, size_t size)
{
    struct aio_window *window = malloc(sizeof *window + size);

    if (window) {
        window->set = set;
        window->size = size;
    }
    return window;
}

struct aio_window *aio_window_get(struct aio_windows *set, size_t need)
{
    struct aio_window *window = set->idle;

    if (need > set->size) {
        window = window_new(set, need);
    } else if (window) {
        set->idle = window->next_idle;
        set->n_idle--;
    } else {
        window = window_new(set, set->size);
    }
    if (window)
        aio_owner_take(set->base, &window->owner, window_drop);
    return window;
}

void aio_windows_free(struct aio_windows *set)
{
    while (set->idle) {
        struct aio_window *window = set->idle;

        set->idle = window->next_idle;
        free(window);
    }
}
