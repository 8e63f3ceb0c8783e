/* packet_copy.c -- frames larger than a slot.
 *
 * With PACKET_COPY_THRESH the kernel puts the beginning of such a frame into its slot and
 * the whole frame into the socket's queue, both under one lock: copies come in the order
 * of their slots. A copy may be missing, when the reader before this one died with it in
 * its hands; so each is compared with the slot, and one that belongs to a later slot waits.
 */
#include "packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SPILL_LEN (1u << 19) /* frames of BIG TCP have up to 512 KiB */
#define COMPARED 256u

static const uint8_t *slot_data(const struct tpacket2_hdr *slot)
{
    return (const uint8_t *)slot + slot->tp_mac;
}

static bool belongs(const uint8_t *data, uint32_t len, const struct tpacket2_hdr *slot)
{
    uint32_t n = slot->tp_snaplen < COMPARED ? slot->tp_snaplen : COMPARED;

    return len == slot->tp_len && memcmp(data, slot_data(slot), n) == 0;
}

/* Into room first, the rest into the spill; the length of the frame, -1 without one. */
static int64_t receive(struct aio_packet *p, uint8_t *room, uint32_t len)
{
    struct iovec parts[2] = {
        {.iov_base = room - p->prefix, .iov_len = len + p->prefix},
        {.iov_base = p->spill, .iov_len = SPILL_LEN},
    };
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;

    while ((n = recvmsg(p->fd, &msg, MSG_DONTWAIT)) < 0) {
        if (errno == ENETDOWN)
            aio_packet_link_check(p); /* told once, and here instead of to the next burst */
        else if (errno != EINTR)
            return -1;
    }
    return n >= (ssize_t)p->prefix && !(msg.msg_flags & MSG_TRUNC) ? n - p->prefix : -1;
}

static void early_forget(struct aio_packet *p)
{
    free(p->early.data);
    p->early.data = NULL;
}

/* A received frame whose slot comes later: taken out of room and spill. */
static void early_keep(struct aio_packet *p, const uint8_t *room, uint32_t expected,
                       uint32_t len)
{
    uint32_t in_room = len < expected ? len : expected;

    p->early.data = malloc(p->prefix + len);
    if (!p->early.data)
        return;
    memcpy(p->early.data, room - p->prefix, p->prefix + in_room);
    memcpy(p->early.data + p->prefix + in_room, p->spill, len - in_room);
    p->early.len = len;
    p->early.since = atomic_load_explicit(&p->state->taken, memory_order_relaxed);
}

/* What no slot wanted for a whole round of the ring, none will. */
static bool early_matches(struct aio_packet *p, const struct tpacket2_hdr *slot)
{
    uint64_t now = atomic_load_explicit(&p->state->taken, memory_order_relaxed);

    if (belongs(p->early.data + p->prefix, p->early.len, slot))
        return true;
    if (now - p->early.since > p->n_slots)
        early_forget(p);
    return false;
}

static bool fetch(struct aio_packet *p, const struct tpacket2_hdr *slot, uint8_t *room)
{
    int64_t len;

    if (p->early.data) {
        if (!early_matches(p, slot))
            return false;
        memcpy(room - p->prefix, p->early.data, p->prefix + p->early.len);
        early_forget(p);
        return true;
    }
    len = receive(p, room, slot->tp_len);
    if (len >= 0 && belongs(room, (uint32_t)len, slot))
        return true;
    if (len >= 0)
        early_keep(p, room, slot->tp_len, (uint32_t)len);
    return false;
}

bool aio_packet_copy(struct aio_packet *p, const struct tpacket2_hdr *slot,
                     struct aio_frame *frame)
{
    uint8_t *block;
    struct aio_owner *owner;

    if (!p->spill && !(p->spill = malloc(SPILL_LEN)))
        return false;
    owner = aio_pool_take(&p->base.pool, (uint64_t)AIO_COPY_ROOM + slot->tp_len, &block);
    if (!owner) {
        (void)recv(p->fd, p->spill, SPILL_LEN, MSG_DONTWAIT);
        return false;
    }
    if (!fetch(p, slot, block + AIO_COPY_ROOM)) {
        aio_owner_put(owner);
        return false;
    }
    frame->owner = owner;
    frame->data = block + AIO_COPY_ROOM;
    frame->cap_len = slot->tp_len < p->snap_len ? slot->tp_len : p->snap_len;
    return true;
}
