/* offload.h -- what a frame leaves to the kernel when it is sent: a checksum to be filled
 * in, a segmentation to be done. */
#ifndef AIO_OFFLOAD_H
#define AIO_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

/* Bytes of a frame that are looked at, and that may be changed. */
#define AIO_OFFLOAD_HEAD 256u

/* Describes an Ethernet frame of frame_len bytes, whose first head_len lie at head, to be
 * sent by an interface of this MTU, and puts the sum of the pseudo header where the kernel
 * wants it. segment: bytes of payload the pieces shall have, 0 = as many as fit. False
 * when the frame is nothing the kernel could finish: then it goes as it is. */
bool aio_offload_describe(uint8_t *head, uint32_t head_len, uint32_t frame_len,
                          uint32_t mtu, uint16_t segment, struct virtio_net_hdr *out);

/* Fills in the checksum of a whole Ethernet frame, if there is one to be filled. */
void aio_offload_fill(uint8_t *frame, uint32_t len);

#endif
