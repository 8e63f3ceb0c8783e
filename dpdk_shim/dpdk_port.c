/* dpdk_port.c -- a device becomes a port: probed, configured, started; and back. */
#include "dpdk_private.h"

#include <rte_dev.h>
#include <rte_errno.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct aio_dpdk_port *aio_dpdk_ports;

/* What opening a port needs on the way. */
struct opening {
    struct aio_dpdk_port *port;
    const char *device;
    const struct aio_dpdk_port_options *options;
    struct rte_eth_dev_info dev;
    char name[AIO_DPDK_NAME]; /* of the device: what stands before its arguments */
    char *message;
};

/* ---- the device -------------------------------------------------------------------------------- */

/* Is key=value, or key with any value if value is NULL, among the device's arguments? */
static bool devargs_have(const char *device, const char *key, const char *value)
{
    size_t key_len = strlen(key);

    for (const char *at = strchr(device, ','); at; at = strchr(at, ',')) {
        at++;
        if (strncmp(at, key, key_len) != 0 || at[key_len] != '=')
            continue;
        if (!value || strncmp(at + key_len + 1, value, strlen(value)) == 0)
            return true;
    }
    return false;
}

static int probe(struct opening *o)
{
    struct aio_dpdk_port *other;

    for (other = aio_dpdk_ports; other; other = other->next)
        if (strcmp(other->state->info.name, o->name) == 0)
            return aio_dpdk_fail(o->message, AIO_EINVAL, "%s is open already", o->name);
    if (rte_eth_dev_get_port_by_name(o->name, &o->port->id) == 0)
        return AIO_OK; /* EAL opened it when it started */
    if (rte_dev_probe(o->device) < 0)
        return aio_dpdk_fail_log(o->message, AIO_EIO, "%s cannot be opened: %s", o->device,
                                 geteuid() == 0
                                     ? "no such device, or its driver does not "
                                       "take these arguments"
                                     : "no such device, arguments that its driver "
                                       "does not take, or no permission (root, or "
                                       "CAP_NET_ADMIN and CAP_NET_RAW)");
    if (rte_eth_dev_get_port_by_name(o->name, &o->port->id) < 0)
        return aio_dpdk_fail_log(o->message, AIO_EIO, "%s is no network device", o->device);
    return AIO_OK;
}

static int check_limits(const struct opening *o)
{
    const struct aio_dpdk_port_info *info = &o->port->state->info;

    if (info->rx_queues > o->dev.max_rx_queues)
        return aio_dpdk_fail(o->message, AIO_EINVAL,
                             "%s has %u receive queue%s, not %u: ask for fewer", o->name,
                             o->dev.max_rx_queues, o->dev.max_rx_queues == 1 ? "" : "s",
                             info->rx_queues);
    if (info->tx_queues > o->dev.max_tx_queues)
        return aio_dpdk_fail(o->message, AIO_EINVAL,
                             "%s has %u transmit queue%s, not %u: ask for fewer", o->name,
                             o->dev.max_tx_queues, o->dev.max_tx_queues == 1 ? "" : "s",
                             info->tx_queues);
    if (o->options->mtu > o->dev.max_mtu ||
        (o->options->mtu && o->options->mtu < o->dev.min_mtu))
        return aio_dpdk_fail(o->message, AIO_EINVAL, "%s takes an MTU of %u to %u, not %u",
                             o->name, o->dev.min_mtu, o->dev.max_mtu, o->options->mtu);
    return AIO_OK;
}

/* Where the state of a port lies: shared memory, so that secondaries find it. */
static bool make_state(struct opening *o)
{
    char zone[RTE_MEMZONE_NAMESIZE];
    struct aio_port_shared *state;

    snprintf(zone, sizeof zone, "aiop_%.24s", o->name);
    o->port->zone = rte_memzone_reserve(zone, sizeof *state, SOCKET_ID_ANY, 0);
    if (!o->port->zone)
        return false;
    state = o->port->state = o->port->zone->addr;
    memset(state, 0, sizeof *state);
    snprintf(state->info.name, sizeof state->info.name, "%s", o->name);
    state->budget = o->options->budget;
    state->shared = o->options->shared;
    state->info.rx_queues = o->options->rx_queues;
    state->info.tx_queues =
        o->options->tx_queues ? o->options->tx_queues : o->options->rx_queues;
    return true;
}

static void describe(struct opening *o)
{
    struct aio_dpdk_port_info *info = &o->port->state->info;
    bool pcap = strcmp(o->dev.driver_name, "net_pcap") == 0;

    snprintf(info->driver, sizeof info->driver, "%s", o->dev.driver_name);
    info->max_rx_queues = o->dev.max_rx_queues;
    info->max_tx_queues = o->dev.max_tx_queues;
    info->socket = (int16_t)rte_eth_dev_socket_id(o->port->id);
    info->ends = pcap && devargs_have(o->device, "rx_pcap", NULL) &&
                 !devargs_have(o->device, "infinite_rx", "1");
    if (pcap)
        o->port->state->clock = AIO_CLOCK_EPOCH_US;
    o->port->state->is_virtual = aio_dev_is_virtual(&o->dev);
    o->port->state->keeps = strcmp(o->dev.driver_name, "net_af_xdp") == 0;
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* Descriptors of both rings may all hold an mbuf at once, and drivers and caches some
 * more; the rest is what consumers may hold. */
static uint32_t pool_size(const struct aio_port_shared *state, unsigned queue)
{
    uint32_t n = state->budget + 4 * AIO_BURST_MAX + RTE_MEMPOOL_CACHE_MAX_SIZE;

    if (queue < state->info.rx_queues)
        n += state->info.rx_descriptors;
    if (queue < state->info.tx_queues)
        n += state->info.tx_descriptors;
    return n;
}

static int make_pools(struct opening *o)
{
    struct aio_port_shared *state = o->port->state;
    unsigned queues = RTE_MAX(state->info.rx_queues, state->info.tx_queues);
    uint32_t room = RTE_MAX(o->options->room, o->dev.min_rx_bufsize);
    int socket = state->info.socket < 0 ? SOCKET_ID_ANY : state->info.socket;
    char name[RTE_MEMPOOL_NAMESIZE];

    state->info.mbufs = pool_size(state, 0);
    for (unsigned q = 0; q < queues; q++) {
        uint32_t n = pool_size(state, q);

        snprintf(name, sizeof name, "aio_%u_%u", o->port->id, q);
        state->pools[q] = aio_mbuf_pool_create(name, n, room, socket, state->shared);
        if (!state->pools[q])
            return aio_dpdk_fail(o->message, AIO_ENOMEM,
                                 "no memory for %u frames of %u bytes (queue %u of %s): "
                                 "more memory_mib or huge pages, or fewer descriptors or a "
                                 "smaller budget",
                                 n, room, q, o->name);
    }
    return AIO_OK;
}

/* ---- configuration -------------------------------------------------------------------------------- */

static uint64_t rx_offloads(const struct opening *o)
{
    uint64_t wanted = RTE_ETH_RX_OFFLOAD_CHECKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP |
                      RTE_ETH_RX_OFFLOAD_SCATTER;

    if (!aio_dev_is_virtual(&o->dev))
        wanted |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
    return wanted & o->dev.rx_offload_capa;
}

static int configure(struct opening *o, bool interrupts)
{
    struct aio_dpdk_port_info *info = &o->port->state->info;
    struct rte_eth_conf conf = {0};

    conf.rxmode.offloads = rx_offloads(o);
    conf.txmode.offloads = o->dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    conf.rxmode.mtu = info->mtu;
    conf.intr_conf.rxq = interrupts;
    aio_rss_configure(&o->dev, info->rx_queues, &conf, o->port->state->rss_key);
    info->checksums = (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_CHECKSUM) != 0;
    info->vlan_strip = (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP) != 0;
    info->scatter = (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
    info->timestamps = (conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0;
    return rte_eth_dev_configure(o->port->id, info->rx_queues, info->tx_queues, &conf);
}

static int set_up_queues(struct opening *o)
{
    struct aio_port_shared *state = o->port->state;
    int socket = rte_eth_dev_socket_id(o->port->id), result;

    for (uint16_t q = 0; q < state->info.rx_queues; q++) {
        result = rte_eth_rx_queue_setup(o->port->id, q, state->info.rx_descriptors,
                                        (unsigned)socket, NULL, state->pools[q]);
        if (result < 0)
            return result;
    }
    for (uint16_t q = 0; q < state->info.tx_queues; q++) {
        result = rte_eth_tx_queue_setup(o->port->id, q, state->info.tx_descriptors,
                                        (unsigned)socket, NULL);
        if (result < 0)
            return result;
    }
    return 0;
}

static int bring_up(struct opening *o, bool interrupts)
{
    int result = configure(o, interrupts);

    if (result == 0)
        result = set_up_queues(o);
    if (result == 0)
        result = rte_eth_dev_start(o->port->id);
    return result;
}

static bool has_interrupts(const struct opening *o)
{
    for (uint16_t q = 0; q < o->port->state->info.rx_queues; q++)
        if (rte_eth_dev_rx_intr_ctl_q_get_fd(o->port->id, q) < 0)
            return false;
    return true;
}

/* Without interrupts, where the device has them but its kernel driver has not. */
static int start(struct opening *o)
{
    struct aio_port_shared *state = o->port->state;
    struct aio_dev_clock clock;
    int result = bring_up(o, o->options->interrupts);

    if (result < 0 && o->options->interrupts)
        result = bring_up(o, false);
    if (result < 0)
        return aio_dpdk_fail_log(o->message, result == -ENOMEM ? AIO_ENOMEM : AIO_EIO,
                                 "%s does not start: %s", o->name, rte_strerror(-result));
    state->info.interrupts = o->options->interrupts && has_interrupts(o);
    if (o->options->promiscuous)
        rte_eth_promiscuous_enable(o->port->id); /* virtual devices have no such thing */
    aio_rss_started(o->port->id, &o->dev, state->info.rx_queues, &state->info);
    if (state->info.timestamps && aio_clock_start(&clock, o->port->id))
        state->clock = AIO_CLOCK_DEVICE;
    else
        state->info.timestamps = state->clock == AIO_CLOCK_EPOCH_US;
    rte_eth_stats_reset(o->port->id);
    return AIO_OK;
}

static int size_up(struct opening *o)
{
    struct aio_dpdk_port_info *info = &o->port->state->info;
    uint16_t mtu = 0;

    info->rx_descriptors = info->tx_descriptors = o->options->descriptors;
    if (rte_eth_dev_adjust_nb_rx_tx_desc(o->port->id, &info->rx_descriptors,
                                         &info->tx_descriptors) < 0)
        return aio_dpdk_fail(o->message, AIO_EINVAL, "%s does not take %u descriptors",
                             o->name, o->options->descriptors);
    rte_eth_dev_get_mtu(o->port->id, &mtu);
    info->mtu = o->options->mtu ? o->options->mtu : mtu;
    rte_eth_macaddr_get(o->port->id, (struct rte_ether_addr *)info->mac);
    return AIO_OK;
}

/* libxdp and libbpf write to the terminal whatever comes to their minds. */
static int probe_quietly(struct opening *o)
{
    int saved, result;

    if (strncmp(o->device, "net_af_xdp", 10) != 0)
        return probe(o);
    saved = aio_log_stderr_begin();
    result = probe(o);
    aio_log_stderr_end(saved);
    return result;
}

static int start_quietly(struct opening *o)
{
    int saved, result;

    if (!o->port->state->keeps)
        return start(o);
    saved = aio_log_stderr_begin();
    result = start(o);
    aio_log_stderr_end(saved);
    return result;
}

static int open_device(struct opening *o)
{
    int result = probe_quietly(o);

    if (result < 0)
        return result;
    if (rte_eth_dev_info_get(o->port->id, &o->dev) < 0 || !make_state(o)) {
        result = aio_dpdk_fail(o->message, AIO_ENOMEM,
                               "no memory for %s, or it is open in "
                               "a process that died",
                               o->name);
    } else {
        describe(o);
        if ((result = check_limits(o)) == AIO_OK && (result = size_up(o)) == AIO_OK &&
            (result = make_pools(o)) == AIO_OK)
            result = start_quietly(o);
    }
    if (result < 0)
        aio_port_undo(o->port);
    return result;
}

int aio_dpdk_port_open(struct aio_dpdk_port **out, const char *device,
                       const struct aio_dpdk_port_options *options, char *message)
{
    struct opening o = {.device = device, .options = options, .message = message};
    int result;

    *out = NULL;
    message[0] = '\0';
    if (!aio_dpdk_started())
        return aio_dpdk_fail(message, AIO_EINVAL, "DPDK is not initialised");
    if (aio_dpdk_is_secondary())
        return aio_dpdk_fail(
            message, AIO_EINVAL,
            "a secondary process attaches to ports, its primary opens them");
    snprintf(o.name, sizeof o.name, "%.*s", (int)strcspn(device, ","), device);
    o.port = calloc(1, sizeof *o.port);
    if (!o.port)
        return aio_dpdk_fail(message, AIO_ENOMEM, "out of memory");
    aio_log_mark();
    o.port->id = RTE_MAX_ETHPORTS;
    result = open_device(&o);
    if (result < 0) {
        free(o.port);
        return result;
    }
    o.port->next = aio_dpdk_ports;
    aio_dpdk_ports = o.port;
    *out = o.port;
    return AIO_OK;
}
