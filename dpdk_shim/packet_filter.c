/* packet_filter.c -- programs that the kernel runs for packet sockets, in classic BPF.
 *
 * Jumps name labels; there are only forward ones, which is all that the kernel
 * takes.
 */
#include "packet.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#define MAX_JUMPS 32

/* Where an instruction jumps to when its test holds; otherwise it falls through. */
struct jump {
    uint16_t at;
    uint8_t label;
};

struct assembler {
    struct aio_program *out;
    struct jump jumps[MAX_JUMPS];
    unsigned n_jumps;
};

static void emit(struct assembler *a, uint16_t code, uint32_t k)
{
    a->out->code[a->out->len++] = (struct sock_filter)BPF_STMT(code, k);
}

static void jump_if(struct assembler *a, uint16_t test, uint32_t k, uint8_t label)
{
    a->jumps[a->n_jumps++] = (struct jump){.at = a->out->len, .label = label};
    emit(a, BPF_JMP | test | BPF_K, k);
}

static void jump(struct assembler *a, uint8_t label)
{
    jump_if(a, BPF_JA, 0, label);
}

/* Every jump to it, all of them before here, learns how far it is. */
static void label(struct assembler *a, uint8_t label)
{
    for (unsigned i = 0; i < a->n_jumps; i++) {
        struct sock_filter *from = &a->out->code[a->jumps[i].at];
        unsigned distance = a->out->len - a->jumps[i].at - 1u;

        if (a->jumps[i].label != label)
            continue;
        if (BPF_OP(from->code) == BPF_JA)
            from->k = distance;
        else
            from->jt = (uint8_t)distance;
    }
}

static void load_ancillary(struct assembler *a, int what)
{
    emit(a, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + what));
}

/* ---- which frames ------------------------------------------------------------------- */

enum { SENT = 1, SEEN, UNSEEN };

void aio_filter_nothing(struct aio_program *out)
{
    out->len = 1;
    out->code[0] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
}

/* A frame on the loopback comes twice, going out and coming in: the second one counts. */
void aio_filter_program(struct aio_program *out, uint8_t direction, uint32_t snap_len)
{
    struct assembler a = {.out = out};

    out->len = 0;
    load_ancillary(&a, SKF_AD_PKTTYPE);
    if (direction == AIO_DIR_IN)
        jump_if(&a, BPF_JEQ, PACKET_OUTGOING, UNSEEN);
    jump_if(&a, BPF_JEQ, PACKET_OUTGOING, SENT);
    jump(&a, direction == AIO_DIR_OUT ? UNSEEN : SEEN);
    label(&a, SENT);
    load_ancillary(&a, SKF_AD_HATYPE);
    jump_if(&a, BPF_JEQ, ARPHRD_LOOPBACK, UNSEEN);
    label(&a, SEEN);
    emit(&a, BPF_RET | BPF_K, snap_len ? snap_len : UINT32_MAX);
    label(&a, UNSEEN);
    emit(&a, BPF_RET | BPF_K, 0);
}

/* ---- whose frame -------------------------------------------------------------------- */

/* Scratch memory of the program. */
enum { BASE, SUM, TEMP };

enum {
    OUTGOING = 1,
    ETHERNET,
    TYPE,
    TAGGED,
    TAGGED_TWICE,
    UNTAGGED,
    IPV4,
    IPV6,
    PORTS_4,
    PORTS_6,
    PORTS,
    FOLD
};

#define INDIRECT(size) (BPF_LD | (size) | BPF_IND)

/* A ^= M[SUM], kept there. */
static void add_to_sum(struct assembler *a)
{
    emit(a, BPF_LDX | BPF_MEM, SUM);
    emit(a, BPF_ALU | BPF_XOR | BPF_X, 0);
    emit(a, BPF_ST, SUM);
}

static void emit_skip_tag(struct assembler *a, uint8_t here)
{
    jump_if(a, BPF_JEQ, ETH_P_8021Q, here);
    jump_if(a, BPF_JEQ, ETH_P_8021AD, here);
    jump(a, UNTAGGED);
    label(a, here);
    emit(a, INDIRECT(BPF_H), 2);
    emit(a, BPF_ST, TEMP);
    emit(a, BPF_MISC | BPF_TXA, 0);
    emit(a, BPF_ALU | BPF_ADD | BPF_K, 4);
    emit(a, BPF_MISC | BPF_TAX, 0);
    emit(a, BPF_LD | BPF_MEM, TEMP);
}

/* To EtherType in A and the offset of what it names in X, two tags skipped. The frame
 * begins with its network header if it came in, else with its link layer header. */
static void emit_find_network(struct assembler *a)
{
    load_ancillary(a, SKF_AD_PKTTYPE);
    jump_if(a, BPF_JEQ, PACKET_OUTGOING, OUTGOING);
    emit(a, BPF_LDX | BPF_IMM, 0);
    load_ancillary(a, SKF_AD_PROTOCOL);
    jump(a, TYPE);
    label(a, OUTGOING);
    load_ancillary(a, SKF_AD_HATYPE);
    jump_if(a, BPF_JEQ, ARPHRD_ETHER, ETHERNET);
    jump_if(a, BPF_JEQ, ARPHRD_LOOPBACK, ETHERNET);
    emit(a, BPF_LDX | BPF_IMM, 0);
    load_ancillary(a, SKF_AD_PROTOCOL);
    jump(a, TYPE);
    label(a, ETHERNET);
    emit(a, BPF_LDX | BPF_IMM, ETH_HLEN);
    emit(a, BPF_LD | BPF_H | BPF_ABS, 12);
    label(a, TYPE);
    emit_skip_tag(a, TAGGED);
    emit_skip_tag(a, TAGGED_TWICE);
    label(a, UNTAGGED);
    emit(a, BPF_STX, BASE);
}

static void jump_if_ports(struct assembler *a, uint8_t to)
{
    jump_if(a, BPF_JEQ, IPPROTO_TCP, to);
    jump_if(a, BPF_JEQ, IPPROTO_UDP, to);
    jump(a, FOLD);
}

static void emit_ipv4(struct assembler *a)
{
    label(a, IPV4);
    emit(a, INDIRECT(BPF_W), 12);
    emit(a, BPF_ST, SUM);
    emit(a, INDIRECT(BPF_W), 16);
    add_to_sum(a);
    emit(a, BPF_LDX | BPF_MEM, BASE);
    emit(a, INDIRECT(BPF_H), 6);
    jump_if(a, BPF_JSET, 0x3fff, FOLD); /* more fragments, or an offset */
    emit(a, INDIRECT(BPF_B), 9);
    jump_if_ports(a, PORTS_4);
    label(a, PORTS_4);
    emit(a, INDIRECT(BPF_B), 0);
    emit(a, BPF_ALU | BPF_AND | BPF_K, 0xf);
    emit(a, BPF_ALU | BPF_LSH | BPF_K, 2);
    emit(a, BPF_ALU | BPF_ADD | BPF_X, 0);
    emit(a, BPF_MISC | BPF_TAX, 0);
    emit(a, INDIRECT(BPF_W), 0);
    jump(a, PORTS);
}

static void emit_ipv6(struct assembler *a)
{
    label(a, IPV6);
    emit(a, INDIRECT(BPF_W), 8);
    emit(a, BPF_ST, SUM);
    for (uint32_t offset = 12; offset < 40; offset += 4) {
        emit(a, BPF_LDX | BPF_MEM, BASE);
        emit(a, INDIRECT(BPF_W), offset);
        add_to_sum(a);
    }
    emit(a, BPF_LDX | BPF_MEM, BASE);
    emit(a, INDIRECT(BPF_B), 6);
    jump_if_ports(a, PORTS_6);
    label(a, PORTS_6);
    emit(a, INDIRECT(BPF_W), 40);
    label(a, PORTS);
    add_to_sum(a);
}

/* A = the bits of X in groups of n, neighbours swapped. */
static void swap_groups(struct assembler *a, uint32_t n, uint32_t mask)
{
    emit(a, BPF_MISC | BPF_TXA, 0);
    emit(a, BPF_ALU | BPF_AND | BPF_K, mask);
    emit(a, BPF_ALU | BPF_LSH | BPF_K, n);
    emit(a, BPF_ST, TEMP);
    emit(a, BPF_MISC | BPF_TXA, 0);
    emit(a, BPF_ALU | BPF_RSH | BPF_K, n);
    emit(a, BPF_ALU | BPF_AND | BPF_K, mask);
    emit(a, BPF_LDX | BPF_MEM, TEMP);
    emit(a, BPF_ALU | BPF_OR | BPF_X, 0);
    emit(a, BPF_MISC | BPF_TAX, 0);
}

/* The Toeplitz hash under a key that repeats 0x6d5a is linear in the XOR x of all 16-bit
 * words: bit i of x, from the most significant one, adds the key turned left by i. Turned
 * round, each bit b of the key adds the reversed x turned left by b, and of a reversed x
 * written twice into 32 bits that is a shift to the right by 16 - b. Nine bits are set;
 * the sum of the shifts goes from one to the next as a polynomial does. */
static void emit_hash(struct assembler *a)
{
    static const uint8_t steps[] = {2, 1, 2, 2, 2, 1, 2, 1}; /* from 15 = 16 - 1 to 2 */

    label(a, FOLD);
    emit(a, BPF_LD | BPF_MEM, SUM);
    emit(a, BPF_ALU | BPF_RSH | BPF_K, 16);
    emit(a, BPF_LDX | BPF_MEM, SUM);
    emit(a, BPF_ALU | BPF_XOR | BPF_X, 0);
    emit(a, BPF_ALU | BPF_AND | BPF_K, 0xffff);
    emit(a, BPF_MISC | BPF_TAX, 0);
    swap_groups(a, 1, 0x5555);
    swap_groups(a, 2, 0x3333);
    swap_groups(a, 4, 0x0f0f);
    swap_groups(a, 8, 0x00ff);
    emit(a, BPF_ALU | BPF_LSH | BPF_K, 16);
    emit(a, BPF_ALU | BPF_OR | BPF_X, 0);
    emit(a, BPF_MISC | BPF_TAX, 0);
    for (unsigned i = 0; i < sizeof steps; i++) {
        emit(a, BPF_ALU | BPF_RSH | BPF_K, steps[i]);
        emit(a, BPF_ALU | BPF_XOR | BPF_X, 0);
    }
}

void aio_fanout_program(struct aio_program *out, unsigned n)
{
    struct assembler a = {.out = out};

    out->len = 0;
    emit_find_network(&a);
    jump_if(&a, BPF_JEQ, ETH_P_IP, IPV4);
    jump_if(&a, BPF_JEQ, ETH_P_IPV6, IPV6);
    emit(&a, BPF_RET | BPF_K, 0);
    emit_ipv4(&a);
    emit_ipv6(&a);
    emit_hash(&a);
    emit(&a, BPF_ALU | BPF_RSH | BPF_K, 2);
    emit(&a, BPF_ALU | BPF_AND | BPF_K, 127);
    emit(&a, BPF_ALU | BPF_MOD | BPF_K, n);
    emit(&a, BPF_RET | BPF_A, 0);
}
