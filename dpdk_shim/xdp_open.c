/* xdp_open.c -- setting up an AF_XDP socket: memory, rings, program. */
#include "xdp.h"

#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_RING (32u << 20)
#define LARGEST_RING (1ull << 30)
#define BIND_TRIES 100u
#define CHUNKS_TO_SEND 256u /* a power of two */
#define FEWEST_CHUNKS 64u
#define HEADROOM 256u    /* of the kernel, in each chunk */
#define LINK_HEADERS 22u /* Ethernet and two tags */

static int fail(const struct aio_xdp *x, char *message, const char *what, int error)
{
    if (error == EPERM || error == EACCES)
        snprintf(message, 256,
                 "no permission for AF_XDP: run as root, or once: setcap cap_net_raw,"
                 "cap_net_admin,cap_bpf,cap_ipc_lock+ep on the Python interpreter");
    else
        snprintf(message, 256, "%s: %s: %s", x->dev.name, what, strerror(error));
    errno = error;
    return AIO_EIO;
}

/* ---- may it be taken -------------------------------------------------------------- */

static int find(struct aio_xdp *x, const char *name, const struct aio_xdp_options *opt,
                char *message)
{
    int error = aio_netdev_find(name, &x->dev);
    const char *use;

    if (error) {
        errno = error;
        snprintf(message, 256, "%.60s: %s", name,
                 error == ENODEV ? "no such interface" : strerror(error));
        return AIO_EIO;
    }
    if (x->dev.index == 0 || x->dev.arphrd != ARPHRD_ETHER) {
        snprintf(message, 256, "%s: AF_XDP takes the frames of one Ethernet interface",
                 x->dev.name);
        return AIO_EINVAL;
    }
    x->ask_fd = aio_netdev_questions();
    x->missed_before = aio_netdev_missed(x->ask_fd, x->dev.index);
    use = opt->force ? NULL : aio_netdev_use(x->ask_fd, x->dev.index);
    if (use) {
        snprintf(message, 256,
                 "%s has %s: AF_XDP would take its frames from this host and cut it off; "
                 "give it a mirror port, or --force",
                 x->dev.name, use);
        return AIO_EINVAL;
    }
    return AIO_OK;
}

/* ---- memory ----------------------------------------------------------------------- */

static int choose_sizes(struct aio_xdp *x, const struct aio_xdp_options *opt, char *message)
{
    uint64_t bytes = opt->ring_bytes ? opt->ring_bytes : DEFAULT_RING;

    if (bytes > LARGEST_RING || opt->queue >= AIO_XDP_QUEUES) {
        snprintf(message, 256, "a ring has %llu MiB at the most, and queues go to %u",
                 LARGEST_RING >> 20, AIO_XDP_QUEUES - 1);
        return AIO_EINVAL;
    }
    x->queue = opt->queue;
    x->chunk_size = x->dev.mtu + LINK_HEADERS + HEADROOM <= 2048 ? 2048 : 4096;
    x->n_receive = FEWEST_CHUNKS;
    while ((uint64_t)x->n_receive * 2 * x->chunk_size <= bytes)
        x->n_receive *= 2;
    x->n_send = CHUNKS_TO_SEND;
    return AIO_OK;
}

static int make_memory(struct aio_xdp *x, char *message)
{
    x->memory_len = (size_t)(x->n_receive + x->n_send) * x->chunk_size;
    x->memory = mmap(NULL, x->memory_len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    x->chunks = calloc(x->n_receive, sizeof *x->chunks);
    x->send_free = calloc(x->n_send, sizeof *x->send_free);
    if (x->memory == MAP_FAILED || !x->chunks || !x->send_free) {
        if (x->memory == MAP_FAILED)
            x->memory = NULL;
        return fail(x, message, "no memory for its frames", ENOMEM);
    }
    for (uint32_t i = 0; i < x->n_send; i++)
        x->send_free[x->n_send_free++] = x->n_receive + i;
    return AIO_OK;
}

static int register_memory(struct aio_xdp *x, char *message)
{
    struct xdp_umem_reg reg = {
        .addr = (uintptr_t)x->memory,
        .len = x->memory_len,
        .chunk_size = x->chunk_size,
    };

    if (setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) == 0)
        return AIO_OK;
    if (errno == ENOBUFS)
        return fail(x, message, "more memory than may be locked (ulimit -l)", errno);
    return fail(x, message, "the kernel does not take its memory", errno);
}

/* ---- rings ------------------------------------------------------------------------ */

struct ring_plan {
    struct aio_xdp_ring *ring;
    const struct xdp_ring_offset *offset;
    uint64_t page;
    uint32_t n, item;
    int option;
};

static int map_ring(const struct aio_xdp *x, const struct ring_plan *plan)
{
    struct aio_xdp_ring *ring = plan->ring;
    uint8_t *map;

    ring->map_len = plan->offset->desc + (size_t)plan->n * plan->item;
    map = mmap(NULL, ring->map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
               x->fd, (off_t)plan->page);
    if (map == MAP_FAILED)
        return -1;
    ring->map = map;
    ring->producer = (uint32_t *)(map + plan->offset->producer);
    ring->consumer = (uint32_t *)(map + plan->offset->consumer);
    ring->flags = (uint32_t *)(map + plan->offset->flags);
    ring->items = map + plan->offset->desc;
    ring->mask = plan->n - 1;
    return 0;
}

static int make_rings(struct aio_xdp *x, char *message)
{
    struct xdp_mmap_offsets offsets;
    socklen_t len = sizeof offsets;
    const uint32_t address = sizeof(uint64_t), desc = sizeof(struct xdp_desc);
    const struct ring_plan plans[] = {
        {&x->fill, &offsets.fr, XDP_UMEM_PGOFF_FILL_RING, x->n_receive, address,
         XDP_UMEM_FILL_RING},
        {&x->done, &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, x->n_send, address,
         XDP_UMEM_COMPLETION_RING},
        {&x->receive, &offsets.rx, XDP_PGOFF_RX_RING, x->n_receive, desc, XDP_RX_RING},
        {&x->send, &offsets.tx, XDP_PGOFF_TX_RING, x->n_send, desc, XDP_TX_RING},
    };

    for (unsigned i = 0; i < 4; i++)
        if (setsockopt(x->fd, SOL_XDP, plans[i].option, &plans[i].n, sizeof plans[i].n) < 0)
            return fail(x, message, "no rings", errno);
    if (getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &len) < 0)
        return fail(x, message, "no rings", errno);
    if (len != sizeof offsets)
        return fail(x, message, "AF_XDP needs Linux 5.9 or newer", ENOTSUP);
    for (unsigned i = 0; i < 4; i++)
        if (map_ring(x, &plans[i]) < 0)
            return fail(x, message, "no rings", errno);
    return AIO_OK;
}

static void give_all(struct aio_xdp *x)
{
    for (uint32_t i = 0; i < x->n_receive; i++) {
        ((uint64_t *)x->fill.items)[aio_xdp_place(&x->fill)] = (uint64_t)i * x->chunk_size;
        aio_xdp_produced(&x->fill);
    }
}

/* ---- the socket ------------------------------------------------------------------- */

/* The kernel frees a queue some time after its socket was closed: a successor waits. */
static int bind_patiently(const struct aio_xdp *x, const struct sockaddr_xdp *address)
{
    const struct timespec pause = {.tv_nsec = 10000000};

    for (unsigned tries = 0;; tries++) {
        if (bind(x->fd, (const struct sockaddr *)address, sizeof *address) == 0)
            return 0;
        if (errno != EBUSY || tries == BIND_TRIES)
            return -1;
        nanosleep(&pause, NULL);
    }
}

static int take_queue(struct aio_xdp *x, const struct aio_xdp_options *opt, char *message)
{
    struct sockaddr_xdp address = {.sxdp_family = AF_XDP,
                                   .sxdp_flags = XDP_USE_NEED_WAKEUP,
                                   .sxdp_ifindex = x->dev.index,
                                   .sxdp_queue_id = x->queue};
    int error = aio_xdp_program_get(&x->program, x->dev.index, opt->generic);

    if (error == EBUSY)
        return fail(x, message, "another XDP program has it, see ip link show", error);
    if (error)
        return fail(x, message, "the kernel refused the XDP program", error);
    if (aio_xdp_program_is_generic(x->program))
        address.sxdp_flags |= XDP_COPY;
    if (bind_patiently(x, &address) < 0)
        return fail(x, message,
                    errno == EINVAL  ? "no such queue, see ethtool -l"
                    : errno == EBUSY ? "the queue has an AF_XDP socket already"
                                     : "cannot take the queue",
                    errno);
    error = aio_xdp_program_add(x->program, x->queue, x->fd);
    return error ? fail(x, message, "cannot take the queue", error) : AIO_OK;
}

static int watch_all(struct aio_xdp *x, char *message)
{
    struct epoll_event on_socket = {.events = EPOLLIN, .data.fd = x->fd};
    struct epoll_event on_link = {.events = EPOLLIN};

    x->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    x->watch_fd = aio_netdev_watch();
    on_link.data.fd = x->watch_fd;
    if (x->epoll_fd < 0 || epoll_ctl(x->epoll_fd, EPOLL_CTL_ADD, x->fd, &on_socket) < 0 ||
        (x->watch_fd >= 0 &&
         epoll_ctl(x->epoll_fd, EPOLL_CTL_ADD, x->watch_fd, &on_link) < 0))
        return fail(x, message, "cannot wait for its frames", errno);
    return AIO_OK;
}

static int open_all(struct aio_xdp *x, const char *name, const struct aio_xdp_options *opt,
                    char *message)
{
    int r = find(x, name, opt, message);

    if (r == AIO_OK)
        r = choose_sizes(x, opt, message);
    if (r == AIO_OK)
        r = make_memory(x, message);
    if (r < 0)
        return r;
    x->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (x->fd < 0)
        return fail(x, message, "the kernel has no AF_XDP", errno);
    r = register_memory(x, message);
    if (r == AIO_OK)
        r = make_rings(x, message);
    if (r < 0)
        return r;
    give_all(x);
    r = watch_all(x, message);
    return r < 0 ? r : take_queue(x, opt, message);
}

int aio_xdp_open(struct aio_source **out, const char *name,
                 const struct aio_xdp_options *opt, char *message)
{
    static const struct aio_xdp_options defaults;
    struct aio_xdp *x = calloc(1, sizeof *x);
    int r, error;

    *out = NULL;
    strcpy(message, "out of memory");
    errno = 0;
    if (!x)
        return AIO_ENOMEM;
    if (!opt)
        opt = &defaults;
    aio_base_init(&x->base, &aio_xdp_ops,
                  AIO_CAP_RETAIN_FREE | AIO_CAP_LIVE | AIO_CAP_TRANSMIT,
                  opt->retain_budget);
    x->fd = x->epoll_fd = x->watch_fd = x->ask_fd = -1;
    r = open_all(x, name, opt, message);
    if (r < 0) {
        error = errno;
        aio_xdp_free(x);
        errno = error;
        return r;
    }
    message[0] = '\0';
    *out = &x->base.pub;
    return AIO_OK;
}
