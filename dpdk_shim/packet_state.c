/* packet_state.c -- the page that a packet socket's readers leave to each other. */
#include "packet.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct aio_packet_state *aio_packet_state_map(int state_fd)
{
    struct aio_packet_state *state =
        mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);

    return state == MAP_FAILED ? NULL : state;
}

void aio_packet_state_unmap(struct aio_packet_state *state)
{
    if (state)
        munmap(state, sizeof *state);
}

void aio_packet_read_drops(int fd, struct aio_packet_state *state)
{
    struct tpacket_stats stats;
    socklen_t len = sizeof stats;

    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0)
        atomic_fetch_add_explicit(&state->dropped, stats.tp_drops, memory_order_relaxed);
}

static uint64_t load(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void aio_packet_state_stats(int fd, struct aio_packet_state *state, int questions,
                            struct aio_packet_stats *out)
{
    aio_packet_read_drops(fd, state);
    *out = (struct aio_packet_stats){
        .frames = load(&state->frames),
        .bytes = load(&state->bytes),
        .dropped_kernel = load(&state->dropped),
        .cut = load(&state->cut),
        .recovered = load(&state->recovered),
        .readers = load(&state->readers),
        .link_losses = load(&state->link_losses),
        .link_up = atomic_load_explicit(&state->link_up, memory_order_relaxed),
        .reader = atomic_load_explicit(&state->reader, memory_order_relaxed),
    };
    if (state->if_index && state->index == 0) {
        uint64_t missed = aio_netdev_missed(questions, state->if_index);

        out->dropped_nic =
            missed > state->missed_before ? missed - state->missed_before : 0;
    }
}

/* A reader that was killed could not say that it is none any more; its lock is gone. Who
 * asks about itself finds no lock but its own, which is none in its way. */
static uint32_t living_reader(int state_fd, uint32_t reader)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (reader == (uint32_t)getpid() || fcntl(state_fd, F_GETLK, &lock) < 0)
        return reader;
    return lock.l_type == F_UNLCK ? 0 : reader;
}

static uint64_t newly(_Atomic uint64_t *settled, uint64_t now)
{
    uint64_t before = atomic_exchange(settled, now);

    return now > before ? now - before : 0;
}

/* Takes out of *stats what was settled before, and settles the rest. */
static void settle(struct aio_packet_state *state, struct aio_packet_stats *stats)
{
    stats->dropped_kernel = newly(&state->settled_dropped, stats->dropped_kernel);
    stats->cut = newly(&state->settled_cut, stats->cut);
    if (state->if_index && state->index == 0)
        stats->dropped_nic = newly(&state->settled_missed, stats->dropped_nic);
}

static int look(int fd, int state_fd, bool settling, struct aio_packet_stats *out)
{
    struct aio_packet_state *state = aio_packet_state_map(state_fd);
    int questions;

    if (!state)
        return AIO_EIO;
    if (state->magic != AIO_PACKET_STATE_MAGIC) {
        aio_packet_state_unmap(state);
        errno = EINVAL;
        return AIO_EINVAL;
    }
    questions = aio_netdev_questions();
    aio_packet_state_stats(fd, state, questions, out);
    out->reader = living_reader(state_fd, out->reader);
    if (settling)
        settle(state, out);
    if (questions >= 0)
        close(questions);
    aio_packet_state_unmap(state);
    return AIO_OK;
}

int aio_packet_socket_stats(int fd, int state_fd, struct aio_packet_stats *out)
{
    return look(fd, state_fd, false, out);
}

int aio_packet_socket_settle(int fd, int state_fd, struct aio_packet_stats *out)
{
    return look(fd, state_fd, true, out);
}

void aio_packet_source_settled(struct aio_source *src)
{
    struct aio_packet *p = (struct aio_packet *)src;

    p->dropped_before = load(&p->state->settled_dropped);
    p->missed_before = load(&p->state->settled_missed);
    p->cut_before = load(&p->state->settled_cut);
}
