/* netdev.c -- interfaces by ioctl and by rtnetlink. */
#include "netdev.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MTU_OF_ANY 1500 /* of most interfaces; longer frames come as copies */

static bool flags_up(unsigned flags)
{
    return (flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

static int ask(int fd, struct aio_netdev *dev)
{
    struct ifreq req;

    memset(&req, 0, sizeof req);
    memcpy(req.ifr_name, dev->name, sizeof dev->name);
    if (ioctl(fd, SIOCGIFINDEX, &req) < 0)
        return errno;
    dev->index = (uint32_t)req.ifr_ifindex;
    if (ioctl(fd, SIOCGIFMTU, &req) < 0)
        return errno;
    dev->mtu = (uint32_t)req.ifr_mtu;
    if (ioctl(fd, SIOCGIFHWADDR, &req) < 0)
        return errno;
    dev->arphrd = req.ifr_hwaddr.sa_family;
    if (ioctl(fd, SIOCGIFFLAGS, &req) < 0)
        return errno;
    dev->up = flags_up((unsigned short)req.ifr_flags);
    return 0;
}

int aio_netdev_find(const char *name, struct aio_netdev *dev)
{
    int fd, error;

    memset(dev, 0, sizeof *dev);
    if (!*name || strlen(name) >= sizeof dev->name)
        return ENODEV;
    strcpy(dev->name, name);
    if (strcmp(name, "any") == 0) {
        dev->mtu = MTU_OF_ANY;
        dev->arphrd = ARPHRD_VOID;
        dev->up = true;
        return 0;
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    error = ask(fd, dev);
    close(fd);
    return error;
}

int aio_netdev_look(int fd, uint32_t index, struct aio_netdev *dev)
{
    struct ifreq req = {.ifr_ifindex = (int)index};

    memset(dev, 0, sizeof *dev);
    if (ioctl(fd, SIOCGIFNAME, &req) < 0)
        return errno;
    memcpy(dev->name, req.ifr_name, sizeof dev->name);
    return ask(fd, dev);
}

/* ---- rtnetlink -------------------------------------------------------------------- */

struct stats_request {
    struct nlmsghdr head;
    struct if_stats_msg body;
};

static uint64_t stats_missed(const struct nlmsghdr *head, ssize_t n)
{
    const struct rtattr *attr;
    struct rtnl_link_stats64 stats;
    int left;

    if (!NLMSG_OK(head, n) || head->nlmsg_type != RTM_NEWSTATS)
        return 0;
    left = (int)NLMSG_PAYLOAD(head, sizeof(struct if_stats_msg));
    attr = (const void *)((const uint8_t *)NLMSG_DATA(head) +
                          NLMSG_ALIGN(sizeof(struct if_stats_msg)));
    for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
        if (attr->rta_type != IFLA_STATS_LINK_64)
            continue;
        memset(&stats, 0, sizeof stats);
        memcpy(&stats, RTA_DATA(attr),
               RTA_PAYLOAD(attr) < sizeof stats ? RTA_PAYLOAD(attr) : sizeof stats);
        return stats.rx_missed_errors;
    }
    return 0;
}

int aio_netdev_questions(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

uint64_t aio_netdev_missed(int questions, uint32_t index)
{
    struct stats_request request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = RTM_GETSTATS,
                 .nlmsg_flags = NLM_F_REQUEST},
        .body = {.ifindex = index,
                 .filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)},
    };
    _Alignas(struct nlmsghdr) uint8_t answer[4096];
    ssize_t n = -1;

    if (questions < 0 || index == 0)
        return 0;
    if (send(questions, &request, sizeof request, 0) == (ssize_t)sizeof request)
        n = recv(questions, answer, sizeof answer, 0);
    return n > 0 ? stats_missed((const struct nlmsghdr *)answer, n) : 0;
}

/* ---- dumps ------------------------------------------------------------------------ */

typedef bool (*match_fn)(const struct nlmsghdr *head, uint32_t index);

static const void *attribute(const struct nlmsghdr *head, size_t body, unsigned short type)
{
    const struct rtattr *attr =
        (const void *)((const uint8_t *)NLMSG_DATA(head) + NLMSG_ALIGN(body));
    int left = (int)NLMSG_PAYLOAD(head, body);

    for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
        if (attr->rta_type == type)
            return RTA_DATA(attr);
    return NULL;
}

static bool is_address(const struct nlmsghdr *head, uint32_t index)
{
    const struct ifaddrmsg *body = NLMSG_DATA(head);

    return head->nlmsg_type == RTM_NEWADDR && body->ifa_index == index &&
           body->ifa_scope < RT_SCOPE_LINK;
}

static bool is_default_route(const struct nlmsghdr *head, uint32_t index)
{
    const struct rtmsg *body = NLMSG_DATA(head);
    const uint32_t *device;

    if (head->nlmsg_type != RTM_NEWROUTE || body->rtm_dst_len != 0 ||
        body->rtm_type != RTN_UNICAST)
        return false;
    device = attribute(head, sizeof *body, RTA_OIF);
    return device && *device == index;
}

/* True when one message of a dump matches; the dump is read to its end. */
static bool dump_has(int fd, uint16_t type, match_fn matches, uint32_t index)
{
    struct {
        struct nlmsghdr head;
        struct rtmsg body; /* the longest of those asked with; zeros ask for all */
    } request = {.head = {.nlmsg_len = sizeof request,
                          .nlmsg_type = type,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    _Alignas(struct nlmsghdr) uint8_t buffer[32768];
    bool found = false;
    ssize_t n;

    if (send(fd, &request, sizeof request, 0) < 0)
        return false;
    while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
        const struct nlmsghdr *head = (const struct nlmsghdr *)buffer;

        for (; NLMSG_OK(head, n); head = NLMSG_NEXT(head, n)) {
            if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR)
                return found;
            found = found || matches(head, index);
        }
    }
    return found;
}

const char *aio_netdev_use(int questions, uint32_t index)
{
    if (questions < 0)
        return NULL;
    if (dump_has(questions, RTM_GETADDR, is_address, index))
        return "an address";
    return dump_has(questions, RTM_GETROUTE, is_default_route, index) ? "the default route"
                                                                      : NULL;
}

int aio_netdev_watch(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void change(struct aio_netdev_news *news, const struct ifinfomsg *info)
{
    bool up = flags_up(info->ifi_flags);

    if (news->up && !up)
        news->losses++;
    news->any = true;
    news->up = up;
}

/* A bridge tells of its ports under the same types, with its own family. */
struct aio_netdev_news aio_netdev_changes(int watch, uint32_t index, bool up)
{
    struct aio_netdev_news news = {.up = up};
    _Alignas(struct nlmsghdr) uint8_t buffer[16384];
    ssize_t n;

    while ((n = recv(watch, buffer, sizeof buffer, 0)) > 0 || errno == ENOBUFS) {
        const struct nlmsghdr *head = (const struct nlmsghdr *)buffer;

        for (; n > 0 && NLMSG_OK(head, n); head = NLMSG_NEXT(head, n)) {
            const struct ifinfomsg *info = NLMSG_DATA(head);

            if (info->ifi_family != AF_UNSPEC || (uint32_t)info->ifi_index != index)
                continue;
            if (head->nlmsg_type == RTM_NEWLINK)
                change(&news, info);
            else if (head->nlmsg_type == RTM_DELLINK)
                news.gone = true;
        }
    }
    return news;
}
