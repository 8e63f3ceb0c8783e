/* dpdk_rss.c -- spreading frames over queues so that both directions of a flow meet.
 *
 * Devices hash addresses and ports (Toeplitz) and look the queue up in a table. With a key
 * that repeats every 16 bits, swapping source and destination does not change the hash:
 * 6d5a is the one known to spread well. Some drivers have a symmetric function besides,
 * asked for through a flow rule. Virtual devices claim abilities that they do not have
 * (net_null, net_tap), so theirs are not believed.
 */
#include "dpdk_private.h"

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_flow.h>

#include <string.h>

#define AIO_RSS_TABLE 128 /* entries of the table of workers (aiomos/rss.py) */

#define WANTED                                                                             \
    (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_TCP |             \
     RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV4_OTHER | RTE_ETH_RSS_IPV6 |    \
     RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP | \
     RTE_ETH_RSS_NONFRAG_IPV6_OTHER)

bool aio_dev_is_virtual(const struct rte_eth_dev_info *info)
{
    return strcmp(rte_bus_name(rte_dev_bus(info->device)), "vdev") == 0;
}

static uint8_t key_length(const struct rte_eth_dev_info *info)
{
    return info->hash_key_size ? info->hash_key_size : 40;
}

static void fill_key(uint8_t *key, uint8_t length)
{
    for (unsigned i = 0; i < length; i++)
        key[i] = i % 2 ? 0x5a : 0x6d;
}

void aio_rss_configure(const struct rte_eth_dev_info *info, uint16_t queues,
                       struct rte_eth_conf *conf, uint8_t *key)
{
    uint64_t fields = info->flow_type_rss_offloads & WANTED;

    if (queues < 2 || fields == 0 || key_length(info) > AIO_RSS_KEY_MAX)
        return;
    fill_key(key, key_length(info));
    conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf->rxmode.offloads |= info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH;
    conf->rx_adv_conf.rss_conf.rss_key = key;
    conf->rx_adv_conf.rss_conf.rss_key_len = key_length(info);
    conf->rx_adv_conf.rss_conf.rss_hf = fields;
}

/* ---- the symmetric function ---------------------------------------------------------------- */

static struct rte_flow *rule(uint16_t port, enum rte_flow_item_type ip,
                             enum rte_flow_item_type l4,
                             const struct rte_flow_action_rss *rss)
{
    const struct rte_flow_attr attr = {.ingress = 1};
    const struct rte_flow_item pattern[] = {{.type = RTE_FLOW_ITEM_TYPE_ETH},
                                            {.type = ip},
                                            {.type = l4},
                                            {.type = RTE_FLOW_ITEM_TYPE_END}};
    const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_RSS, .conf = rss},
        {.type = RTE_FLOW_ACTION_TYPE_END}};
    struct rte_flow_error error;

    if (rte_flow_validate(port, &attr, pattern, actions, &error) != 0)
        return NULL;
    return rte_flow_create(port, &attr, pattern, actions, &error);
}

/* All kinds of traffic or none: half of the flows meeting is worse than knowing that they
 * do not. */
static bool use_symmetric_function(uint16_t port, const struct rte_eth_dev_info *info)
{
    static const struct {
        enum rte_flow_item_type ip, l4;
        uint64_t field;
    } kinds[] = {
        {RTE_FLOW_ITEM_TYPE_IPV4, RTE_FLOW_ITEM_TYPE_TCP, RTE_ETH_RSS_NONFRAG_IPV4_TCP},
        {RTE_FLOW_ITEM_TYPE_IPV4, RTE_FLOW_ITEM_TYPE_UDP, RTE_ETH_RSS_NONFRAG_IPV4_UDP},
        {RTE_FLOW_ITEM_TYPE_IPV6, RTE_FLOW_ITEM_TYPE_TCP, RTE_ETH_RSS_NONFRAG_IPV6_TCP},
        {RTE_FLOW_ITEM_TYPE_IPV6, RTE_FLOW_ITEM_TYPE_UDP, RTE_ETH_RSS_NONFRAG_IPV6_UDP},
    };
    struct rte_flow_error error;

    for (unsigned i = 0; i < RTE_DIM(kinds); i++) {
        struct rte_flow_action_rss rss = {
            .func = RTE_ETH_HASH_FUNCTION_SYMMETRIC_TOEPLITZ,
            .types = kinds[i].field,
        };

        if (!(info->flow_type_rss_offloads & kinds[i].field) ||
            !rule(port, kinds[i].ip, kinds[i].l4, &rss)) {
            rte_flow_flush(port, &error);
            return false;
        }
    }
    return true;
}

/* ---- the table, and what became of it all ----------------------------------------------------- */

/* A larger table repeats the one that software knows, so that queue and worker agree. */
static bool spread_table(uint16_t port, uint16_t size, uint16_t queues)
{
    struct rte_eth_rss_reta_entry64
        table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];

    if (size == 0 || size > RTE_ETH_RSS_RETA_SIZE_512)
        return false;
    memset(table, 0, sizeof table);
    for (unsigned i = 0; i < size; i++) {
        table[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1)
                                                   << i % RTE_ETH_RETA_GROUP_SIZE;
        table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
            (uint16_t)(i % AIO_RSS_TABLE % queues);
    }
    return rte_eth_dev_rss_reta_update(port, table, size) == 0;
}

/* Is the key that the device says it uses ours, for all fields that flows need? */
static bool key_in_use(uint16_t port, const struct rte_eth_dev_info *info)
{
    const uint64_t needed = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
                            RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
    uint8_t key[AIO_RSS_KEY_MAX] = {0}, ours[AIO_RSS_KEY_MAX];
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = key_length(info)};

    fill_key(ours, key_length(info));
    return rte_eth_dev_rss_hash_conf_get(port, &conf) == 0 &&
           (conf.rss_hf & needed) == needed && memcmp(key, ours, key_length(info)) == 0;
}

void aio_rss_started(uint16_t port, const struct rte_eth_dev_info *info, uint16_t queues,
                     struct aio_dpdk_port_info *out)
{
    bool spread;

    out->rss = AIO_RSS_NONE;
    out->reta_size = info->reta_size;
    if (queues < 2)
        return;
    out->rss = AIO_RSS_UNKNOWN;
    if (!(info->flow_type_rss_offloads & WANTED))
        return;
    spread = spread_table(port, info->reta_size, queues);
    if (aio_dev_is_virtual(info) || !spread)
        return;
    if (use_symmetric_function(port, info))
        out->rss = AIO_RSS_SYMMETRIC;
    else if (key_in_use(port, info))
        out->rss = AIO_RSS_KEY;
}
