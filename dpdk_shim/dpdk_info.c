/* dpdk_info.c -- what can be asked of ports: link, counters, names. */
#include "dpdk_private.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

void aio_dpdk_port_info(struct aio_dpdk_port *port, struct aio_dpdk_port_info *out)
{
    struct rte_eth_link link;

    *out = port->state->info;
    if (rte_eth_link_get_nowait(port->id, &link) == 0) {
        out->up = link.link_status;
        out->full_duplex = link.link_duplex;
        out->speed_mbps = link.link_speed;
    }
}

int aio_dpdk_port_counters(struct aio_dpdk_port *port, struct aio_dpdk_port_counters *out)
{
    struct rte_eth_stats stats;

    memset(out, 0, sizeof *out);
    if (rte_eth_stats_get(port->id, &stats) < 0)
        return AIO_ENOTSUP;
    out->received = stats.ipackets;
    out->received_bytes = stats.ibytes;
    out->sent = stats.opackets;
    out->sent_bytes = stats.obytes;
    out->missed = stats.imissed;
    out->no_memory = stats.rx_nombuf;
    out->errors = stats.ierrors;
    out->send_errors = stats.oerrors;
    return AIO_OK;
}

uint32_t aio_dpdk_port_in_use(struct aio_dpdk_port *port, uint16_t queue)
{
    struct rte_mempool *pool = port->state->pools[queue];

    return pool ? rte_mempool_in_use_count(pool) : 0;
}

int aio_dpdk_port_xstats(struct aio_dpdk_port *port, char (*names)[AIO_DPDK_NAME],
                         uint64_t *values, unsigned max)
{
    int n = rte_eth_xstats_get(port->id, NULL, 0);
    struct rte_eth_xstat_name *name;
    struct rte_eth_xstat *stat;

    if (n <= 0 || max < (unsigned)n)
        return n < 0 ? AIO_ENOTSUP : n;
    name = calloc((size_t)n, sizeof *name);
    stat = calloc((size_t)n, sizeof *stat);
    if (name && stat && rte_eth_xstats_get_names(port->id, name, (unsigned)n) == n &&
        rte_eth_xstats_get(port->id, stat, (unsigned)n) == n) {
        for (int i = 0; i < n; i++) {
            snprintf(names[i], AIO_DPDK_NAME, "%s", name[stat[i].id].name);
            values[i] = stat[i].value;
        }
    } else {
        n = AIO_EIO;
    }
    free(name);
    free(stat);
    return n;
}

unsigned aio_dpdk_port_names(char (*names)[AIO_DPDK_NAME], unsigned max)
{
    char name[RTE_ETH_NAME_MAX_LEN];
    unsigned n = 0;
    uint16_t id;

    if (!aio_dpdk_started())
        return 0;
    RTE_ETH_FOREACH_DEV(id)
    {
        if (rte_eth_dev_get_name_by_port(id, name) < 0)
            continue;
        if (n < max)
            snprintf(names[n], AIO_DPDK_NAME, "%s", name);
        n++;
    }
    return n;
}
