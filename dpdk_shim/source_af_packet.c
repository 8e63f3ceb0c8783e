/* source_af_packet.c -- frames of a kernel interface, through a packet socket's ring.
 *
 * The kernel writes frames into slots one after the other and stops at one that was not
 * given back. A slot that is handed out is marked in the ring itself, and how far reading
 * came is noted in shared memory, in this order: mark, note, give back. Wherever a reader
 * is killed, its successor finds out what became of every slot.
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
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_S 1000000000
#define DEFAULT_BUDGET (64u << 20) /* a burst of 64 KiB frames is 8 MiB of it */

/* The owner of a frame that lies in its slot. */
struct aio_packet_lease {
    struct aio_owner owner;
    struct tpacket2_hdr *slot;
    struct aio_packet_lease *next_idle;
};

static struct aio_packet *packet_of(struct aio_source *src)
{
    return (struct aio_packet *)src;
}

/* ---- slots ------------------------------------------------------------------------ */

static struct tpacket2_hdr *slot_at(const struct aio_packet *p, uint32_t index)
{
    return (struct tpacket2_hdr *)(p->ring + (size_t)index * p->slot_size);
}

static uint32_t slot_status(const struct tpacket2_hdr *slot)
{
    return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

static void slot_give_back(struct tpacket2_hdr *slot)
{
    __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

static void slot_take(struct aio_packet *p, struct tpacket2_hdr *slot, uint32_t status)
{
    uint64_t taken = atomic_load_explicit(&p->state->taken, memory_order_relaxed);

    __atomic_store_n(&slot->tp_status, status | AIO_SLOT_TAKEN, __ATOMIC_RELAXED);
    atomic_store_explicit(&p->state->taken, taken + 1, memory_order_release);
    if (++p->next == p->n_slots)
        p->next = 0;
}

static void lease_drop(struct aio_owner *owner)
{
    struct aio_packet_lease *lease = (struct aio_packet_lease *)owner;
    struct aio_packet *p = packet_of(owner->src);

    slot_give_back(lease->slot);
    lease->next_idle = p->idle;
    p->idle = lease;
}

static struct aio_packet_lease *lease_new(struct aio_packet *p)
{
    struct aio_packet_lease *lease = p->idle;

    if (!lease)
        return malloc(sizeof *lease);
    p->idle = lease->next_idle;
    return lease;
}

/* ---- frames ----------------------------------------------------------------------- */

static const struct sockaddr_ll *slot_address(const struct tpacket2_hdr *slot)
{
    return (const void *)((const uint8_t *)slot + TPACKET_ALIGN(sizeof *slot));
}

static uint8_t checksum_state(uint32_t status)
{
    if (status & TP_STATUS_CSUMNOTREADY)
        return AIO_CSUM_NOT_FILLED;
    return status & TP_STATUS_CSUM_VALID ? AIO_CSUM_GOOD : AIO_CSUM_UNKNOWN;
}

static void describe(const struct aio_packet *p, const struct tpacket2_hdr *slot,
                     uint32_t status, struct aio_frame *out)
{
    const struct sockaddr_ll *from = slot_address(slot);

    memset(out, 0, sizeof *out);
    out->time_ns = (int64_t)slot->tp_sec * NS_PER_S + slot->tp_nsec;
    out->wire_len = slot->tp_len;
    out->link_type = p->state->link_type;
    out->port = p->state->if_index ? 0 : (uint16_t)from->sll_ifindex;
    out->direction = from->sll_pkttype == PACKET_OUTGOING ? AIO_DIR_OUT : AIO_DIR_IN;
    out->csum_l4 = checksum_state(status);
    if (status & TP_STATUS_VLAN_VALID) {
        out->vlan[0] = slot->tp_vlan_tci;
        out->n_vlan = 1;
    }
}

static void put_be(uint8_t *to, uint32_t value, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        to[i] = (uint8_t)(value >> (8 * (len - 1 - i)));
}

void aio_packet_cook(const struct tpacket2_hdr *slot, uint8_t *data)
{
    const struct sockaddr_ll *from = slot_address(slot);
    uint8_t *header = data - AIO_SLL2_LEN;

    memcpy(header, &from->sll_protocol, 2); /* in network order already */
    put_be(header + 2, 0, 2);
    put_be(header + 4, (uint32_t)from->sll_ifindex, 4);
    put_be(header + 8, from->sll_hatype, 2);
    header[10] = from->sll_pkttype;
    header[11] = from->sll_halen;
    memcpy(header + 12, from->sll_addr, 8);
}

static void frame_cook(const struct aio_packet *p, const struct tpacket2_hdr *slot,
                       struct aio_frame *out)
{
    aio_packet_cook(slot, (uint8_t *)out->data);
    out->data -= p->cooked;
    out->cap_len += p->cooked;
    out->wire_len += p->cooked;
}

/* True when the frame lies elsewhere and the slot can go back at once. */
static bool find_data(struct aio_packet *p, struct tpacket2_hdr *slot, uint32_t status,
                      struct aio_frame *out)
{
    if (slot->tp_snaplen < slot->tp_len && slot->tp_snaplen < p->snap_len) {
        if ((status & TP_STATUS_COPY) && aio_packet_copy(p, slot, out))
            return true;
        aio_count(&p->state->cut, 1);
    }
    out->data = (uint8_t *)slot + slot->tp_mac;
    out->cap_len = slot->tp_snaplen;
    return false;
}

static bool hand_out(struct aio_packet *p, struct tpacket2_hdr *slot, uint32_t status,
                     struct aio_frame *out)
{
    struct aio_packet_lease *lease = NULL;
    bool copied;

    describe(p, slot, status, out);
    copied = find_data(p, slot, status, out);
    if (!copied && !(lease = lease_new(p)))
        return false;
    if (p->cooked)
        frame_cook(p, slot, out);
    out->head_len = out->cap_len;
    slot_take(p, slot, status);
    if (copied) {
        slot_give_back(slot);
        return true;
    }
    lease->slot = slot;
    aio_owner_take(&p->base, &lease->owner, lease_drop);
    out->owner = lease;
    return true;
}

/* ---- the link --------------------------------------------------------------------- */

static void link_set(struct aio_packet *p, bool up, unsigned losses)
{
    aio_count(&p->state->link_losses, losses);
    atomic_store_explicit(&p->state->link_up, up, memory_order_relaxed);
}

/* A socket whose interface went away for good is bound to number -1. */
void aio_packet_link_check(struct aio_packet *p)
{
    bool up = atomic_load_explicit(&p->state->link_up, memory_order_relaxed);
    struct aio_netdev_news news = {.up = up};
    struct sockaddr_ll bound;
    socklen_t len = sizeof bound;

    if (p->state->if_index == 0)
        return;
    if (p->watch_fd >= 0)
        news = aio_netdev_changes(p->watch_fd, p->state->if_index, up);
    if (getsockname(p->fd, (struct sockaddr *)&bound, &len) == 0 && bound.sll_ifindex < 0)
        p->gone = true;
    link_set(p, news.up && !p->gone, news.losses);
}

/* Nothing in the ring: is that all? Errors are looked at here only, so what came before
 * them is handed out before. */
static int packet_idle(struct aio_packet *p)
{
    struct epoll_event events[2];
    int n = epoll_wait(p->epoll_fd, events, 2, 0);
    bool changed = false;

    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == p->watch_fd) {
            changed = true;
        } else if (events[i].events & EPOLLERR) {
            int error;
            socklen_t len = sizeof error;

            getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len);
            changed = true;
        }
    }
    if (changed)
        aio_packet_link_check(p);
    if (p->gone)
        return aio_fail(
            &p->base.pub, AIO_EIO,
            "interface %s is gone: it was deleted, or moved to another namespace",
            p->state->name);
    return 0;
}

/* ---- operations ------------------------------------------------------------------- */

static int packet_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_packet *p = packet_of(src);
    uint64_t bytes = 0;
    unsigned n = 0;

    while (n < max) {
        struct tpacket2_hdr *slot = slot_at(p, p->next);
        uint32_t status = slot_status(slot);

        if ((status & (TP_STATUS_USER | AIO_SLOT_TAKEN)) != TP_STATUS_USER)
            break;
        if (!hand_out(p, slot, status, &out[n]))
            return n ? (int)n : aio_fail(src, AIO_ENOMEM, "out of memory");
        bytes += out[n++].cap_len;
    }
    if (n == 0)
        return max ? packet_idle(p) : 0;
    p->base.stats.frames += n;
    p->base.stats.bytes += bytes;
    p->base.stats.outstanding += n;
    aio_count(&p->state->frames, n);
    aio_count(&p->state->bytes, bytes);
    return (int)n;
}

/* A copy takes along what precedes the frame: whoever sends it on needs it. */
static int packet_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_packet *p = packet_of(src);
    struct aio_owner *owner = frame->owner;
    struct aio_frame whole = *frame;

    if (owner->pooled || p->prefix == 0)
        return aio_base_retain(src, frame);
    whole.data -= p->prefix;
    whole.head_len += p->prefix;
    whole.cap_len += p->prefix;
    if (aio_base_retain(src, &whole) < 0)
        return AIO_ENOMEM;
    frame->owner = whole.owner;
    frame->data = whole.data + p->prefix;
    return AIO_OK;
}

static int packet_descriptor(struct aio_source *src)
{
    return packet_of(src)->epoll_fd;
}

void aio_packet_source_stats(struct aio_source *src, struct aio_packet_stats *out)
{
    struct aio_packet *p = packet_of(src);

    aio_packet_state_stats(p->fd, p->state, p->ask_fd, out);
}

static void packet_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_packet *p = packet_of(src);
    struct aio_packet_stats all;

    aio_packet_source_stats(src, &all);
    *out = p->base.stats;
    out->dropped_kernel = all.dropped_kernel - p->dropped_before;
    if (all.dropped_nic > p->missed_before)
        out->dropped_nic = all.dropped_nic - p->missed_before;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* All but the two descriptors. */
static void packet_free(struct aio_packet *p)
{
    aio_base_close(&p->base);
    while (p->idle) {
        struct aio_packet_lease *lease = p->idle;

        p->idle = lease->next_idle;
        free(lease);
    }
    if (p->claimed)
        atomic_store_explicit(&p->state->reader, 0, memory_order_relaxed);
    if (p->ring)
        munmap(p->ring, p->ring_len);
    aio_packet_state_unmap(p->state);
    close_fd(p->epoll_fd);
    close_fd(p->watch_fd);
    close_fd(p->ask_fd);
    free(p->early.data);
    free(p->spill);
    free(p->sender);
    free(p);
}

static void packet_close(struct aio_source *src)
{
    int fd = packet_of(src)->fd, state_fd = packet_of(src)->state_fd;

    packet_free(packet_of(src));
    close(fd);
    close(state_fd);
}

const struct aio_source_ops aio_packet_ops = {
    .burst = packet_burst,
    .release = aio_base_release,
    .retain = packet_retain,
    .transmit = aio_packet_transmit,
    .descriptor = packet_descriptor,
    .stats = packet_stats,
    .close = packet_close,
};

/* ---- a reader begins -------------------------------------------------------------- */

/* Finds where the reader before stood, and gives back what it had. It may have died
 * between marking a slot and noting it. */
static void recover(struct aio_packet *p)
{
    uint64_t taken = atomic_load_explicit(&p->state->taken, memory_order_acquire);
    uint64_t found = 0;

    while (slot_status(slot_at(p, (uint32_t)(taken % p->n_slots))) & AIO_SLOT_TAKEN &&
           found++ < p->n_slots)
        taken++;
    found = 0;
    for (uint32_t i = 0; i < p->n_slots; i++) {
        if (slot_status(slot_at(p, i)) & AIO_SLOT_TAKEN) {
            slot_give_back(slot_at(p, i));
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
        packet_free(p);
        return r;
    }
    begin(p);
    if (p->state->vnet)
        p->base.pub.caps |= AIO_CAP_TRANSMIT;
    message[0] = '\0';
    *out = &p->base.pub;
    return AIO_OK;
}
