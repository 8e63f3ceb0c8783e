/* xdp.h -- an AF_XDP socket with its memory: what setting up and reading share. */
#ifndef AIO_XDP_H
#define AIO_XDP_H

#include "base.h"
#include "netdev.h"
#include "xdp_program.h"
#include "xdp_ring.h"

/* A piece of the memory shared with the kernel; it holds one frame. */
struct aio_xdp_chunk {
    struct aio_owner owner;
};

struct aio_xdp {
    struct aio_base base;
    struct aio_netdev dev;
    struct aio_xdp_program *program;
    uint8_t *memory;
    size_t memory_len;
    uint32_t chunk_size;
    uint32_t n_receive, n_send; /* chunks; those for sending lie behind the others */
    struct aio_xdp_chunk *chunks;
    uint32_t lent;       /* chunks that neither kernel nor fill ring have */
    uint32_t *send_free; /* chunks for sending that are free, by number */
    uint32_t n_send_free;
    struct aio_xdp_ring receive, fill, send, done;
    uint32_t queue;
    uint64_t missed_before;
    int fd, epoll_fd, watch_fd, ask_fd;
    uint64_t link_losses;
    bool gone;
};

extern const struct aio_source_ops aio_xdp_ops;

/* source_af_xdp.c */
void aio_xdp_free(struct aio_xdp *x);

#endif
