/* xdp_program.c -- five instructions, loaded with bpf(2): no library is needed for that. */
#include "xdp_program.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct aio_xdp_program {
    struct aio_xdp_program *next;
    uint32_t if_index;
    ino_t space; /* network namespace: numbers of interfaces are its own */
    unsigned users;
    bool generic;
    int map, program, link;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct aio_xdp_program *programs;

static int bpf(int command, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

static int make_map(void)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.map_type = BPF_MAP_TYPE_XSKMAP;
    attr.key_size = attr.value_size = 4;
    attr.max_entries = AIO_XDP_QUEUES;
    return bpf(BPF_MAP_CREATE, &attr);
}

#define INSN(op, dst, src, offset, value)                                                  \
    (struct bpf_insn)                                                                      \
    {                                                                                      \
        .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (value)  \
    }

/* return redirect_map(map, context->rx_queue_index, XDP_PASS): to the queue's socket, and
 * to the kernel where a queue has none. */
static int load_program(int map)
{
    struct bpf_insn code[] = {
        INSN(BPF_LDX | BPF_W | BPF_MEM, 2, 1, offsetof(struct xdp_md, rx_queue_index), 0),
        INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map),
        INSN(0, 0, 0, 0, 0), /* upper half of the constant */
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_PASS),
        INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map),
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.expected_attach_type = BPF_XDP;
    attr.insns = (uintptr_t)code;
    attr.insn_cnt = sizeof code / sizeof code[0];
    attr.license = (uintptr_t)"Dual BSD/GPL";
    memcpy(attr.prog_name, "aiomos_take", sizeof "aiomos_take");
    return bpf(BPF_PROG_LOAD, &attr);
}

static int attach(int program, uint32_t if_index, uint32_t flags)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = (uint32_t)program;
    attr.link_create.target_ifindex = if_index;
    attr.link_create.attach_type = BPF_XDP;
    attr.link_create.flags = flags;
    return bpf(BPF_LINK_CREATE, &attr);
}

static int open_all(struct aio_xdp_program *p, bool generic)
{
    p->map = p->program = p->link = -1;
    if ((p->map = make_map()) < 0 || (p->program = load_program(p->map)) < 0)
        return errno;
    p->link = generic ? -1 : attach(p->program, p->if_index, XDP_FLAGS_DRV_MODE);
    if (p->link < 0 && (generic || errno != EBUSY)) {
        p->generic = true;
        p->link = attach(p->program, p->if_index, XDP_FLAGS_SKB_MODE);
    }
    return p->link < 0 ? errno : 0;
}

static void close_all(struct aio_xdp_program *p)
{
    int fds[] = {p->link, p->program, p->map};

    for (unsigned i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(p);
}

static ino_t this_space(void)
{
    struct stat about;

    return stat("/proc/thread-self/ns/net", &about) == 0 ? about.st_ino : 0;
}

static int get_locked(struct aio_xdp_program **out, uint32_t if_index, bool generic)
{
    struct aio_xdp_program *p;
    int error;

    for (p = programs; p; p = p->next) {
        if (p->if_index == if_index && p->space == this_space()) {
            p->users++;
            *out = p;
            return 0;
        }
    }
    p = calloc(1, sizeof *p);
    if (!p)
        return ENOMEM;
    p->if_index = if_index;
    p->space = this_space();
    p->users = 1;
    error = open_all(p, generic);
    if (error) {
        close_all(p);
        return error;
    }
    p->next = programs;
    *out = programs = p;
    return 0;
}

int aio_xdp_program_get(struct aio_xdp_program **out, uint32_t if_index, bool generic)
{
    int error;

    pthread_mutex_lock(&lock);
    error = get_locked(out, if_index, generic);
    pthread_mutex_unlock(&lock);
    return error;
}

bool aio_xdp_program_is_generic(const struct aio_xdp_program *program)
{
    return program->generic;
}

int aio_xdp_program_add(struct aio_xdp_program *program, uint32_t queue, int fd)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.map_fd = (uint32_t)program->map;
    attr.key = (uintptr_t)&queue;
    attr.value = (uintptr_t)&fd;
    return bpf(BPF_MAP_UPDATE_ELEM, &attr) < 0 ? errno : 0;
}

void aio_xdp_program_put(struct aio_xdp_program *program)
{
    struct aio_xdp_program **at;

    pthread_mutex_lock(&lock);
    if (--program->users == 0) {
        for (at = &programs; *at != program;)
            at = &(*at)->next;
        *at = program->next;
        close_all(program);
    }
    pthread_mutex_unlock(&lock);
}
