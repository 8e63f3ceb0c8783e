/* dpdk_mbuf.c -- from mbufs to frames, and back. */
#include "dpdk_private.h"

#include <rte_ether.h>

#include <string.h>

/* ---- mbuf to frame ------------------------------------------------------------------------- */

static struct aio_mbuf_room *room_of(struct rte_mbuf *mbuf)
{
    return rte_mbuf_to_priv(mbuf);
}

static uint8_t checksum_of(uint64_t flags, uint64_t good, uint64_t bad, uint64_t mask)
{
    flags &= mask;
    if (flags == 0)
        return AIO_CSUM_UNKNOWN;
    if (flags == good)
        return AIO_CSUM_GOOD;
    /* The mask itself, NONE: whole, but the field is not final (it came from this host). */
    return flags == bad ? AIO_CSUM_BAD : AIO_CSUM_NOT_FILLED;
}

static void take_vlan(const struct rte_mbuf *mbuf, struct aio_frame *out)
{
    if (mbuf->ol_flags & RTE_MBUF_F_RX_QINQ_STRIPPED)
        out->vlan[out->n_vlan++] = mbuf->vlan_tci_outer;
    if (mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
        out->vlan[out->n_vlan++] = mbuf->vlan_tci;
}

/* Links the mbufs behind the first as segments, of which the first skip bytes lie in the
 * head already. */
static const struct aio_seg *link_segments(struct rte_mbuf *mbuf, uint32_t skip)
{
    const struct aio_seg *first = NULL, **link = &first;

    for (; mbuf; mbuf = mbuf->next) {
        struct aio_seg *seg = &room_of(mbuf)->seg;
        uint32_t taken = skip < mbuf->data_len ? skip : mbuf->data_len;

        skip -= taken;
        seg->data = rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, taken);
        seg->len = mbuf->data_len - taken;
        seg->next = NULL;
        *link = seg;
        link = &seg->next;
    }
    return first;
}

static bool has_room(const struct rte_mbuf *mbuf)
{
    for (; mbuf; mbuf = mbuf->next)
        if (mbuf->priv_size < sizeof(struct aio_mbuf_room))
            return false;
    return true;
}

/* A chain: the head is the first mbuf where that is long enough, else a copy of the
 * frame's beginning in the first mbuf's private area. */
static bool chain_to_frame(struct rte_mbuf *mbuf, struct aio_frame *out)
{
    uint32_t need = RTE_MIN(mbuf->pkt_len, (uint32_t)AIO_HEAD_MIN);

    if (!has_room(mbuf))
        return false;
    if (mbuf->data_len >= need) {
        out->next = link_segments(mbuf->next, 0);
        return true;
    }
    rte_pktmbuf_read(mbuf, 0, need, room_of(mbuf)->head); /* copies: it is in pieces */
    out->data = room_of(mbuf)->head;
    out->head_len = need;
    out->next = link_segments(mbuf, need);
    return true;
}

bool aio_mbuf_to_frame(struct rte_mbuf *mbuf, struct aio_frame *out)
{
    uint64_t flags = mbuf->ol_flags;

    *out = (struct aio_frame){
        .data = rte_pktmbuf_mtod(mbuf, const uint8_t *),
        .owner = mbuf,
        .head_len = mbuf->data_len,
        .cap_len = mbuf->pkt_len,
        .wire_len = mbuf->pkt_len,
        .link_type = 1, /* Ethernet */
        .direction = AIO_DIR_IN,
    };
    if (flags) {
        if (flags & RTE_MBUF_F_RX_RSS_HASH)
            out->hash = mbuf->hash.rss;
        out->csum_ip = checksum_of(flags, RTE_MBUF_F_RX_IP_CKSUM_GOOD,
                                   RTE_MBUF_F_RX_IP_CKSUM_BAD, RTE_MBUF_F_RX_IP_CKSUM_MASK);
        out->csum_l4 = checksum_of(flags, RTE_MBUF_F_RX_L4_CKSUM_GOOD,
                                   RTE_MBUF_F_RX_L4_CKSUM_BAD, RTE_MBUF_F_RX_L4_CKSUM_MASK);
        take_vlan(mbuf, out);
    }
    return mbuf->nb_segs == 1 || chain_to_frame(mbuf, out);
}

/* ---- frame to mbuf ------------------------------------------------------------------------- */

static bool lies_in_pool(const void *pointer, const struct rte_mempool *pool)
{
    const struct rte_mempool_memhdr *chunk;

    STAILQ_FOREACH(chunk, &pool->mem_list, next)
    {
        if ((const char *)pointer >= (const char *)chunk->addr &&
            (const char *)pointer < (const char *)chunk->addr + chunk->len)
            return true;
    }
    return false;
}

/* May the frame's mbuf be sent itself? Its owner may be anything, so first it has to lie
 * in one of the pools; then the frame must still be what the mbuf says. */
static bool is_own_mbuf(const struct aio_frame *frame, struct rte_mempool *const *pools,
                        unsigned n)
{
    const struct rte_mbuf *mbuf = frame->owner;

    for (unsigned i = 0; i < n; i++)
        if (lies_in_pool(mbuf, pools[i]))
            return frame->n_vlan == 0 && frame->cap_len == mbuf->pkt_len &&
                   frame->head_len == mbuf->data_len &&
                   frame->data == rte_pktmbuf_mtod(mbuf, const uint8_t *);
    return false;
}

/* Room at the end of the chain for up to len bytes; *room is set to how many. */
static uint8_t *chain_extend(struct rte_mbuf *head, struct rte_mbuf **last, uint32_t len,
                             uint32_t *room)
{
    uint32_t spare = rte_pktmbuf_tailroom(*last);

    if (spare == 0) {
        struct rte_mbuf *more = rte_pktmbuf_alloc(head->pool);

        if (!more)
            return NULL;
        (*last)->next = more;
        *last = more;
        head->nb_segs++;
        spare = rte_pktmbuf_tailroom(more);
    }
    *room = RTE_MIN(spare, len);
    (*last)->data_len = (uint16_t)((*last)->data_len + *room);
    head->pkt_len += *room;
    return rte_pktmbuf_mtod_offset(*last, uint8_t *, (*last)->data_len - *room);
}

static bool copy_from(struct rte_mbuf *mbuf, const struct aio_frame *frame)
{
    struct rte_mbuf *last = mbuf;
    uint32_t done = 0;

    while (done < frame->cap_len) {
        uint32_t n;
        uint8_t *place = chain_extend(mbuf, &last, frame->cap_len - done, &n);

        if (!place)
            return false;
        aio_frame_copy(frame, done, n, place);
        done += n;
    }
    return true;
}

/* Behind the addresses, the innermost tag first, so that the outermost comes to stand
 * first. The type of an outer tag is not known any more: 802.1Q, as switches send it. */
static bool put_back_vlan(struct rte_mbuf *mbuf, const struct aio_frame *frame)
{
    for (int i = frame->n_vlan - 1; i >= 0; i--) {
        uint16_t tag[2] = {rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN),
                           rte_cpu_to_be_16(frame->vlan[i])};
        char *start;

        if (mbuf->data_len < 2 * RTE_ETHER_ADDR_LEN)
            return true;
        start = rte_pktmbuf_prepend(mbuf, sizeof tag);
        if (!start)
            return false;
        memmove(start, start + sizeof tag, (size_t)2 * RTE_ETHER_ADDR_LEN);
        memcpy(start + (size_t)2 * RTE_ETHER_ADDR_LEN, tag, sizeof tag);
    }
    return true;
}

static struct rte_mbuf *copy_of_frame(const struct aio_frame *frame,
                                      struct rte_mempool *pool)
{
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

    if (mbuf && !(copy_from(mbuf, frame) && put_back_vlan(mbuf, frame))) {
        rte_pktmbuf_free(mbuf);
        return NULL;
    }
    return mbuf;
}

struct rte_mbuf *aio_mbuf_of_frame(const struct aio_frame *frame,
                                   struct rte_mempool *const *pools, unsigned n,
                                   struct rte_mempool *copies)
{
    if (!is_own_mbuf(frame, pools, n))
        return copy_of_frame(frame, copies);
    for (struct rte_mbuf *piece = frame->owner; piece; piece = piece->next)
        rte_mbuf_refcnt_update(piece, 1);
    return frame->owner;
}
