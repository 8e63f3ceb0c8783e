/* source_af_packet.c -- frames of a kernel interface, through a packet socket's ring.
 *
 * The kernel writes frames into slots one after the other and stops at one that was not
 * given back. A slot that is handed out is marked in the ring itself, and how far reading
 * came is noted in shared memory, in this order: mark, note, give back. Wherever a reader
 * is killed, its successor finds out what became of every slot.
 */
#include "packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_S 1000000000

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

    aio_slot_give_back(lease->slot);
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
        aio_slot_give_back(slot);
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
        struct tpacket2_hdr *slot = aio_slot_at(p, p->next);
        uint32_t status = aio_slot_status(slot);

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
    out->cut = all.cut - p->cut_before;
    if (all.dropped_nic > p->missed_before)
        out->dropped_nic = all.dropped_nic - p->missed_before;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void aio_packet_free(struct aio_packet *p)
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

    aio_packet_free(packet_of(src));
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
