"""Everything of dpdk_shim over DPDK that Cython sees: our own names, never DPDK's.

dpdk_shim/dpdk.h documents each. Only ``_dpdk.pyx`` uses them; it alone links DPDK, and is
loaded when somebody asks for a DPDK port.
"""
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from .shim cimport aio_frame, aio_source


cdef extern from "dpdk.h" nogil:
    enum:
        AIO_DPDK_MESSAGE
        AIO_DPDK_NAME
        AIO_DPDK_PORTS_MAX

    # ---- environment
    struct aio_dpdk_config:
        const char **devices
        unsigned n_devices
        const char *file_prefix
        const char *huge_dir
        const char *driver_path
        const char *log_level
        uint32_t memory_mib
        uint16_t lcore
        uint8_t huge
        uint8_t shared
        uint8_t secondary
        uint8_t telemetry

    const char *aio_dpdk_version() noexcept
    const char *aio_dpdk_built_version() noexcept
    int aio_dpdk_start(const aio_dpdk_config *config, char *message) noexcept
    int aio_dpdk_stop(char *message) noexcept
    const char *aio_dpdk_folder() noexcept
    size_t aio_dpdk_log(char *out, size_t size) noexcept

    # ---- ports
    struct aio_dpdk_port

    struct aio_dpdk_port_options:
        uint16_t rx_queues
        uint16_t tx_queues
        uint16_t descriptors
        uint16_t mtu
        uint32_t room
        uint32_t budget
        uint8_t promiscuous
        uint8_t interrupts
        uint8_t shared

    struct aio_dpdk_port_info_t "aio_dpdk_port_info":
        char name[64]
        char driver[64]
        uint8_t mac[6]
        uint8_t rss
        uint8_t ends
        uint8_t interrupts
        uint8_t timestamps
        uint8_t checksums
        uint8_t vlan_strip
        uint8_t scatter
        uint8_t up
        uint16_t rx_queues
        uint16_t tx_queues
        uint16_t max_rx_queues
        uint16_t max_tx_queues
        uint16_t rx_descriptors
        uint16_t tx_descriptors
        uint16_t mtu
        uint16_t reta_size
        int16_t socket
        uint16_t full_duplex
        uint32_t speed_mbps
        uint32_t mbufs

    struct aio_dpdk_counters "aio_dpdk_port_counters":
        uint64_t received
        uint64_t received_bytes
        uint64_t sent
        uint64_t sent_bytes
        uint64_t missed
        uint64_t no_memory
        uint64_t errors
        uint64_t send_errors

    int aio_dpdk_port_open(aio_dpdk_port **out, const char *device,
                           const aio_dpdk_port_options *options, char *message) noexcept
    int aio_dpdk_port_attach(aio_dpdk_port **out, const char *name, char *message) noexcept
    int aio_dpdk_port_close(aio_dpdk_port *port, uint32_t *missing, char *message) noexcept
    void aio_dpdk_port_abandon(aio_dpdk_port *port) noexcept
    void aio_dpdk_port_info(aio_dpdk_port *port, aio_dpdk_port_info_t *out) noexcept
    int aio_dpdk_port_counters(aio_dpdk_port *port, aio_dpdk_counters *out) noexcept
    uint32_t aio_dpdk_port_in_use(aio_dpdk_port *port, uint16_t queue) noexcept
    int aio_dpdk_port_recover(aio_dpdk_port *port, uint16_t queue, char *message) noexcept
    uint64_t aio_dpdk_port_taken(aio_dpdk_port *port, uint16_t queue) noexcept
    uint64_t aio_dpdk_port_settle(aio_dpdk_port *port, uint16_t queue) noexcept
    int aio_dpdk_port_xstats(aio_dpdk_port *port, char (*names)[64], uint64_t *values,
                             unsigned max) noexcept
    unsigned aio_dpdk_port_names(char (*names)[64], unsigned max) noexcept

    # ---- sources
    struct aio_dpdk_queue:
        aio_dpdk_port *port
        uint16_t queue

    int aio_dpdk_source_open(aio_source **out, const aio_dpdk_queue *queues, unsigned n,
                             char *message) noexcept

    # ---- distribution over shared rings
    struct aio_dpdk_fan

    int aio_dpdk_fan_create(aio_dpdk_fan **out, const char *name, unsigned workers,
                            unsigned size, char *message) noexcept
    int aio_dpdk_fan_attach(aio_dpdk_fan **out, const char *name, char *message) noexcept
    int aio_dpdk_ring_push(aio_dpdk_fan *fan, unsigned worker, aio_source *source,
                           const aio_frame *frames, unsigned n) noexcept
    unsigned aio_dpdk_fan_drain(aio_dpdk_fan *fan) noexcept
    unsigned aio_dpdk_fan_waiting(aio_dpdk_fan *fan, unsigned worker) noexcept
    unsigned aio_dpdk_fan_room(aio_dpdk_fan *fan, unsigned worker) noexcept
    void aio_dpdk_fan_drop(aio_dpdk_fan *fan, unsigned worker, unsigned n) noexcept
    uint64_t aio_dpdk_fan_taken(aio_dpdk_fan *fan, unsigned worker) noexcept
    uint64_t aio_dpdk_fan_dropped(aio_dpdk_fan *fan, unsigned worker) noexcept
    uint64_t aio_dpdk_fan_settle(aio_dpdk_fan *fan, unsigned worker) noexcept
    int aio_dpdk_fan_recover(aio_dpdk_fan *fan, unsigned worker, char *message) noexcept
    void aio_dpdk_fan_close(aio_dpdk_fan *fan) noexcept
    int aio_dpdk_fan_source(aio_source **out, const char *name, unsigned worker,
                            const aio_dpdk_queue *tx, bint captured, char *message) noexcept
