/* dpdk.h -- DPDK behind shim.h: environment, ports, sources of their queues.
 *
 * The second header of the shim, for the one module that links DPDK. Not one name of
 * DPDK is in it, so that nobody else needs its headers or its compiler flags.
 *
 * Who may do what: the environment is set up once a process, by the thread that will
 * own the ports. A source belongs to one thread, and so does the mempool of its queue;
 * no lock is taken anywhere. Functions return AIO_OK or a negative enum aio_result, and
 * then message (AIO_DPDK_MESSAGE bytes) says in one line what is wrong and what helps;
 * AIO_EINVAL is the caller's mistake, all else the environment's.
 */
#ifndef AIO_DPDK_H
#define AIO_DPDK_H

#include "shim.h"

#define AIO_DPDK_MESSAGE 512
#define AIO_DPDK_NAME 64
#define AIO_DPDK_PORTS_MAX 16 /* queues that one source can read from */

/* ---- environment (dpdk_eal.c) ------------------------------------------------------ */

struct aio_dpdk_config {
    const char *const *devices; /* PCI addresses to open, with devargs; virtual: later */
    unsigned n_devices;
    const char *file_prefix; /* names this primary and its secondaries; unique */
    const char *huge_dir;    /* mount point of hugetlbfs; "" = any that is mounted */
    const char *driver_path; /* folder or file of drivers; "" = the distribution's */
    const char *log_level;   /* as EAL's --log-level: "warning", "debug", "pmd.*:8" */
    uint32_t memory_mib;     /* 0: as needed, with huge pages */
    uint16_t lcore;          /* different in each process that shares memory */
    uint8_t huge;            /* huge pages */
    uint8_t shared;          /* secondaries may attach; needs huge pages */
    uint8_t secondary;       /* attach to the primary of this file prefix */
    uint8_t telemetry;       /* EAL's telemetry socket and thread */
};

const char *aio_dpdk_version(void);       /* of the library that was loaded */
const char *aio_dpdk_built_version(void); /* of the headers this was compiled with */
int aio_dpdk_start(const struct aio_dpdk_config *config, char *message);
/* Closes nothing by itself: AIO_EINVAL while ports are open. EAL cannot start again. */
int aio_dpdk_stop(char *message);
/* Where EAL keeps what other processes need to attach; a folder for the file prefix. */
const char *aio_dpdk_folder(void);
/* The last lines that EAL and drivers logged. The number of bytes, without the NUL. */
size_t aio_dpdk_log(char *out, size_t size);

/* ---- ports (dpdk_port.c, dpdk_rss.c, dpdk_info.c) ------------------------------------ */

struct aio_dpdk_port;

struct aio_dpdk_port_options {
    uint16_t rx_queues, tx_queues; /* tx 0: as many as rx */
    uint16_t descriptors;          /* of each ring, adjusted to what the device takes */
    uint16_t mtu;                  /* 0: as the device has it */
    uint32_t room;                 /* bytes of frame data in one mbuf; longer: a chain */
    uint32_t budget; /* mbufs of each queue that consumers may hold beyond a burst */
    uint8_t promiscuous;
    uint8_t interrupts; /* ask for receive interrupts; 0 where they are not there */
    uint8_t shared;     /* secondaries will read queues: pools that survive their death */
};

enum aio_dpdk_rss {
    AIO_RSS_NONE = 0,      /* the device does not spread frames over queues */
    AIO_RSS_UNKNOWN = 1,   /* it does, by a hash that is not known to be symmetric */
    AIO_RSS_SYMMETRIC = 2, /* by its own symmetric function: both directions meet, but
                              software cannot compute the value */
    AIO_RSS_KEY = 3        /* Toeplitz with the repeated key 6d5a: symmetric and known */
};

struct aio_dpdk_port_info {
    char name[AIO_DPDK_NAME];
    char driver[AIO_DPDK_NAME];
    uint8_t mac[6];
    uint8_t rss;        /* enum aio_dpdk_rss */
    uint8_t ends;       /* reads a capture file: an empty burst is its end */
    uint8_t interrupts; /* descriptors to wait on */
    uint8_t timestamps; /* the device stamps frames */
    uint8_t checksums;  /* it judges checksums */
    uint8_t vlan_strip; /* it takes VLAN tags off */
    uint8_t scatter;    /* frames may come as chains */
    uint8_t up;
    uint16_t rx_queues, tx_queues;
    uint16_t max_rx_queues, max_tx_queues;
    uint16_t rx_descriptors, tx_descriptors;
    uint16_t mtu;
    uint16_t reta_size;
    int16_t socket; /* NUMA node, -1: none */
    uint16_t full_duplex;
    uint32_t speed_mbps; /* UINT32_MAX: unknown */
    uint32_t mbufs;      /* in the pool of each queue */
};

struct aio_dpdk_port_counters {
    uint64_t received, received_bytes, sent, sent_bytes;
    uint64_t missed;    /* dropped by the device: its ring was full */
    uint64_t no_memory; /* dropped by the driver: the pool was empty */
    uint64_t errors, send_errors;
};

/* device: a virtual device ("net_pcap0,rx_pcap=FILE") or a PCI address. It is started. */
int aio_dpdk_port_open(struct aio_dpdk_port **out, const char *device,
                       const struct aio_dpdk_port_options *options, char *message);
/* In a secondary: a port that the primary opened, by its name. Never configures. */
int aio_dpdk_port_attach(struct aio_dpdk_port **out, const char *name, char *message);
/* Stops, frees and audits. Its sources have to be closed before (AIO_EINVAL). After any
 * other result the port is gone; AIO_ENOMEM means that *missing mbufs did not come back. */
int aio_dpdk_port_close(struct aio_dpdk_port *port, uint32_t *missing, char *message);
/* Closes it now, or with the last of its sources: for who cannot deal with errors. */
void aio_dpdk_port_abandon(struct aio_dpdk_port *port);
void aio_dpdk_port_info(struct aio_dpdk_port *port, struct aio_dpdk_port_info *out);
int aio_dpdk_port_counters(struct aio_dpdk_port *port, struct aio_dpdk_port_counters *out);
/* Mbufs of a queue's pool that are neither in it nor, as far as is known, in a ring of
 * the device: with the device idle, what consumers hold. */
uint32_t aio_dpdk_port_in_use(struct aio_dpdk_port *port, uint16_t queue);
/* Returns to its pool what a dead process held that read this queue. Their number. The
 * process must be gone and no other may have taken its place yet. */
int aio_dpdk_port_recover(struct aio_dpdk_port *port, uint16_t queue, char *message);
/* Frames that all who read a queue so far have taken from it. queue: one of the port's. */
uint64_t aio_dpdk_port_taken(struct aio_dpdk_port *port, uint16_t queue);
/* Frames dropped before anybody could take them. A device counts them for all queues
 * together: queue 0 tells. What found no mbuf is lost with a virtual device, and counted as
 * missed besides by others. */
uint64_t aio_dpdk_port_dropped(struct aio_dpdk_port *port, uint16_t queue);
/* The reader of a queue is gone: its successor's statistics begin with what is dropped from
 * now on. */
uint64_t aio_dpdk_port_settle(struct aio_dpdk_port *port, uint16_t queue);

/* Extended statistics: the number there are (whatever max is), or negative. */
int aio_dpdk_port_xstats(struct aio_dpdk_port *port, char (*names)[AIO_DPDK_NAME],
                         uint64_t *values, unsigned max);

/* Names of the devices that EAL knows; the number there are. */
unsigned aio_dpdk_port_names(char (*names)[AIO_DPDK_NAME], unsigned max);

/* ---- sources (source_dpdk.c) --------------------------------------------------------- */

struct aio_dpdk_queue {
    struct aio_dpdk_port *port;
    uint16_t queue; /* received from, and sent to */
};

/* A source of several queues in turn; frame.port and transmit()'s port are indices into
 * queues. One source a queue. */
int aio_dpdk_source_open(struct aio_source **out, const struct aio_dpdk_queue *queues,
                         unsigned n, char *message);

/* ---- distribution over shared rings (dpdk_fan.c, source_fan.c) ------------------------ */

struct aio_dpdk_fan;

/* Two rings for each of n workers, in shared memory: frames go to the worker by one, and
 * come back by the other to be freed by the receiver, so that workers never touch a pool.
 * size: frames in flight to one worker, rounded up to a power of two. */
int aio_dpdk_fan_create(struct aio_dpdk_fan **out, const char *name, unsigned workers,
                        unsigned size, char *message);
/* The same rings, from another process: a restarted receiver. */
int aio_dpdk_fan_attach(struct aio_dpdk_fan **out, const char *name, char *message);
/* Hands frames of a DPDK source over to a worker, as they are (hash and time included),
 * with the caller's hold, which must be the only one: who handed a frame over does not
 * release it. First frees what came back. The number taken, the others stay the caller's:
 * the ring is full. */
int aio_dpdk_ring_push(struct aio_dpdk_fan *fan, unsigned worker, struct aio_source *from,
                       const struct aio_frame *frames, unsigned n);
/* Gives back what came back from all workers; their number. Also when idle. */
unsigned aio_dpdk_fan_drain(struct aio_dpdk_fan *fan);
/* Frames that wait for a worker. */
unsigned aio_dpdk_fan_waiting(struct aio_dpdk_fan *fan, unsigned worker);
/* Frames that a worker's ring has room for. */
unsigned aio_dpdk_fan_room(struct aio_dpdk_fan *fan, unsigned worker);
/* Counts frames that a worker's ring had no room for and that were given up: its statistics
 * tell of them. */
void aio_dpdk_fan_drop(struct aio_dpdk_fan *fan, unsigned worker, unsigned n);
/* Frames that all processes at a worker's place have taken so far. */
uint64_t aio_dpdk_fan_taken(struct aio_dpdk_fan *fan, unsigned worker);
/* Frames that its ring had no room for so far. */
uint64_t aio_dpdk_fan_dropped(struct aio_dpdk_fan *fan, unsigned worker);
/* As aio_dpdk_port_settle(), for a worker. */
uint64_t aio_dpdk_fan_settle(struct aio_dpdk_fan *fan, unsigned worker);
/* Frees what a dead worker held; what waits for it stays. Only for who pushes, or when
 * nobody does. */
int aio_dpdk_fan_recover(struct aio_dpdk_fan *fan, unsigned worker, char *message);
/* The creator frees the rings and what is in them; for others just the handle. */
void aio_dpdk_fan_close(struct aio_dpdk_fan *fan);

/* A worker's end. tx: the queue that it sends on, or NULL. captured: the times of frames are
 * those of a capture, and the source is not live. */
int aio_dpdk_fan_source(struct aio_source **out, const char *name, unsigned worker,
                        const struct aio_dpdk_queue *tx, int captured, char *message);

#endif
