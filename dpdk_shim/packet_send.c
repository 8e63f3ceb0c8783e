/* packet_send.c -- frames out of an interface, through the packet socket that reads it.
 *
 * The socket does not see what it sent itself. Before each frame goes a virtio-net header:
 * by it the kernel fills in checksums and cuts what is larger than the interface takes.
 */
#include "offload.h"
#include "packet.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 32u

/* One frame being sent: a header of the kernel's, a changed beginning, the rest. */
struct outgoing {
    struct virtio_net_hdr vnet;
    uint8_t head[AIO_OFFLOAD_HEAD];
    struct iovec parts[3];
};

struct aio_packet_sender {
    struct outgoing out[BATCH];
    struct mmsghdr messages[BATCH];
    uint8_t *joined; /* of the batch's last frame, when it lies in pieces */
};

/* The size of segments that the frame was made of, when it came from a packet socket. */
static uint16_t segment_size(const struct aio_frame *frame)
{
    const struct aio_owner *owner = frame->owner;
    struct virtio_net_hdr vnet;

    if (!owner || !owner->src || owner->src->ops != &aio_packet_ops ||
        ((const struct aio_packet *)owner->src)->prefix == 0)
        return 0;
    memcpy(&vnet, frame->data - sizeof vnet, sizeof vnet);
    return vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE ? 0 : vnet.gso_size;
}

static bool needs_kernel(const struct aio_packet *p, const struct aio_frame *frame)
{
    return frame->csum_l4 == AIO_CSUM_NOT_FILLED || frame->cap_len > p->mtu + ETH_HLEN;
}

/* data: all of the frame in one piece. */
static void outgoing_fill(const struct aio_packet *p, struct outgoing *o,
                          const struct aio_frame *frame, const uint8_t *data)
{
    uint32_t head = frame->cap_len < AIO_OFFLOAD_HEAD ? frame->cap_len : AIO_OFFLOAD_HEAD;

    memset(&o->vnet, 0, sizeof o->vnet);
    memcpy(o->head, data, head);
    if (needs_kernel(p, frame) &&
        !aio_offload_describe(o->head, head, frame->cap_len, p->mtu, segment_size(frame),
                              &o->vnet)) {
        memset(&o->vnet, 0, sizeof o->vnet);
        memcpy(o->head, data, head);
    }
    o->parts[0] = (struct iovec){.iov_base = &o->vnet, .iov_len = sizeof o->vnet};
    o->parts[1] = (struct iovec){.iov_base = o->head, .iov_len = head};
    o->parts[2] =
        (struct iovec){.iov_base = (void *)(data + head), .iov_len = frame->cap_len - head};
}

static const uint8_t *join(struct aio_packet_sender *s, const struct aio_frame *frame)
{
    s->joined = malloc(frame->cap_len);
    if (s->joined)
        aio_frame_copy(frame, 0, frame->cap_len, s->joined);
    return s->joined;
}

/* How many frames the batch has: it ends behind one that lies in pieces. */
static unsigned batch_fill(const struct aio_packet *p, struct aio_packet_sender *s,
                           const struct aio_frame *frames, unsigned n)
{
    unsigned i;

    for (i = 0; i < n && i < BATCH && !s->joined; i++) {
        const uint8_t *data = frames[i].next ? join(s, &frames[i]) : frames[i].data;

        if (!data)
            break;
        outgoing_fill(p, &s->out[i], &frames[i], data);
        memset(&s->messages[i], 0, sizeof s->messages[i]);
        s->messages[i].msg_hdr.msg_iov = s->out[i].parts;
        s->messages[i].msg_hdr.msg_iovlen = 3;
    }
    return i;
}

static int batch_send(struct aio_packet *p, const struct aio_frame *frames, unsigned n)
{
    unsigned filled;
    int sent;

    filled = batch_fill(p, p->sender, frames, n);
    sent = filled ? sendmmsg(p->fd, p->sender->messages, filled, MSG_DONTWAIT) : -1;
    free(p->sender->joined);
    p->sender->joined = NULL;
    return sent;
}

/* No room now, or no link: the caller keeps its frames and may come again. */
static bool passes(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == EINTR || error == ENETDOWN;
}

int aio_packet_transmit(struct aio_source *src, uint16_t port,
                        const struct aio_frame *frames, unsigned n)
{
    struct aio_packet *p = (struct aio_packet *)src;
    unsigned done = 0;

    (void)port;
    if (p->prefix == 0)
        return aio_fail(src, AIO_ENOTSUP, "%s was opened for reading only", p->state->name);
    if (!p->sender && !(p->sender = calloc(1, sizeof *p->sender)))
        return aio_fail(src, AIO_ENOMEM, "out of memory");
    while (done < n) {
        int sent = batch_send(p, frames + done, n - done);

        if (sent < 0 && done == 0 && !passes(errno))
            return aio_fail(src, AIO_EIO, "%s: a frame of %u bytes cannot be sent: %s",
                            p->state->name, frames[0].cap_len, strerror(errno));
        if (sent <= 0)
            break;
        done += (unsigned)sent;
        p->base.stats.transmitted += (unsigned)sent;
    }
    return (int)done;
}
