/* xdp_ring.h -- the four rings that an AF_XDP socket shares with the kernel. Each side
 * writes its own index only; indices run on and are cut by the mask. */
#ifndef AIO_XDP_RING_H
#define AIO_XDP_RING_H

#include <linux/if_xdp.h>
#include <stddef.h>
#include <stdint.h>

struct aio_xdp_ring {
    uint32_t *producer, *consumer, *flags;
    void *items; /* uint64_t addresses, or struct xdp_desc */
    uint32_t mask;
    uint32_t own; /* our index, as it was written last */
    void *map;
    size_t map_len;
};

/* Of a ring the kernel fills: how many items are there. */
static inline uint32_t aio_xdp_ready(const struct aio_xdp_ring *ring)
{
    return __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - ring->own;
}

static inline void aio_xdp_consumed(struct aio_xdp_ring *ring, uint32_t n)
{
    ring->own += n;
    __atomic_store_n(ring->consumer, ring->own, __ATOMIC_RELEASE);
}

static inline const struct xdp_desc *aio_xdp_desc(const struct aio_xdp_ring *ring,
                                                  uint32_t offset)
{
    return (const struct xdp_desc *)ring->items + ((ring->own + offset) & ring->mask);
}

/* Of a ring we fill: the place of the next item, which aio_xdp_produced() gives away. */
static inline uint32_t aio_xdp_place(const struct aio_xdp_ring *ring)
{
    return ring->own & ring->mask;
}

static inline void aio_xdp_produced(struct aio_xdp_ring *ring)
{
    __atomic_store_n(ring->producer, ++ring->own, __ATOMIC_RELEASE);
}

#endif
