/* dpdk_close.c -- ports end: what they held goes back, and the pools are counted.
 *
 * Also how other processes come to a port and go from it, and what is done about those
 * that died.
 */
#include "dpdk_private.h"

#include <rte_dev.h>

#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#define DRAIN_MAX 65536 /* a device may give frames for ever (net_null) */

/* Pools whose mbufs still lie in the transmit ring of another port. */
struct orphan {
    struct rte_mempool *pool;
    struct orphan *next;
};

static struct orphan *orphans;

/* ---- pools that end ------------------------------------------------------------------------ */

static bool is_whole(struct rte_mempool *pool)
{
    return rte_mempool_full(pool);
}

/* Frees what is whole; at the end of the last port everything, and says how many mbufs
 * are missing. */
static uint32_t bury_orphans(bool last)
{
    uint32_t missing = 0;

    for (struct orphan **at = &orphans; *at;) {
        struct orphan *orphan = *at;

        if (!last && !is_whole(orphan->pool)) {
            at = &orphan->next;
            continue;
        }
        missing += rte_mempool_in_use_count(orphan->pool);
        rte_mempool_free(orphan->pool);
        *at = orphan->next;
        free(orphan);
    }
    return missing;
}

/* Transmit rings keep mbufs until they need the descriptor again. */
static void clean_transmit_rings(void)
{
    for (struct aio_dpdk_port *port = aio_dpdk_ports; port; port = port->next)
        for (uint16_t q = 0; q < port->state->info.tx_queues; q++)
            (void)rte_eth_tx_done_cleanup(port->id, q, 0);
}

static uint32_t retire(struct rte_mempool *pool, bool last)
{
    struct orphan *orphan;
    uint32_t missing;

    if (!last && !is_whole(pool) && (orphan = malloc(sizeof *orphan))) {
        *orphan = (struct orphan){.pool = pool, .next = orphans};
        orphans = orphan;
        return 0;
    }
    missing = rte_mempool_in_use_count(pool);
    rte_mempool_free(pool);
    return missing;
}

/* ---- a port ends ------------------------------------------------------------------------------- */

static void drain(const struct aio_dpdk_port *port, uint16_t queue)
{
    struct rte_mbuf *mbufs[AIO_BURST_MAX];
    uint16_t n;

    for (unsigned done = 0; done < DRAIN_MAX; done += n) {
        n = rte_eth_rx_burst(port->id, queue, mbufs, AIO_BURST_MAX);
        if (n == 0)
            break;
        rte_pktmbuf_free_bulk(mbufs, n);
    }
}

/* Also quiet: libxdp has something to say at the end too. */
static void remove_device(uint16_t id)
{
    struct rte_eth_dev_info info;
    int saved;

    if (id == RTE_MAX_ETHPORTS || rte_eth_dev_info_get(id, &info) < 0)
        return;
    saved = aio_log_stderr_begin();
    rte_eth_dev_close(id);
    rte_dev_remove(info.device);
    aio_log_stderr_end(saved);
}

static uint32_t free_state(struct aio_dpdk_port *port, bool last)
{
    uint32_t missing = 0;

    for (unsigned q = 0; q < RTE_MAX_QUEUES_PER_PORT && port->state->pools[q]; q++) {
        if (port->state->keeps) {
            missing += aio_mbuf_pool_marked(port->state->pools[q]);
            rte_mempool_free(port->state->pools[q]);
        } else {
            missing += retire(port->state->pools[q], last);
        }
    }
    rte_memzone_free(port->zone);
    return missing;
}

void aio_port_undo(struct aio_dpdk_port *port)
{
    if (port->id != RTE_MAX_ETHPORTS)
        rte_eth_dev_stop(port->id);
    remove_device(port->id);
    if (port->zone)
        free_state(port, true);
}

static void unlink_port(struct aio_dpdk_port *port)
{
    struct aio_dpdk_port **at = &aio_dpdk_ports;

    while (*at != port)
        at = &(*at)->next;
    *at = port->next;
}

int aio_dpdk_port_close(struct aio_dpdk_port *port, uint32_t *missing, char *message)
{
    char name[AIO_DPDK_NAME];
    bool last;

    *missing = 0;
    message[0] = '\0';
    if (port->users)
        return aio_dpdk_fail(message, AIO_EINVAL,
                             "%u sources of %s are open: close them "
                             "before",
                             port->users, port->state->info.name);
    unlink_port(port);
    if (port->attached) {
        free(port);
        return AIO_OK;
    }
    snprintf(name, sizeof name, "%s", port->state->info.name);
    last = aio_dpdk_ports == NULL;
    for (uint16_t q = 0; q < port->state->info.rx_queues; q++)
        drain(port, q);
    rte_eth_dev_stop(port->id);
    remove_device(port->id);
    clean_transmit_rings();
    *missing = free_state(port, last) + bury_orphans(last);
    free(port);
    if (*missing == 0)
        return AIO_OK;
    return aio_dpdk_fail(message, AIO_ENOMEM, "%s: %u mbufs did not come back", name,
                         *missing);
}

void aio_dpdk_port_abandon(struct aio_dpdk_port *port)
{
    char message[AIO_DPDK_MESSAGE];
    uint32_t missing;

    if (port->users)
        port->abandoned = true;
    else
        aio_dpdk_port_close(port, &missing, message);
}

void aio_port_leave(struct aio_dpdk_port *port, uint16_t queue)
{
    port->taken[queue] = false;
    if (--port->users == 0 && port->abandoned)
        aio_dpdk_port_abandon(port);
}

/* ---- other processes ------------------------------------------------------------------------- */

int aio_dpdk_port_attach(struct aio_dpdk_port **out, const char *name, char *message)
{
    char zone[RTE_MEMZONE_NAMESIZE];
    struct aio_dpdk_port *port;

    *out = NULL;
    message[0] = '\0';
    if (!aio_dpdk_started() || !aio_dpdk_is_secondary())
        return aio_dpdk_fail(message, AIO_EINVAL,
                             "only an initialised secondary process attaches to ports");
    port = calloc(1, sizeof *port);
    if (!port)
        return aio_dpdk_fail(message, AIO_ENOMEM, "out of memory");
    snprintf(zone, sizeof zone, "aiop_%.24s", name);
    port->zone = rte_memzone_lookup(zone);
    if (!port->zone || rte_eth_dev_get_port_by_name(name, &port->id) < 0) {
        free(port);
        return aio_dpdk_fail_log(message, AIO_EIO, "the primary has no port %s open", name);
    }
    port->state = port->zone->addr;
    port->attached = true;
    port->next = aio_dpdk_ports;
    aio_dpdk_ports = port;
    *out = port;
    return AIO_OK;
}

uint64_t aio_dpdk_port_taken(struct aio_dpdk_port *port, uint16_t queue)
{
    return aio_tally_get(&port->state->tallies[queue].taken);
}

uint64_t aio_dpdk_port_dropped(struct aio_dpdk_port *port, uint16_t queue)
{
    uint64_t n = aio_tally_get(&port->state->tallies[queue].dropped);
    struct aio_dpdk_port_counters now;

    if (queue == 0 && aio_dpdk_port_counters(port, &now) == 0)
        n += now.missed + (port->state->is_virtual ? now.no_memory : 0);
    return n;
}

uint64_t aio_dpdk_port_settle(struct aio_dpdk_port *port, uint16_t queue)
{
    return aio_tally_settle(&port->state->tallies[queue],
                            aio_dpdk_port_dropped(port, queue));
}

int aio_dpdk_port_recover(struct aio_dpdk_port *port, uint16_t queue, char *message)
{
    struct aio_port_shared *state = port->state;

    message[0] = '\0';
    if (queue >= state->info.rx_queues)
        return aio_dpdk_fail(message, AIO_EINVAL, "%s has no queue %u", state->info.name,
                             queue);
    if (!state->shared)
        return aio_dpdk_fail(message, AIO_EINVAL, "%s was not opened with shared=True",
                             state->info.name);
    if (port->taken[queue])
        return aio_dpdk_fail(message, AIO_EINVAL, "queue %u of %s is read by this process",
                             queue, state->info.name);
    aio_mbuf_pool_mend(state->pools[queue]);
    return (int)aio_mbuf_pool_reclaim(state->pools[queue], AIO_HELD_BY_RECEIVER);
}
