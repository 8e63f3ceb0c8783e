/* netdev.h -- what the kernel says of its interfaces. */
#ifndef AIO_NETDEV_H
#define AIO_NETDEV_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

struct aio_netdev {
    char name[IF_NAMESIZE];
    uint32_t index; /* 0: all interfaces */
    uint32_t mtu;
    uint16_t arphrd; /* ARPHRD_* */
    bool up;         /* interface and carrier */
};

/* What a watch saw since it was asked last. */
struct aio_netdev_news {
    unsigned losses; /* changes from up to down */
    bool any;
    bool up; /* the latest, if any */
    bool gone;
};

/* 0, or an errno: ENODEV for a name that is none. "any" is all interfaces. */
int aio_netdev_find(const char *name, struct aio_netdev *dev);

/* The same by number, in the namespace of a socket, whatever its name is now. */
int aio_netdev_look(int fd, uint32_t index, struct aio_netdev *dev);

/* A descriptor for questions about interfaces of the present namespace, -1 without. */
int aio_netdev_questions(void);
/* rx_missed_errors: frames the device had no buffer for; 0 if it cannot be asked. */
uint64_t aio_netdev_missed(int questions, uint32_t index);

/* What the host uses an interface for: "an address", "the default route", or NULL for
 * nothing. Addresses of the link alone do not count, every interface has one. */
const char *aio_netdev_use(int questions, uint32_t index);

/* A descriptor that becomes readable when some interface changes, -1 without. */
int aio_netdev_watch(void);
/* Empties it. up: how the interface was before. */
struct aio_netdev_news aio_netdev_changes(int watch, uint32_t index, bool up);

#endif
