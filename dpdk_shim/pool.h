/* pool.h -- copies of frames that outlive their source's buffers, within a budget. */
#ifndef AIO_POOL_H
#define AIO_POOL_H

#include <stdbool.h>
#include <stdint.h>

#define AIO_POOL_DEFAULT_BUDGET (16u << 20)
#define AIO_POOL_CLASSES 18 /* blocks of 256 B, 512 B, ... 32 MiB */

struct aio_base;
struct aio_frame;
struct aio_owner;
struct aio_pool_block;

/* The budget counts blocks in use and blocks kept for the next user: it bounds what the
 * pool takes from the system. */
struct aio_pool {
    struct aio_base *base;
    uint64_t budget;
    uint64_t allocated;
    struct aio_pool_block *idle[AIO_POOL_CLASSES];
};

void aio_pool_init(struct aio_pool *pool, struct aio_base *base, uint64_t budget);

/* Frees the idle blocks; those in use are the base's to drop before. */
void aio_pool_free(struct aio_pool *pool);

/* Copies the frame's bytes and makes *frame point to the copy, with one hold on it.
 * False, and *frame untouched, when the budget is used up. */
bool aio_pool_copy(struct aio_pool *pool, struct aio_frame *frame);

/* A block of at least len bytes to be filled, with one hold on it; NULL as above. */
struct aio_owner *aio_pool_take(struct aio_pool *pool, uint64_t len, uint8_t **data);

#endif
