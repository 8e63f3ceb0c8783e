/* packet.h -- packet sockets (AF_PACKET) with a ring: what the parts share. */
#ifndef AIO_PACKET_H
#define AIO_PACKET_H

#include "base.h"
#include "netdev.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <stdatomic.h>
#include <sys/types.h>

/* Our mark in a slot's status, in a bit that no kernel uses: handed out, not given back.
 * It lies in the ring itself, so it outlives who set it. */
#define AIO_SLOT_TAKEN (1u << 27)

#define AIO_PACKET_STATE_MAGIC 0x70616973u
#define AIO_SLL2_LEN 20u /* header of LINKTYPE_LINUX_SLL2 */

/* One socket, as all its readers, one after the other, and the supervisor see it: a page
 * of shared memory. The upper part is written once, before anybody else sees it. */
struct aio_packet_state {
    uint32_t magic;
    uint32_t index; /* within the group */
    uint32_t slot_size;
    uint32_t n_slots;
    uint32_t if_index; /* 0: all interfaces */
    uint32_t snap_len; /* 0: all */
    uint16_t link_type;
    uint8_t cooked; /* no link layer header comes: one is made */
    uint8_t vnet;   /* a struct virtio_net_hdr lies before each frame */
    char name[IF_NAMESIZE];
    uint64_t missed_before; /* rx_missed of the interface at opening */

    _Alignas(64) _Atomic uint64_t taken; /* slots read since the beginning */
    _Atomic uint64_t frames;
    _Atomic uint64_t bytes;
    _Atomic uint64_t cut;
    _Atomic uint64_t recovered;
    _Atomic uint64_t readers;
    _Atomic uint64_t link_losses;
    _Atomic uint32_t link_up;
    _Atomic uint32_t reader;               /* process id, 0: none */
    _Alignas(64) _Atomic uint64_t dropped; /* reading the kernel's count clears it */
    /* What was lost before the present reader, as told by aio_packet_socket_settle(). */
    _Atomic uint64_t settled_dropped, settled_missed, settled_cut;
};

/* The only writer of a count adds to it. */
static inline void aio_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* The copy of a frame that did not fit its slot and whose slot did not come yet. */
struct aio_packet_early {
    uint8_t *data; /* NULL: none; from where the frame begins, less what precedes it */
    uint32_t len;
    uint64_t since; /* slots read when it came */
};

struct aio_packet_lease;
struct aio_packet_sender;

struct aio_packet {
    struct aio_base base;
    struct aio_packet_state *state;
    uint8_t *ring;
    size_t ring_len;
    uint32_t slot_size, n_slots;
    uint32_t next;     /* slot to look at */
    uint32_t prefix;   /* bytes that the socket gives before a frame: virtio-net header */
    uint32_t cooked;   /* bytes of the header that is made here, 0 or AIO_SLL2_LEN */
    uint32_t snap_len; /* UINT32_MAX: all */
    struct aio_packet_lease *idle;
    uint8_t *spill; /* for what is longer than expected */
    struct aio_packet_early early;
    struct aio_packet_sender *sender; /* NULL until something is sent */
    uint64_t dropped_before;          /* state->dropped when attached */
    uint64_t cut_before;
    uint64_t missed_before;
    int fd, state_fd;
    int epoll_fd; /* socket and link watch: never says error, as sockets of a lost link do */
    int watch_fd;
    int ask_fd;   /* for questions about the interface */
    uint32_t mtu; /* for sending */
    bool gone;    /* the interface was deleted */
    bool claimed; /* state names this reader */
};

extern const struct aio_source_ops aio_packet_ops;

static inline struct tpacket2_hdr *aio_slot_at(const struct aio_packet *p, uint32_t index)
{
    return (struct tpacket2_hdr *)(p->ring + (size_t)index * p->slot_size);
}

static inline uint32_t aio_slot_status(const struct tpacket2_hdr *slot)
{
    return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

static inline void aio_slot_give_back(struct tpacket2_hdr *slot)
{
    __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

/* packet_copy.c: the frame of a slot that could not hold all of it. True with *frame
 * pointing to it, false when it is lost. */
bool aio_packet_copy(struct aio_packet *p, const struct tpacket2_hdr *slot,
                     struct aio_frame *frame);
#define AIO_COPY_ROOM 32u /* bytes before a copied frame, for prefix and made header */

/* source_af_packet.c: all but the two descriptors. */
void aio_packet_free(struct aio_packet *p);
/* After an error of the socket. */
void aio_packet_link_check(struct aio_packet *p);
/* The made header, into the AIO_SLL2_LEN bytes before data. */
void aio_packet_cook(const struct tpacket2_hdr *slot, uint8_t *data);

/* packet_state.c */
struct aio_packet_state *aio_packet_state_map(int state_fd);
void aio_packet_state_unmap(struct aio_packet_state *state);
void aio_packet_read_drops(int fd, struct aio_packet_state *state);
void aio_packet_state_stats(int fd, struct aio_packet_state *state, int questions,
                            struct aio_packet_stats *out);

/* packet_send.c */
int aio_packet_transmit(struct aio_source *src, uint16_t port,
                        const struct aio_frame *frames, unsigned n);

/* packet_filter.c: programs of classic BPF. */
#define AIO_PROGRAM_MAX 256
struct aio_program {
    struct sock_filter code[AIO_PROGRAM_MAX];
    uint16_t len;
};
/* Which frames a socket sees, and how much of each. */
void aio_filter_program(struct aio_program *out, uint8_t direction, uint32_t snap_len);
void aio_filter_nothing(struct aio_program *out);
/* Which of n sockets a frame goes to: see aio_packet_sockets(). */
void aio_fanout_program(struct aio_program *out, unsigned n);

#endif
