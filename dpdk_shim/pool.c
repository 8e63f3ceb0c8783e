/* pool.c -- the retain pool: blocks in sizes of powers of two, kept for reuse. */
#include "pool.h"

#include "base.h"

#include <stdlib.h>
#include <string.h>

#define SMALLEST 256u

struct aio_pool_block {
    struct aio_owner owner;
    struct aio_pool_block *next_idle;
    unsigned size_class;
    uint8_t data[];
};

static uint64_t class_bytes(unsigned size_class)
{
    return (uint64_t)SMALLEST << size_class;
}

static unsigned class_for(uint64_t len)
{
    unsigned size_class = 0;

    while (class_bytes(size_class) < len)
        size_class++;
    return size_class;
}

void aio_pool_init(struct aio_pool *pool, struct aio_base *base, uint64_t budget)
{
    memset(pool, 0, sizeof *pool);
    pool->base = base;
    pool->budget = budget ? budget : AIO_POOL_DEFAULT_BUDGET;
}

static void block_free(struct aio_pool *pool, struct aio_pool_block *block)
{
    pool->allocated -= class_bytes(block->size_class);
    free(block);
}

void aio_pool_free(struct aio_pool *pool)
{
    for (unsigned i = 0; i < AIO_POOL_CLASSES; i++) {
        while (pool->idle[i]) {
            struct aio_pool_block *block = pool->idle[i];
            pool->idle[i] = block->next_idle;
            block_free(pool, block);
        }
    }
}

static void block_drop(struct aio_owner *owner)
{
    struct aio_pool_block *block = (struct aio_pool_block *)owner;
    struct aio_base *base = (struct aio_base *)owner->src;

    if (base->closing) {
        block_free(&base->pool, block);
        return;
    }
    block->next_idle = base->pool.idle[block->size_class];
    base->pool.idle[block->size_class] = block;
}

static struct aio_pool_block *block_new(struct aio_pool *pool, unsigned size_class)
{
    struct aio_pool_block *block;
    uint64_t bytes = class_bytes(size_class);

    /* Idle blocks of other sizes may have eaten the budget: give those up first. */
    if (pool->allocated + bytes > pool->budget)
        aio_pool_free(pool);
    if (pool->allocated + bytes > pool->budget)
        return NULL;
    block = malloc(sizeof *block + bytes);
    if (block) {
        block->size_class = size_class;
        pool->allocated += bytes;
    }
    return block;
}

static struct aio_pool_block *block_get(struct aio_pool *pool, uint64_t len)
{
    unsigned size_class = class_for(len);
    struct aio_pool_block *block;

    if (size_class >= AIO_POOL_CLASSES)
        return NULL;
    block = pool->idle[size_class];
    if (!block)
        return block_new(pool, size_class);
    pool->idle[size_class] = block->next_idle;
    return block;
}

struct aio_owner *aio_pool_take(struct aio_pool *pool, uint64_t len, uint8_t **data)
{
    struct aio_pool_block *block = block_get(pool, len);

    if (!block)
        return NULL;
    aio_owner_take(pool->base, &block->owner, block_drop);
    block->owner.pooled = true;
    *data = block->data;
    return &block->owner;
}

bool aio_pool_copy(struct aio_pool *pool, struct aio_frame *frame)
{
    uint8_t *data;
    struct aio_owner *owner = aio_pool_take(pool, frame->cap_len, &data);

    if (!owner)
        return false;
    aio_frame_copy(frame, 0, frame->cap_len, data);
    frame->owner = owner;
    frame->data = data;
    frame->next = NULL;
    frame->head_len = frame->cap_len;
    return true;
}
