/* gunzip.c -- the gzip layer of an input: any number of members, one after the other. */
#include "input.h"
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define RAW_SIZE 65536

struct aio_gunzip {
    z_stream z;
    bool in_member; /* between the first byte of a member and its last */
    bool done;      /* what follows the last member is not gzip: ignored, as gzip does */
    uint8_t raw[RAW_SIZE];
};

struct aio_gunzip *aio_gunzip_new(void)
{
    struct aio_gunzip *gz = calloc(1, sizeof *gz);

    if (!gz)
        return NULL;
    gz->z.next_in = gz->raw;
    if (inflateInit2(&gz->z, 15 + 16) == Z_OK)
        return gz;
    free(gz);
    return NULL;
}

void aio_gunzip_free(struct aio_gunzip *gz)
{
    if (!gz)
        return;
    inflateEnd(&gz->z);
    free(gz);
}

/* More compressed bytes behind those that are left. As aio_input_read(). */
static ssize_t gunzip_more(struct aio_gunzip *gz, struct aio_input *in)
{
    ssize_t n;

    memmove(gz->raw, gz->z.next_in, gz->z.avail_in);
    gz->z.next_in = gz->raw;
    n = aio_input_read_raw(in, gz->raw + gz->z.avail_in, RAW_SIZE - gz->z.avail_in);
    if (n > 0)
        gz->z.avail_in += (unsigned)n;
    return n;
}

/* Is there another member? 1: yes, with its magic in front of us; 0: no more. */
static ssize_t gunzip_next_member(struct aio_gunzip *gz, struct aio_input *in)
{
    while (gz->z.avail_in < 2) {
        ssize_t n = gunzip_more(gz, in);

        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    gz->done = gz->z.avail_in < 2 || gz->z.next_in[0] != 0x1f || gz->z.next_in[1] != 0x8b;
    if (gz->done)
        return 0;
    inflateReset(&gz->z);
    gz->in_member = true;
    return 1;
}

static int gunzip_corrupt(struct aio_gunzip *gz, struct aio_input *in)
{
    snprintf(in->error, sizeof in->error, "gzip data is damaged before byte %llu: %s",
             (unsigned long long)(in->pos - gz->z.avail_in),
             gz->z.msg ? gz->z.msg : "no reason given");
    return AIO_ECORRUPT;
}

/* Inflates what is there. Bytes made; 0: needs input, or the member is over; < 0. */
static ssize_t gunzip_step(struct aio_gunzip *gz, struct aio_input *in, uint8_t *buf,
                           size_t len)
{
    unsigned room = len < (1u << 30) ? (unsigned)len : 1u << 30;
    int r;

    gz->z.next_out = buf;
    gz->z.avail_out = room;
    r = inflate(&gz->z, Z_NO_FLUSH);
    if (r == Z_STREAM_END)
        gz->in_member = false;
    else if (r != Z_OK && r != Z_BUF_ERROR && gz->z.avail_out == room)
        return gunzip_corrupt(gz, in);
    return (ssize_t)(room - gz->z.avail_out);
}

ssize_t aio_gunzip_read(struct aio_gunzip *gz, struct aio_input *in, uint8_t *buf,
                        size_t len)
{
    while (!gz->done) {
        ssize_t n = gz->in_member ? 1 : gunzip_next_member(gz, in);

        if (n <= 0)
            return n;
        n = gunzip_step(gz, in, buf, len);
        if (n != 0)
            return n;
        if (!gz->in_member || gz->z.avail_in)
            continue;
        n = gunzip_more(gz, in);
        if (n == 0)
            in->cut = true;
        if (n <= 0)
            return n;
    }
    return 0;
}
