/* packet_open.c -- setting up packet sockets: options, ring, filter, fanout group.
 *
 * The sockets of a group see nothing until all have joined: before that every frame would
 * come to several of them. Old kernels let only a bound socket join, so the sockets are
 * bound behind a filter that refuses all.
 */
#include "packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

#define DEFAULT_RING (32u << 20)
#define LARGEST_RING (4ull << 30)
#define SLOTS_PER_BLOCK 16u /* slots are multiples of 256 bytes, so blocks are of 4 KiB */
#define SLOT_UNIT 256u
#define SLOT_MOST (16u << 10)
#define SLOT_HEADERS 128u /* of the kernel, and room before the frame */
#define LINK_HEADERS 22u  /* Ethernet and two tags */
#define MOST_SOCKETS 256u /* of a fanout group */

#define LINKTYPE_ETHERNET 1
#define LINKTYPE_RAW 101
#define LINKTYPE_IEEE802_11 105
#define LINKTYPE_IEEE802_11_RADIOTAP 127
#define LINKTYPE_LINUX_SLL2 276

/* What is decided once for all sockets of a group. */
struct plan {
    struct aio_netdev dev;
    struct aio_packet_options opt;
    struct tpacket_req ring;
    uint64_t missed;
    uint32_t snap_len; /* of what the socket gives, 0 = all */
    uint16_t link_type;
    bool cooked;
    char *message;
};

static int fail(const struct plan *plan, const char *what)
{
    int error = errno;

    if (error == EPERM)
        snprintf(plan->message, 256,
                 "no permission for packet sockets: run as root, or once: setcap "
                 "cap_net_raw,cap_net_admin+ep on the Python interpreter");
    else
        snprintf(plan->message, 256, "%s: %s: %s", plan->dev.name, what, strerror(error));
    errno = error;
    return AIO_EIO;
}

/* ---- the plan --------------------------------------------------------------------- */

/* Interfaces without a header of their own carry IP; those with one that is not known
 * here are read without it. */
static void choose_link_type(struct plan *plan)
{
    switch (plan->dev.arphrd) {
    case ARPHRD_ETHER:
    case ARPHRD_LOOPBACK:
        plan->link_type = LINKTYPE_ETHERNET;
        break;
    case ARPHRD_NONE:
    case ARPHRD_PPP:
    case ARPHRD_RAWHDLC + 1: /* ARPHRD_RAWIP */
    case ARPHRD_TUNNEL:
    case ARPHRD_TUNNEL6:
    case ARPHRD_SIT:
        plan->link_type = LINKTYPE_RAW;
        break;
    case ARPHRD_IEEE80211:
        plan->link_type = LINKTYPE_IEEE802_11;
        break;
    case ARPHRD_IEEE80211_RADIOTAP:
        plan->link_type = LINKTYPE_IEEE802_11_RADIOTAP;
        break;
    default:
        plan->link_type = LINKTYPE_LINUX_SLL2;
        plan->cooked = true;
    }
}

static void choose_ring(struct plan *plan)
{
    uint32_t frame = plan->dev.mtu + LINK_HEADERS;
    uint32_t slot;

    if (plan->snap_len && plan->snap_len < frame)
        frame = plan->snap_len;
    slot = (frame + SLOT_HEADERS + SLOT_UNIT - 1) / SLOT_UNIT * SLOT_UNIT;
    if (slot > SLOT_MOST)
        slot = SLOT_MOST;
    plan->ring.tp_frame_size = slot;
    plan->ring.tp_block_size = slot * SLOTS_PER_BLOCK;
    plan->ring.tp_block_nr = (unsigned)(plan->opt.ring_bytes / plan->ring.tp_block_size);
    if (plan->ring.tp_block_nr == 0)
        plan->ring.tp_block_nr = 1;
    plan->ring.tp_frame_nr = plan->ring.tp_block_nr * SLOTS_PER_BLOCK;
}

static int make_plan(struct plan *plan, const char *name)
{
    int error = aio_netdev_find(name, &plan->dev);
    int questions;

    if (error) {
        errno = error;
        snprintf(plan->message, 256, "%.60s: %s", name,
                 error == ENODEV ? "no such interface" : strerror(error));
        return AIO_EIO;
    }
    if (plan->opt.ring_bytes == 0)
        plan->opt.ring_bytes = DEFAULT_RING;
    if (plan->opt.ring_bytes > LARGEST_RING) {
        snprintf(plan->message, 256, "a ring has %llu MiB at the most", LARGEST_RING >> 20);
        return AIO_EINVAL;
    }
    choose_link_type(plan);
    plan->snap_len = plan->opt.snap_len;
    if (plan->cooked && plan->snap_len)
        plan->snap_len = plan->snap_len > AIO_SLL2_LEN ? plan->snap_len - AIO_SLL2_LEN : 1;
    if (plan->cooked && plan->opt.transmit) {
        snprintf(plan->message, 256, "%s: frames can be read here, not sent", name);
        return AIO_ENOTSUP;
    }
    choose_ring(plan);
    questions = aio_netdev_questions();
    plan->missed = aio_netdev_missed(questions, plan->dev.index);
    if (questions >= 0)
        close(questions);
    return AIO_OK;
}

/* ---- one socket ------------------------------------------------------------------- */

static int set(int fd, int option, const void *value, socklen_t len)
{
    return setsockopt(fd, SOL_PACKET, option, value, len);
}

static int set_int(int fd, int option, int value)
{
    return set(fd, option, &value, sizeof value);
}

/* Room for copies of large frames, as much as the ring has; without the right to it, what
 * net.core.rmem_max allows. */
static void set_queue(int fd, const struct plan *plan)
{
    int bytes = plan->opt.ring_bytes < (1u << 30) ? (int)plan->opt.ring_bytes : 1 << 30;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

static int set_filter(int fd, const struct aio_program *program)
{
    struct sock_fprog prog = {.len = program->len,
                              .filter = (struct sock_filter *)program->code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

static int set_real_filter(int fd, const struct plan *plan)
{
    struct aio_program program;

    aio_filter_program(&program, plan->opt.direction, plan->snap_len);
    return set_filter(fd, &program);
}

static int set_promiscuous(int fd, const struct plan *plan)
{
    struct packet_mreq req = {.mr_ifindex = (int)plan->dev.index,
                              .mr_type = PACKET_MR_PROMISC};

    if (plan->opt.no_promiscuous || plan->dev.index == 0 ||
        plan->dev.arphrd == ARPHRD_LOOPBACK)
        return 0;
    return set(fd, PACKET_ADD_MEMBERSHIP, &req, sizeof req);
}

/* Everything but the address: no frame comes yet. */
static int socket_prepare(const struct plan *plan, int *fd)
{
    *fd = socket(AF_PACKET, (plan->cooked ? SOCK_DGRAM : SOCK_RAW) | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return fail(plan, "cannot open a packet socket");
    if (set_int(*fd, PACKET_VERSION, TPACKET_V2) < 0)
        return fail(plan, "the kernel has no rings of version 2");
    if (plan->opt.transmit && set_int(*fd, PACKET_VNET_HDR, 1) < 0)
        return fail(plan, "no virtio-net headers");
    if (plan->cooked && set_int(*fd, PACKET_RESERVE, AIO_SLL2_LEN) < 0)
        return fail(plan, "no room before frames");
    if (set_int(*fd, PACKET_COPY_THRESH, 1) < 0)
        return fail(plan, "no copies of large frames");
    if (plan->opt.direction == AIO_DIR_IN)
        set_int(*fd, PACKET_IGNORE_OUTGOING, 1); /* the filter does it too, later */
    set_queue(*fd, plan);
    if (set(*fd, PACKET_RX_RING, &plan->ring, sizeof plan->ring) < 0) {
        char what[96];

        snprintf(what, sizeof what, "no ring of %llu MiB to be had, ask for a smaller one",
                 (unsigned long long)plan->opt.ring_bytes >> 20);
        return fail(plan, what);
    }
    return AIO_OK;
}

static int socket_bind(const struct plan *plan, int fd)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)plan->dev.index};

    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return fail(plan, "cannot listen");
    if (set_promiscuous(fd, plan) < 0)
        return fail(plan, "no promiscuous mode");
    return AIO_OK;
}

static int state_make(const struct plan *plan, unsigned index, int *state_fd)
{
    struct aio_packet_state *state;

    *state_fd = memfd_create("aiomos-packet-socket", MFD_CLOEXEC);
    if (*state_fd < 0 || ftruncate(*state_fd, sizeof *state) < 0)
        return fail(plan, "no shared memory");
    state = aio_packet_state_map(*state_fd);
    if (!state)
        return fail(plan, "no shared memory");
    state->index = index;
    state->slot_size = plan->ring.tp_frame_size;
    state->n_slots = plan->ring.tp_frame_nr;
    state->if_index = plan->dev.index;
    state->snap_len = plan->snap_len;
    state->link_type = plan->link_type;
    state->cooked = plan->cooked;
    state->vnet = plan->opt.transmit;
    memcpy(state->name, plan->dev.name, sizeof state->name);
    state->missed_before = plan->missed;
    atomic_store_explicit(&state->link_up, plan->dev.up, memory_order_relaxed);
    state->magic = AIO_PACKET_STATE_MAGIC;
    aio_packet_state_unmap(state);
    return AIO_OK;
}

/* ---- a group ---------------------------------------------------------------------- */

/* The first one gets a number nobody has, the others join it. */
static int group_join(const struct plan *plan, int fd, bool first, int *id)
{
    uint32_t type = PACKET_FANOUT_CBPF | (first ? PACKET_FANOUT_FLAG_UNIQUEID : 0u);
    int value = (int)(type << 16 | (first ? 0u : (uint32_t)*id));
    socklen_t len = sizeof value;

    if (set_int(fd, PACKET_FANOUT, value) < 0)
        return fail(plan, plan->dev.up ? "the kernel refused a fanout group"
                                       : "the kernel refused a fanout group on an "
                                         "interface that is down, set it up first");
    if (first && getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &value, &len) < 0)
        return fail(plan, "the kernel refused a fanout group");
    *id = value & 0xffff;
    return AIO_OK;
}

static int group_program(const struct plan *plan, int fd, unsigned n)
{
    struct aio_program program;
    struct sock_fprog prog = {.filter = program.code};

    aio_fanout_program(&program, n);
    prog.len = program.len;
    if (set(fd, PACKET_FANOUT_DATA, &prog, sizeof prog) < 0)
        return fail(plan, "the kernel refused the fanout program");
    return AIO_OK;
}

static int group_bind(const struct plan *plan, const int *fds, unsigned n)
{
    struct aio_program nothing;
    int id = 0, r = AIO_OK;

    aio_filter_nothing(&nothing);
    for (unsigned i = 0; r == AIO_OK && i < n; i++)
        if (set_filter(fds[i], &nothing) < 0)
            r = fail(plan, "the kernel refused a filter");
    for (unsigned i = 0; r == AIO_OK && i < n; i++) {
        r = socket_bind(plan, fds[i]);
        if (r == AIO_OK && n > 1)
            r = group_join(plan, fds[i], i == 0, &id);
        if (r == AIO_OK && n > 1 && i == 0)
            r = group_program(plan, fds[i], n);
    }
    for (unsigned i = 0; r == AIO_OK && i < n; i++)
        if (set_real_filter(fds[i], plan) < 0)
            r = fail(plan, "the kernel refused a filter");
    return r;
}

static void close_all(int *fds, unsigned n)
{
    int error = errno;

    for (unsigned i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    errno = error;
}

int aio_packet_sockets(const char *name, const struct aio_packet_options *opt, unsigned n,
                       int *fds, int *state_fds, char *message)
{
    struct plan plan = {.message = message};
    int r;

    message[0] = '\0';
    errno = 0;
    if (n < 1 || n > MOST_SOCKETS) {
        snprintf(message, 256, "%u sockets: a group has 1 to %u", n, MOST_SOCKETS);
        return AIO_EINVAL;
    }
    if (opt)
        plan.opt = *opt;
    for (unsigned i = 0; i < n; i++)
        fds[i] = state_fds[i] = -1;
    r = make_plan(&plan, name);
    for (unsigned i = 0; r == AIO_OK && i < n; i++) {
        r = socket_prepare(&plan, &fds[i]);
        if (r == AIO_OK)
            r = state_make(&plan, i, &state_fds[i]);
    }
    if (r == AIO_OK)
        r = group_bind(&plan, fds, n);
    if (r < 0) {
        close_all(fds, n);
        close_all(state_fds, n);
    }
    return r;
}

int aio_packet_open(struct aio_source **out, const char *name,
                    const struct aio_packet_options *opt, uint64_t retain_budget,
                    char *message)
{
    int fd, state_fd;
    int r = aio_packet_sockets(name, opt, 1, &fd, &state_fd, message);

    *out = NULL;
    if (r < 0)
        return r;
    r = aio_packet_attach(out, fd, state_fd, retain_budget, message);
    if (r < 0) {
        close(fd);
        close(state_fd);
    }
    return r;
}
