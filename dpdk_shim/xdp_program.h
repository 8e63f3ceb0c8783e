/* xdp_program.h -- the XDP program that sends an interface's frames to AF_XDP sockets. */
#ifndef AIO_XDP_PROGRAM_H
#define AIO_XDP_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

struct aio_xdp_program;

#define AIO_XDP_QUEUES 256u

/* The program of an interface, loaded and attached by the first who asks for it in this
 * process. 0 or an errno; EBUSY when somebody else's program is there. */
int aio_xdp_program_get(struct aio_xdp_program **out, uint32_t if_index, bool generic);
/* Attached by the kernel's own XDP, not by the driver's. */
bool aio_xdp_program_is_generic(const struct aio_xdp_program *program);
/* Frames of a queue go to a socket from now on. 0 or an errno. */
int aio_xdp_program_add(struct aio_xdp_program *program, uint32_t queue, int fd);
/* Detached when the last one goes, or when the process does. */
void aio_xdp_program_put(struct aio_xdp_program *program);

#endif
