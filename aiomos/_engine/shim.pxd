"""Everything of dpdk_shim that Cython sees, and the only file that names its symbols.

dpdk_shim/shim.h documents each; this repeats declarations only. Function pointers are
marked ``noexcept nogil`` one by one: sources are C and know nothing of Python. Only
source.pyx calls the functions that open something; everybody else has an ``aio_source *``
and goes through its operations.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "shim.h" nogil:
    enum:
        AIO_SHIM_ABI
        AIO_HEAD_MIN
        AIO_BURST_MAX
    const int64_t AIO_NO_TIME

    enum aio_result:
        AIO_OK
        AIO_END
        AIO_CUT
        AIO_EIO
        AIO_ENOTCAPTURE
        AIO_ENOMEM
        AIO_ENOTSUP
        AIO_EINVAL
        AIO_ECORRUPT

    enum aio_direction:
        AIO_DIR_UNKNOWN
        AIO_DIR_IN
        AIO_DIR_OUT
        AIO_DIR_REJOINED

    enum aio_checksum:
        AIO_CSUM_UNKNOWN
        AIO_CSUM_GOOD
        AIO_CSUM_BAD
        AIO_CSUM_NOT_FILLED

    enum aio_caps:
        AIO_CAP_RETAIN_FREE
        AIO_CAP_RING
        AIO_CAP_TRANSMIT
        AIO_CAP_LIVE
        AIO_CAP_TRANSMIT_THREAD

    struct aio_seg:
        const uint8_t *data
        const aio_seg *next
        uint32_t len

    struct aio_frame:
        const uint8_t *data
        const aio_seg *next
        void *owner
        int64_t time_ns
        uint32_t head_len
        uint32_t cap_len
        uint32_t wire_len
        uint32_t hash
        uint16_t link_type
        uint16_t port
        uint16_t vlan[2]
        uint8_t n_vlan
        uint8_t direction
        uint8_t csum_ip
        uint8_t csum_l4

    struct aio_source_stats:
        uint64_t frames
        uint64_t bytes
        uint64_t dropped_nic
        uint64_t dropped_kernel
        uint64_t dropped_ring
        uint64_t dropped_pool
        uint64_t cut
        uint64_t transmitted
        uint64_t outstanding
        uint64_t queued
        uint64_t input_pos
        uint64_t input_size

    struct aio_source

    struct aio_source_ops:
        int (*burst)(aio_source *src, aio_frame *out, unsigned max) noexcept nogil
        void (*release)(aio_source *src, const aio_frame *frames, unsigned n) noexcept nogil
        int (*retain)(aio_source *src, aio_frame *frame) noexcept nogil
        int (*transmit)(aio_source *src, uint16_t port, const aio_frame *frames,
                        unsigned n) noexcept nogil
        int (*descriptor)(aio_source *src) noexcept nogil
        void (*stats)(aio_source *src, aio_source_stats *out) noexcept nogil
        void (*close)(aio_source *src) noexcept nogil

    struct aio_source:
        const aio_source_ops *ops
        uint32_t caps
        uint32_t time_precision
        char message[256]

    # ---- memory
    struct aio_mem_options:
        uint32_t segment_seed
        uint32_t copy_on_retain
        uint64_t retain_budget

    int aio_mem_open(aio_source **out, const aio_mem_options *opt) noexcept
    int aio_mem_push(aio_source *src, const aio_frame *meta, const uint8_t *data,
                     uint32_t len) noexcept
    void aio_mem_finish(aio_source *src) noexcept
    int aio_mem_rewind(aio_source *src) noexcept
    int aio_mem_sent(aio_source *src, uint64_t index, aio_frame *out) noexcept

    # ---- capture files
    struct aio_file_options:
        uint32_t window_size
        uint32_t port
        uint64_t retain_budget

    int aio_file_open(aio_source **out, const char *path, const aio_file_options *opt,
                      char *message) noexcept
    int aio_merge_open(aio_source **out, aio_source **parts, unsigned n) noexcept

    # ---- rings of frames
    struct aio_ring
    struct aio_ring_writer

    struct aio_ring_stats:
        uint64_t size
        uint64_t used
        uint64_t pushed
        uint64_t pushed_bytes
        uint64_t dropped
        uint64_t dropped_bytes
        uint64_t taken
        uint64_t released
        uint64_t abandoned
        uint64_t ended

    int aio_ring_create(aio_ring **out, uint64_t size, int shared, char *message) noexcept
    int aio_ring_attach(aio_ring **out, int fd, int bell, char *message) noexcept
    void aio_ring_put(aio_ring *ring) noexcept
    int aio_ring_fd(const aio_ring *ring) noexcept
    int aio_ring_bell(const aio_ring *ring) noexcept
    void aio_ring_get_stats(const aio_ring *ring, aio_ring_stats *out) noexcept
    uint64_t aio_ring_settle(aio_ring *ring) noexcept

    int aio_ring_writer_open(aio_ring_writer **out, aio_ring *ring, char *message) noexcept
    int aio_ring_push(aio_ring_writer *w, const aio_frame *frame) noexcept
    int aio_ring_is_full(aio_ring_writer *w, const aio_frame *frame) noexcept
    void aio_ring_publish(aio_ring_writer *w) noexcept
    void aio_ring_end(aio_ring_writer *w) noexcept
    void aio_ring_writer_close(aio_ring_writer *w) noexcept

    struct aio_ring_options:
        uint32_t end
        uint32_t captured
        uint32_t settled
        uint64_t retain_budget

    int aio_ring_source_open(aio_source **out, aio_ring *ring, const aio_ring_options *opt,
                             char *message) noexcept
    int aio_join_open(aio_source **out, aio_source **parts, const uint16_t *ports,
                      unsigned n) noexcept

    struct aio_pump_options:
        uint64_t ring_bytes
        uint64_t retain_budget

    int aio_pump_open(aio_source **out, aio_source *inner, const aio_pump_options *opt,
                      char *message) noexcept

    # ---- kernel interfaces: packet sockets
    struct aio_packet_options:
        uint64_t ring_bytes
        uint32_t snap_len
        uint8_t direction
        uint8_t no_promiscuous
        uint8_t transmit

    struct aio_packet_stats:
        uint64_t frames
        uint64_t bytes
        uint64_t dropped_kernel
        uint64_t dropped_nic
        uint64_t cut
        uint64_t recovered
        uint64_t readers
        uint64_t link_losses
        uint32_t link_up
        uint32_t reader

    int aio_packet_sockets(const char *name, const aio_packet_options *opt, unsigned n,
                           int *fds, int *state_fds, char *message) noexcept
    int aio_packet_attach(aio_source **out, int fd, int state_fd, uint64_t retain_budget,
                          char *message) noexcept
    int aio_packet_open(aio_source **out, const char *name, const aio_packet_options *opt,
                        uint64_t retain_budget, char *message) noexcept
    int aio_packet_socket_stats(int fd, int state_fd, aio_packet_stats *out) noexcept
    void aio_packet_source_stats(aio_source *src, aio_packet_stats *out) noexcept
    int aio_packet_socket_settle(int fd, int state_fd, aio_packet_stats *out) noexcept
    void aio_packet_source_settled(aio_source *src) noexcept

    # ---- kernel interfaces: AF_XDP
    struct aio_xdp_options:
        uint64_t ring_bytes
        uint64_t retain_budget
        uint32_t queue
        uint8_t force
        uint8_t generic

    struct aio_xdp_link:
        uint64_t losses
        uint8_t up
        uint8_t generic

    int aio_xdp_open(aio_source **out, const char *name, const aio_xdp_options *opt,
                     char *message) noexcept
    void aio_xdp_get_link(aio_source *src, aio_xdp_link *out) noexcept

    # ---- writing captures
    struct aio_writer

    enum aio_writer_format:
        AIO_WRITE_PCAP_US
        AIO_WRITE_PCAP_NS
        AIO_WRITE_PCAPNG

    int aio_writer_open(aio_writer **out, const char *path, int format, uint32_t snap_len,
                        uint16_t link_type, char *message) noexcept
    int aio_writer_write(aio_writer *w, const aio_frame *frame) noexcept
    const char *aio_writer_message(const aio_writer *w) noexcept
    int aio_writer_flush(aio_writer *w) noexcept
    int aio_writer_close(aio_writer *w) noexcept

    # ---- small change
    const char *aio_result_name(int result) noexcept
    uint32_t aio_frame_copy(const aio_frame *frame, uint32_t offset, uint32_t len,
                            uint8_t *out) noexcept
