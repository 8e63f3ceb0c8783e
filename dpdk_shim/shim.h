/* shim.h -- frames and where they come from.
 *
 * The one header that the engine sees (through aiomos/_engine/shim.pxd). It can be
 * described without the word "TCP": a frame is bytes with a time, a source gives
 * bursts of frames and takes them back. Capture files, memory, kernel interfaces and
 * DPDK ports all stand behind the same eight operations.
 *
 * Ownership in one paragraph: a frame that burst() handed out belongs to the caller
 * until it gives it back with release(), in any order and at any time. Until then
 * data, the chain of segments and everything they point to stay valid, unless the
 * source says AIO_CAP_RING: then frames must be released before the next burst(), and
 * who needs one longer calls retain() first. No operation blocks but burst() on a pipe.
 * One source belongs to one thread.
 */
#ifndef AIO_SHIM_H
#define AIO_SHIM_H

#include <stddef.h>
#include <stdint.h>

#define AIO_SHIM_ABI 2

/* Bytes of a frame that are contiguous at aio_frame.data at the least (or all of it,
 * when it is shorter): enough for every header chain met outside attacks. */
#define AIO_HEAD_MIN 256

/* Most frames that the engine asks for at once. */
#define AIO_BURST_MAX 64

/* No time known, or no frame to take one from. */
#define AIO_NO_TIME INT64_MIN

/* ---- results -------------------------------------------------------------------
 * Operations return >= 0, or one of these. aio_source.message has the details. */
enum aio_result {
    AIO_OK = 0,
    AIO_END = -1,         /* no frame will ever come again: regular end */
    AIO_CUT = -2,         /* the same, but the input stops inside a record */
    AIO_EIO = -3,         /* reading failed (message: errno in words) */
    AIO_ENOTCAPTURE = -4, /* not a capture file this reader knows */
    AIO_ENOMEM = -5,      /* memory or a budgeted pool is used up */
    AIO_ENOTSUP = -6,     /* this source cannot do that */
    AIO_EINVAL = -7,      /* an argument out of its range */
    AIO_ECORRUPT = -8     /* a record that cannot be right; nothing after it is readable */
};

enum aio_direction {
    AIO_DIR_UNKNOWN = 0,
    AIO_DIR_IN = 1,
    AIO_DIR_OUT = 2,
    AIO_DIR_REJOINED = 4 /* besides one of these: not off the wire, but put together of
                            fragments by another worker, which has counted those */
};

/* What is known of a layer's checksum before anybody computed it. */
enum aio_checksum {
    AIO_CSUM_UNKNOWN = 0,
    AIO_CSUM_GOOD = 1,      /* hardware or kernel verified it */
    AIO_CSUM_BAD = 2,       /* hardware found it wrong */
    AIO_CSUM_NOT_FILLED = 3 /* sent by this host with offload: field is not final */
};

/* Capabilities of a source (aio_source.caps). */
enum aio_caps {
    AIO_CAP_RETAIN_FREE = 1, /* retain() copies nothing (file windows, mbufs) */
    AIO_CAP_RING = 2,        /* frames must be released before the next burst() */
    AIO_CAP_TRANSMIT = 4,
    AIO_CAP_LIVE = 8, /* times are this machine's; an empty burst means "not yet" */
    /* transmit() may be called by one other thread than all the rest, and then looks at
     * nothing of the frames but their bytes (their owner may be another source's) */
    AIO_CAP_TRANSMIT_THREAD = 16
};

/* A further piece of a frame. The chain may have any number, also empty ones. */
struct aio_seg {
    const uint8_t *data;
    const struct aio_seg *next;
    uint32_t len;
};

/* One frame: 64 bytes, handed out by value, one cache line each. */
struct aio_frame {
    const uint8_t *data; /* first segment: at least min(cap_len, AIO_HEAD_MIN) bytes */
    const struct aio_seg *next; /* further segments, or NULL */
    void *owner;                /* the source's own; never looked at by others */
    int64_t time_ns;    /* since the epoch, as the capture or the device stamped it */
    uint32_t head_len;  /* bytes at data */
    uint32_t cap_len;   /* bytes captured: head_len and all of the chain */
    uint32_t wire_len;  /* bytes there were on the wire; more, if the capture cut */
    uint32_t hash;      /* device's flow hash, 0 = none */
    uint16_t link_type; /* LINKTYPE_* of the pcap registry */
    uint16_t port;      /* index of port, interface or file within the source */
    uint16_t vlan[2];   /* tags that the device stripped, outermost first (TCI) */
    uint8_t n_vlan;     /* how many of them */
    uint8_t direction;  /* enum aio_direction */
    uint8_t csum_ip;    /* enum aio_checksum, network layer */
    uint8_t csum_l4;    /* enum aio_checksum, transport layer */
};

/* Counters of a source. received = handed out + dropped, by place. */
struct aio_source_stats {
    uint64_t frames;         /* handed out by burst() */
    uint64_t bytes;          /* their captured bytes */
    uint64_t dropped_nic;    /* lost before the source: device */
    uint64_t dropped_kernel; /* lost before the source: kernel ring or capture tool */
    uint64_t dropped_ring;   /* lost within: a ring of ours was full (pump, distributor) */
    uint64_t dropped_pool;   /* retain() refused: the pool's budget was used up */
    uint64_t cut; /* of frames: handed out shorter than they came, for want of room */
    uint64_t transmitted; /* frames */
    uint64_t outstanding; /* handed out or retained, and not released yet */
    uint64_t queued;      /* in a ring of ours, waiting to be handed out */
    uint64_t input_pos;   /* bytes of input read so far (of the file as it lies there) */
    uint64_t input_size;  /* bytes of input in all, 0 = unknown (pipe) */
};

struct aio_source;

struct aio_source_ops {
    /* Up to max frames into out. Their number; 0 = none now (live, a memory source that
     * is not finished, or a pipe whose wait a signal interrupted: call again); AIO_END,
     * AIO_CUT, AIO_EIO or AIO_ECORRUPT once everything before was handed out, and the
     * same again on every later call. Blocks only on a pipe, which is also looked at for
     * the first time here: AIO_ENOTCAPTURE. */
    int (*burst)(struct aio_source *src, struct aio_frame *out, unsigned max);

    /* Gives frames back. */
    void (*release)(struct aio_source *src, const struct aio_frame *frames, unsigned n);

    /* Makes a second, independent hold on a frame, to be released on its own, valid
     * across bursts; may copy into a budgeted pool and then changes *frame to point
     * there. AIO_ENOMEM when the budget is used up: *frame is then untouched. */
    int (*retain)(struct aio_source *src, struct aio_frame *frame);

    /* Sends frames out of a port. The number taken; the others stay the caller's. The
     * source copies what it needs: the caller still releases all of them. */
    int (*transmit)(struct aio_source *src, uint16_t port, const struct aio_frame *frames,
                    unsigned n);

    /* A descriptor that becomes readable when burst() would give something; -1: none.
     * To be waited on after a burst that brought less than was asked for. */
    int (*descriptor)(struct aio_source *src);

    void (*stats)(struct aio_source *src, struct aio_source_stats *out);

    /* Frees everything, frames still held included. Their number is in stats before. */
    void (*close)(struct aio_source *src);
};

struct aio_source {
    const struct aio_source_ops *ops;
    uint32_t caps;           /* enum aio_caps */
    uint32_t time_precision; /* ns in one unit of the finest time stamp (1, 1000, ...) */
    char message[256];       /* what the last negative result was about; "" if nothing */
};

/* ---- memory: tests, fuzzing, benchmarks ------------------------------------------ */

struct aio_mem_options {
    uint32_t segment_seed; /* not 0: frames are cut into random segments behind the head */
    uint32_t copy_on_retain; /* behave like a ring: retain copies, AIO_CAP_RING is set */
    uint64_t retain_budget;  /* bytes of the retain pool, 0 = 16 MiB */
};

int aio_mem_open(struct aio_source **out, const struct aio_mem_options *opt);
/* Appends a frame; data is copied. The metadata is taken from *meta (its data, next,
 * owner, head_len and cap_len are ignored). May be called between bursts. */
int aio_mem_push(struct aio_source *src, const struct aio_frame *meta, const uint8_t *data,
                 uint32_t len);
/* After this an exhausted memory source says AIO_END instead of "none now". */
void aio_mem_finish(struct aio_source *src);
/* Starts again with the first frame. AIO_EINVAL while frames are outstanding. */
int aio_mem_rewind(struct aio_source *src);
/* What was transmitted, in order; AIO_END past the last one. */
int aio_mem_sent(struct aio_source *src, uint64_t index, struct aio_frame *out);

/* ---- capture files: pcap (us, ns, both byte orders), pcapng, gzip of these -------- */

struct aio_file_options {
    uint32_t window_size;   /* bytes of one read window, 0 = 512 KiB */
    uint32_t port;          /* first port index given to this file's interfaces */
    uint64_t retain_budget; /* bytes of the retain pool (gzip, pipes), 0 = 16 MiB */
};

/* path "-" is standard input. On failure *out is NULL and message (>= 256 bytes) says
 * what to do about it. */
int aio_file_open(struct aio_source **out, const char *path,
                  const struct aio_file_options *opt, char *message);

/* Several sources as one, ordered by time; equal times in the order given. Owns them. */
int aio_merge_open(struct aio_source **out, struct aio_source **parts, unsigned n);

/* ---- rings of frames between threads and processes --------------------------------
 *
 * One writer, one reader, at any time; each may die and be replaced. A ring lies in
 * memory that both map: a memfd, to be inherited by descriptor, or, between threads, an
 * anonymous mapping. When it is full, frames are dropped and counted: a writer never
 * waits and never overwrites. message (>= 256 bytes) says what failed. */

struct aio_ring;
struct aio_ring_writer;

/* Counters for the life of the ring, whoever wrote and read:
 * taken = released + abandoned + with the reader; pushed = taken + waiting. */
struct aio_ring_stats {
    uint64_t size;          /* bytes of its data area */
    uint64_t used;          /* bytes of it between writer and reader */
    uint64_t pushed;        /* frames published */
    uint64_t pushed_bytes;  /* their captured bytes */
    uint64_t dropped;       /* frames that found no room */
    uint64_t dropped_bytes; /* their captured bytes */
    uint64_t taken;         /* frames handed to the reader */
    uint64_t released;      /* frames it gave back */
    uint64_t abandoned;     /* frames that a reader died with */
    uint64_t ended;         /* the writer said that no more will come */
};

/* size: bytes for frames, rounded up to a power of two (4 KiB to 4 GiB). A frame and its
 * 48 bytes of metadata take a multiple of 64; one that takes more than half is dropped.
 * shared: a memfd with a descriptor, else memory of this process. */
int aio_ring_create(struct aio_ring **out, uint64_t size, int shared, char *message);
/* The ring behind descriptors of another process; they are duplicated. AIO_ECORRUPT when
 * what lies there is no ring, or one of another version. */
int aio_ring_attach(struct aio_ring **out, int fd, int bell, char *message);
/* Gives the ring back; writers and sources on it have holds of their own. */
void aio_ring_put(struct aio_ring *ring);
int aio_ring_fd(const struct aio_ring *ring);   /* its memory, -1 = of this process */
int aio_ring_bell(const struct aio_ring *ring); /* the eventfd that wakes the reader */
void aio_ring_get_stats(const struct aio_ring *ring, struct aio_ring_stats *out);
/* A reader is gone: the frames dropped that no reader before it was settled with. */
uint64_t aio_ring_settle(struct aio_ring *ring);

/* The writing end: one at a time. It goes on where a dead one stopped. */
int aio_ring_writer_open(struct aio_ring_writer **out, struct aio_ring *ring,
                         char *message);
/* Copies a frame into the ring: 1, or 0 when there was no room (counted). The reader sees
 * it after aio_ring_publish(). */
int aio_ring_push(struct aio_ring_writer *w, const struct aio_frame *frame);
/* Whether there is no room for a frame before the reader gives some back: who would rather
 * wait than drop it asks first, and publishes what it pushed before it waits. */
int aio_ring_is_full(struct aio_ring_writer *w, const struct aio_frame *frame);
/* To be called after a batch: shows it to the reader, and wakes it if it sleeps. */
void aio_ring_publish(struct aio_ring_writer *w);
/* Publishes, and says that no more frames will come (until the next writer opens). */
void aio_ring_end(struct aio_ring_writer *w);
/* Publishes and frees. Another writer may follow. */
void aio_ring_writer_close(struct aio_ring_writer *w);

struct aio_ring_options {
    uint32_t end;           /* AIO_END once the writer has ended and all was taken */
    uint32_t captured;      /* times are those of a capture: without AIO_CAP_LIVE */
    uint32_t settled;       /* stats: dropped_ring counts from aio_ring_settle() on */
    uint64_t retain_budget; /* bytes of the retain pool, 0 = 16 MiB */
};

/* The reading end as a source: AIO_CAP_LIVE | AIO_CAP_RING. What an earlier reader took
 * and did not give back is skipped and counted as abandoned. A frame that is kept longer
 * than it may be holds up the room behind it, and nothing worse. stats: dropped_ring
 * counts from here on; aio_ring_get_stats() has the whole life. */
int aio_ring_source_open(struct aio_source **out, struct aio_ring *ring,
                         const struct aio_ring_options *opt, char *message);

/* Several sources as one, as frames come, in turns. ports[i]: how many port numbers part
 * i has (NULL: one each); its ports are counted on from those of the parts before it, and
 * a port beyond its number is shown as its last. One part's end or error ends nothing
 * until all have ended: then the worst of their results is given. An error is in message
 * as soon as it comes. Owns the parts, except when it fails: AIO_ENOTSUP when some are
 * live and some are not, AIO_EINVAL without parts or with more than 65535 ports. */
int aio_join_open(struct aio_source **out, struct aio_source **parts, const uint16_t *ports,
                  unsigned n);

/* A thread that empties inner into a ring, and that ring as a source: whatever the
 * consumer does, inner is served. inner belongs to the thread until close(), which waits
 * for the thread (for a pipe, until it gives something). Inner's end and errors come
 * after the frames before them. transmit() needs AIO_CAP_TRANSMIT_THREAD of inner, else
 * it is AIO_ENOTSUP. frames + queued + dropped_ring = what inner handed out. Owns inner,
 * except when it fails. */
struct aio_pump_options {
    uint64_t ring_bytes;    /* 0 = 256 MiB */
    uint64_t retain_budget; /* bytes of the retain pool, 0 = 16 MiB */
};

int aio_pump_open(struct aio_source **out, struct aio_source *inner,
                  const struct aio_pump_options *opt, char *message);

/* ---- kernel interfaces: packet sockets ---------------------------------------------- */

struct aio_packet_options {
    uint64_t ring_bytes; /* memory of one socket's ring, 0 = 32 MiB */
    uint32_t snap_len;   /* bytes kept of a frame, 0 = all */
    uint8_t direction;   /* enum aio_direction to see, AIO_DIR_UNKNOWN = both */
    uint8_t no_promiscuous;
    uint8_t transmit; /* frames are to be sent too: AIO_CAP_TRANSMIT */
};

/* Of one socket, whoever reads it or read it: survives its readers. */
struct aio_packet_stats {
    uint64_t frames;         /* handed out by all readers */
    uint64_t bytes;          /* their captured bytes */
    uint64_t dropped_kernel; /* no room in the ring */
    uint64_t dropped_nic; /* rx_missed of the interface; of a group's first socket only */
    uint64_t cut;         /* handed out shorter than they came: their copy was lost */
    uint64_t recovered;   /* slots that a reader had when it died: their frames are lost */
    uint64_t readers;     /* how many there were */
    uint64_t link_losses; /* link up before, and not now */
    uint32_t link_up;     /* 1: interface and carrier are up */
    uint32_t reader;      /* process id of the present reader, 0 = none */
};

/* Sets up n sockets that share the frames of an interface (n = 1: one that has all) and
 * reads none. A flow's frames, both directions, meet at one socket: number
 * (h & 127) % n, h the Toeplitz hash of addresses and ports under a key of 0x6d5a
 * repeated. name "any" is all interfaces. fds are the sockets, state_fds the memory where
 * a successor finds how far a reader came; all close-on-exec, all the caller's. On
 * failure none is open, message (>= 256 bytes) says why, and errno is set if known. */
int aio_packet_sockets(const char *name, const struct aio_packet_options *opt, unsigned n,
                       int *fds, int *state_fds, char *message);

/* A reader of one of them, which takes both descriptors over, unless it fails: they are
 * closed with it, and until then its process closes no duplicate of state_fd, or loses
 * the lock on it. One reader at a time; slots that a dead one had go back to the kernel,
 * counted. retain_budget is for held frames and for those larger than a slot, 0 = 64 MiB. */
int aio_packet_attach(struct aio_source **out, int fd, int state_fd, uint64_t retain_budget,
                      char *message);

/* Both in one, for who needs no successor. */
int aio_packet_open(struct aio_source **out, const char *name,
                    const struct aio_packet_options *opt, uint64_t retain_budget,
                    char *message);

/* Counters of a socket, read by anybody who has both descriptors; and of a source. */
int aio_packet_socket_stats(int fd, int state_fd, struct aio_packet_stats *out);
void aio_packet_source_stats(struct aio_source *src, struct aio_packet_stats *out);
/* A reader is gone. As aio_packet_socket_stats(), but that dropped_kernel, dropped_nic and
 * cut are what no reader before it was settled with. */
int aio_packet_socket_settle(int fd, int state_fd, struct aio_packet_stats *out);
/* The source's own statistics count what was lost since then, not since it was attached. */
void aio_packet_source_settled(struct aio_source *src);

/* ---- kernel interfaces: AF_XDP ------------------------------------------------------- */

struct aio_xdp_options {
    uint64_t ring_bytes;    /* memory in which frames wait, 0 = 32 MiB */
    uint64_t retain_budget; /* of copies of held frames, 0 = 16 MiB */
    uint32_t queue;         /* receive queue of the interface */
    uint8_t force;          /* take an interface that the host itself uses */
    uint8_t generic;        /* the kernel's own XDP, even if the driver has one */
};

/* One receive queue of an interface, whose frames the kernel itself gets no more, until
 * close. They come without time stamps and without word on checksums. Several queues are
 * several sources of one process. */
int aio_xdp_open(struct aio_source **out, const char *name,
                 const struct aio_xdp_options *opt, char *message);

struct aio_xdp_link {
    uint64_t losses; /* link up before, and not then */
    uint8_t up;      /* interface and carrier */
    uint8_t generic; /* taken by the kernel's own XDP, not by the driver's */
};
void aio_xdp_get_link(struct aio_source *src, struct aio_xdp_link *out);

/* ---- writing captures ------------------------------------------------------------ */

struct aio_writer;

enum aio_writer_format {
    AIO_WRITE_PCAP_US = 0,
    AIO_WRITE_PCAP_NS = 1,
    AIO_WRITE_PCAPNG = 2
};

/* path "-" is standard output. The file header is written with the first frame, or at
 * close with link_type (a file without frames is a capture too). */
int aio_writer_open(struct aio_writer **out, const char *path, int format,
                    uint32_t snap_len, uint16_t link_type, char *message);
/* pcap: AIO_EINVAL when the frame's link type is not the file's. */
int aio_writer_write(struct aio_writer *w, const struct aio_frame *frame);
const char *aio_writer_message(const struct aio_writer *w);
int aio_writer_flush(struct aio_writer *w);
/* Flushes and frees; the first error there was, if any. */
int aio_writer_close(struct aio_writer *w);

/* ---- small change ---------------------------------------------------------------- */

const char *aio_result_name(int result);
/* Copies len bytes from offset of a frame, across segments; the number copied. */
uint32_t aio_frame_copy(const struct aio_frame *frame, uint32_t offset, uint32_t len,
                        uint8_t *out);

#endif
