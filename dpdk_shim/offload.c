/* offload.c -- finding the checksum of a frame and where it is to be cut. */
#include "offload.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* Where things begin, in bytes from the beginning of the frame. */
struct layers {
    uint32_t network, transport;
    uint8_t protocol;
    bool ipv6;
};

static uint32_t be16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static bool find_ipv4(const uint8_t *head, uint32_t len, struct layers *l)
{
    const uint8_t *ip = head + l->network;
    uint32_t header;

    if (l->network + 20 > len || be16(ip + 6) & 0x3fff)
        return false;
    header = (ip[0] & 15u) * 4;
    l->protocol = ip[9];
    l->transport = l->network + header;
    return header >= 20;
}

static bool find_ipv6(const uint8_t *head, uint32_t len, struct layers *l)
{
    uint32_t at = l->network + 40;

    if (at > len)
        return false;
    l->ipv6 = true;
    l->protocol = head[l->network + 6];
    while (l->protocol == IPPROTO_HOPOPTS || l->protocol == IPPROTO_ROUTING ||
           l->protocol == IPPROTO_DSTOPTS) {
        if (at + 8 > len)
            return false;
        l->protocol = head[at];
        at += 8 + 8u * head[at + 1];
    }
    l->transport = at;
    return true;
}

static bool find_layers(const uint8_t *head, uint32_t len, struct layers *l)
{
    uint32_t at = ETH_HLEN - 2;

    memset(l, 0, sizeof *l);
    while (at + 6 <= len &&
           (be16(head + at) == ETH_P_8021Q || be16(head + at) == ETH_P_8021AD))
        at += 4;
    if (at + 2 > len)
        return false;
    l->network = at + 2;
    if (be16(head + at) == ETH_P_IP)
        return find_ipv4(head, len, l);
    return be16(head + at) == ETH_P_IPV6 && find_ipv6(head, len, l);
}

/* The sum of addresses, protocol and length, as it stands in an unfilled checksum. */
static uint16_t pseudo_sum(const uint8_t *head, const struct layers *l, uint32_t length)
{
    const uint8_t *at = head + l->network + (l->ipv6 ? 8 : 12);
    const uint8_t *end = at + (l->ipv6 ? 32 : 8);
    uint32_t sum = l->protocol + (length >> 16) + (length & 0xffff);

    for (; at < end; at += 2)
        sum += be16(at);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)(sum + (sum >> 16));
}

/* Bytes of the transport header, 0 when it is none or does not lie within head. */
static uint32_t transport_header(const uint8_t *head, uint32_t len, const struct layers *l)
{
    uint32_t n = 0;

    if (l->protocol == IPPROTO_UDP && l->transport + 8 <= len)
        n = 8;
    else if (l->protocol == IPPROTO_TCP && l->transport + 20 <= len)
        n = (head[l->transport + 12] >> 4) * 4u;
    return l->transport + n <= len ? n : 0;
}

static uint8_t segment_type(const struct layers *l)
{
    if (l->protocol == IPPROTO_UDP)
        return VIRTIO_NET_HDR_GSO_UDP_L4;
    return l->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
}

bool aio_offload_describe(uint8_t *head, uint32_t head_len, uint32_t frame_len,
                          uint32_t mtu, uint16_t segment, struct virtio_net_hdr *out)
{
    struct layers l;
    uint32_t header, most;
    uint16_t sum;

    memset(out, 0, sizeof *out);
    if (!find_layers(head, head_len, &l))
        return false;
    header = transport_header(head, head_len, &l);
    if (header == 0)
        return false;
    out->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    out->csum_start = (uint16_t)l.transport;
    out->csum_offset = l.protocol == IPPROTO_TCP ? 16 : 6;
    sum = pseudo_sum(head, &l, frame_len - l.transport);
    head[l.transport + out->csum_offset] = (uint8_t)(sum >> 8);
    head[l.transport + out->csum_offset + 1] = (uint8_t)sum;
    if (frame_len - l.network <= mtu)
        return true;
    most = mtu - (l.transport - l.network) - header;
    if (l.protocol == IPPROTO_UDP && segment == 0)
        return false; /* where one datagram ends and the next begins, nobody knows */
    out->gso_type = segment_type(&l);
    out->gso_size = segment && segment < most ? segment : (uint16_t)most;
    out->hdr_len = (uint16_t)(l.transport + header);
    return true;
}

void aio_offload_fill(uint8_t *frame, uint32_t len)
{
    uint32_t head = len < AIO_OFFLOAD_HEAD ? len : AIO_OFFLOAD_HEAD;
    struct virtio_net_hdr wanted;
    uint64_t sum = 0;
    uint8_t *field;

    if (!aio_offload_describe(frame, head, len, UINT32_MAX, 0, &wanted))
        return;
    for (uint32_t at = wanted.csum_start; at < len; at += 2)
        sum += at + 1 < len ? be16(frame + at) : (uint32_t)frame[at] << 8;
    while (sum >> 16)
        sum = (sum >> 16) + (sum & 0xffff);
    field = frame + wanted.csum_start + wanted.csum_offset;
    sum = ~sum & 0xffff;
    if (sum == 0 && wanted.csum_offset == 6)
        sum = 0xffff; /* a datagram's zero would mean that it has none */
    field[0] = (uint8_t)(sum >> 8);
    field[1] = (uint8_t)sum;
}
