/* packet_attach.c -- a reader begins: it maps what the socket has, and finds out what
 * became of the reader before it.
 */
#include "packet.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_BUDGET (64u << 20) /* a burst of 64 KiB frames is 8 MiB of it */

/* Finds where the reader before stood, and gives back what it had. It may have died
 * between marking a slot and noting it. */
static void recover(struct aio_packet *p)
{
    uint64_t taken = atomic_load_explicit(&p->state->taken, memory_order_acquire);
    uint64_t found = 0;

    while (aio_slot_status(aio_slot_at(p, (uint32_t)(taken % p->n_slots))) &
               AIO_SLOT_TAKEN &&
           found++ < p->n_slots)
        taken++;
    found = 0;
    for (uint32_t i = 0; i < p->n_slots; i++) {
        if (aio_slot_status(aio_slot_at(p, i)) & AIO_SLOT_TAKEN) {
            aio_slot_give_back(aio_slot_at(p, i));
            found++;
        }
    }
    atomic_store_explicit(&p->state->taken, taken, memory_order_relaxed);
    aio_count(&p->state->recovered, found);
    p->next = (uint32_t)(taken % p->n_slots);
}

/* One reader at a time: a lock that goes with the process that has it, and that children
 * do not have. */
static int claim(struct aio_packet *p, char *message)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    uint32_t reader = atomic_load_explicit(&p->state->reader, memory_order_relaxed);

    if (fcntl(p->state_fd, F_SETLK, &lock) == 0 && reader != (uint32_t)getpid())
        return AIO_OK;
    snprintf(message, 256, "the packet socket on %s is read by process %u already",
             p->state->name, reader);
    return AIO_EINVAL;
}

static int map_all(struct aio_packet *p, char *message)
{
    struct aio_packet_state *s = p->state = aio_packet_state_map(p->state_fd);

    if (!s || s->magic != AIO_PACKET_STATE_MAGIC || s->slot_size == 0) {
        snprintf(message, 256, "the second descriptor is not a packet socket's state");
        return AIO_EINVAL;
    }
    p->slot_size = s->slot_size;
    p->n_slots = s->n_slots;
    p->ring_len = (size_t)s->slot_size * s->n_slots;
    p->ring = mmap(NULL, p->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    if (p->ring == MAP_FAILED) {
        p->ring = NULL;
        snprintf(message, 256, "cannot map the ring of the packet socket on %s: %s",
                 s->name, strerror(errno));
        return AIO_EIO;
    }
    return AIO_OK;
}

/* Errors of a lost link would make some event loops give the descriptor up: they get the
 * epoll descriptor, which is only ever readable. */
static int watch_all(struct aio_packet *p, char *message)
{
    struct epoll_event on_socket = {.events = EPOLLIN, .data.fd = p->fd};
    struct epoll_event on_link = {.events = EPOLLIN};

    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->state->if_index) {
        p->watch_fd = aio_netdev_watch();
        p->ask_fd = aio_netdev_questions();
    }
    on_link.data.fd = p->watch_fd;
    if (p->epoll_fd < 0 || epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->fd, &on_socket) < 0 ||
        (p->watch_fd >= 0 &&
         epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->watch_fd, &on_link) < 0)) {
        snprintf(message, 256, "cannot watch the packet socket on %s: %s", p->state->name,
                 strerror(errno));
        return AIO_EIO;
    }
    return AIO_OK;
}

static void begin(struct aio_packet *p)
{
    struct aio_packet_state *s = p->state;
    struct aio_netdev dev = {.mtu = 0};
    bool up = true;

    p->claimed = true;
    p->prefix = s->vnet ? sizeof(struct virtio_net_hdr) : 0;
    p->cooked = s->cooked ? AIO_SLL2_LEN : 0;
    p->snap_len = s->snap_len ? s->snap_len : UINT32_MAX;
    p->dropped_before = atomic_load_explicit(&s->dropped, memory_order_relaxed);
    p->cut_before = atomic_load_explicit(&s->cut, memory_order_relaxed);
    if (s->if_index)
        up = aio_netdev_look(p->fd, s->if_index, &dev) == 0 && dev.up;
    p->mtu = dev.mtu;
    atomic_store_explicit(&s->link_up, up, memory_order_relaxed);
    atomic_store_explicit(&s->reader, (uint32_t)getpid(), memory_order_relaxed);
    if (atomic_load_explicit(&s->readers, memory_order_relaxed))
        recover(p);
    aio_count(&s->readers, 1);
    aio_packet_link_check(p);
}

int aio_packet_attach(struct aio_source **out, int fd, int state_fd, uint64_t retain_budget,
                      char *message)
{
    struct aio_packet *p = calloc(1, sizeof *p);
    int r;

    *out = NULL;
    strcpy(message, "out of memory");
    if (!p)
        return AIO_ENOMEM;
    aio_base_init(&p->base, &aio_packet_ops, AIO_CAP_RING | AIO_CAP_LIVE,
                  retain_budget ? retain_budget : DEFAULT_BUDGET);
    p->epoll_fd = p->watch_fd = p->ask_fd = -1;
    p->fd = fd;
    p->state_fd = state_fd;
    r = map_all(p, message);
    if (r == AIO_OK)
        r = claim(p, message);
    if (r == AIO_OK)
        r = watch_all(p, message);
    if (r < 0) {
        aio_packet_free(p);
        return r;
    }
    begin(p);
    if (p->state->vnet)
        p->base.pub.caps |= AIO_CAP_TRANSMIT;
    message[0] = '\0';
    *out = &p->base.pub;
    return AIO_OK;
}
