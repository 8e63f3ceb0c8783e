/* frame.c -- reading a frame that may lie in several pieces. */
#include "shim.h"

#include <string.h>

/* What a copy still has to skip, and where it writes. */
struct copy {
    uint32_t skip;
    uint32_t left;
    uint8_t *out;
};

static void copy_piece(struct copy *copy, const uint8_t *data, uint32_t len)
{
    if (copy->skip >= len) {
        copy->skip -= len;
        return;
    }
    len -= copy->skip;
    if (len > copy->left)
        len = copy->left;
    memcpy(copy->out, data + copy->skip, len);
    copy->out += len;
    copy->left -= len;
    copy->skip = 0;
}

uint32_t aio_frame_copy(const struct aio_frame *frame, uint32_t offset, uint32_t len,
                        uint8_t *out)
{
    struct copy copy = {.skip = offset, .left = len, .out = out};

    if (len == 0)
        return 0;
    copy_piece(&copy, frame->data, frame->head_len);
    for (const struct aio_seg *seg = frame->next; seg && copy.left; seg = seg->next)
        copy_piece(&copy, seg->data, seg->len);
    return len - copy.left;
}
