/* writer.c -- frames into a capture file: pcap with micro- or nanoseconds, or pcapng.
 *
 * All is written through one buffer. The first error sticks: everything after it is
 * refused with the same result, so that nobody takes half a file for a whole one. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_SIZE 65536u
#define DEFAULT_SNAP_LEN 262144u
#define NS_PER_S 1000000000

#define LINKTYPE_ETHERNET 1
#define MAX_TAGS 2u
#define VLAN_TYPE_AT 12 /* bytes of Ethernet addresses before the tags */

struct interface {
    uint16_t link_type, port;
};

struct aio_writer {
    int fd;
    int format; /* enum aio_writer_format */
    int result; /* the first error, or AIO_OK */
    bool begun; /* the file header is in the buffer, or out */
    uint16_t link_type;
    uint32_t snap_len;
    struct interface *interfaces; /* pcapng: described so far */
    uint32_t n_interfaces, last_interface;
    size_t filled;
    char message[256];
    uint8_t buffer[BUFFER_SIZE];
};

static int writer_fail(struct aio_writer *w, int result, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(w->message, sizeof w->message, format, args);
    va_end(args);
    return result;
}

/* ---- bytes ------------------------------------------------------------------------ */

static void write_out(struct aio_writer *w, const uint8_t *data, size_t len)
{
    while (len && w->result == AIO_OK) {
        ssize_t n = write(w->fd, data, len);

        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno != EINTR) {
            w->result = writer_fail(w, AIO_EIO, "writing failed: %s", strerror(errno));
        }
    }
}

static void drain(struct aio_writer *w)
{
    write_out(w, w->buffer, w->filled);
    w->filled = 0;
}

static void put(struct aio_writer *w, const void *data, size_t len)
{
    if (len > BUFFER_SIZE - w->filled)
        drain(w);
    if (len > BUFFER_SIZE) {
        write_out(w, data, len);
    } else if (len) {
        memcpy(w->buffer + w->filled, data, len);
        w->filled += len;
    }
}

static void put16(struct aio_writer *w, uint16_t v)
{
    put(w, &v, sizeof v);
}

static void put32(struct aio_writer *w, uint32_t v)
{
    put(w, &v, sizeof v);
}

static void put_zeros(struct aio_writer *w, size_t len)
{
    static const uint8_t zeros[4];

    put(w, zeros, len);
}

/* ---- a frame's bytes, with the tags that the device took out put back -------------- */

/* How many stripped tags there are to be put back. */
static unsigned tags_of(const struct aio_frame *frame)
{
    if (frame->link_type != LINKTYPE_ETHERNET || frame->head_len < VLAN_TYPE_AT)
        return 0;
    return frame->n_vlan < MAX_TAGS ? frame->n_vlan : MAX_TAGS;
}

/* The tags as they stood on the wire; their length. */
static uint32_t make_tags(const struct aio_frame *frame, unsigned n, uint8_t *out)
{
    for (unsigned i = 0; i < n; i++) {
        bool outer = i + 1 < n;

        *out++ = outer ? 0x88 : 0x81;
        *out++ = outer ? 0xa8 : 0x00;
        *out++ = (uint8_t)(frame->vlan[i] >> 8);
        *out++ = (uint8_t)frame->vlan[i];
    }
    return 4 * n;
}

/* A piece of the frame, or as much of it as is left to write. */
static void put_piece(struct aio_writer *w, const uint8_t *data, uint32_t len,
                      uint32_t *left)
{
    if (len > *left)
        len = *left;
    put(w, data, len);
    *left -= len;
}

/* The first len bytes of the frame as it was on the wire: addresses, tags, the rest. */
static void put_frame(struct aio_writer *w, const struct aio_frame *frame, uint32_t len)
{
    unsigned n = tags_of(frame);
    uint32_t split = n ? VLAN_TYPE_AT : 0;
    uint8_t tags[4 * MAX_TAGS];

    put_piece(w, frame->data, split, &len);
    put_piece(w, tags, make_tags(frame, n, tags), &len);
    put_piece(w, frame->data + split, frame->head_len - split, &len);
    for (const struct aio_seg *seg = frame->next; seg && len; seg = seg->next)
        put_piece(w, seg->data, seg->len, &len);
}

/* What a record says of a frame. */
struct record {
    uint32_t cap_len, wire_len;
    uint64_t time_ns;
};

static struct record record_of(const struct aio_writer *w, const struct aio_frame *frame)
{
    struct record rec;

    rec.cap_len = frame->cap_len + 4 * tags_of(frame);
    rec.wire_len = frame->wire_len + 4 * tags_of(frame);
    if (rec.cap_len > w->snap_len)
        rec.cap_len = w->snap_len;
    if (rec.wire_len < rec.cap_len)
        rec.wire_len = rec.cap_len;
    rec.time_ns = frame->time_ns > 0 ? (uint64_t)frame->time_ns : 0;
    return rec;
}

/* ---- pcap ------------------------------------------------------------------------- */

static void pcap_begin(struct aio_writer *w)
{
    put32(w, w->format == AIO_WRITE_PCAP_NS ? 0xa1b23c4du : 0xa1b2c3d4u);
    put16(w, 2);
    put16(w, 4);
    put32(w, 0);
    put32(w, 0);
    put32(w, w->snap_len);
    put32(w, w->link_type);
}

static int pcap_write(struct aio_writer *w, const struct aio_frame *frame,
                      const struct record *rec)
{
    uint64_t seconds = rec->time_ns / NS_PER_S;
    uint32_t ns = (uint32_t)(rec->time_ns % NS_PER_S);

    if (frame->link_type != w->link_type)
        return writer_fail(w, AIO_EINVAL,
                           "pcap has one link type for all frames: this file's is %u, the "
                           "frame's %u; write pcapng",
                           w->link_type, frame->link_type);
    put32(w, seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX);
    put32(w, w->format == AIO_WRITE_PCAP_NS ? ns : ns / 1000);
    put32(w, rec->cap_len);
    put32(w, rec->wire_len);
    put_frame(w, frame, rec->cap_len);
    return w->result;
}

/* ---- pcapng ----------------------------------------------------------------------- */

static void pcapng_begin(struct aio_writer *w)
{
    put32(w, 0x0a0d0d0au);
    put32(w, 28);
    put32(w, 0x1a2b3c4du);
    put16(w, 1);
    put16(w, 0);
    put32(w, UINT32_MAX); /* section length: not known */
    put32(w, UINT32_MAX);
    put32(w, 28);
}

static void pcapng_describe(struct aio_writer *w, uint16_t link_type)
{
    static const uint8_t resolution[4] = {9}; /* and padding */

    put32(w, 1);
    put32(w, 32);
    put16(w, link_type);
    put16(w, 0);
    put32(w, w->snap_len);
    put16(w, 9); /* if_tsresol: 10 ** -9 s */
    put16(w, 1);
    put(w, resolution, sizeof resolution);
    put32(w, 0); /* end of options */
    put32(w, 32);
}

static bool same_interface(const struct interface *iface, const struct aio_frame *frame)
{
    return iface->link_type == frame->link_type && iface->port == frame->port;
}

/* One interface for each link type and port, described when first met. */
static int pcapng_interface(struct aio_writer *w, const struct aio_frame *frame)
{
    struct interface *grown;
    uint32_t i = w->last_interface;

    if (i < w->n_interfaces && same_interface(&w->interfaces[i], frame))
        return AIO_OK;
    for (i = 0; i < w->n_interfaces; i++)
        if (same_interface(&w->interfaces[i], frame))
            break;
    w->last_interface = i;
    if (i < w->n_interfaces)
        return AIO_OK;
    grown = realloc(w->interfaces, (i + 1) * sizeof *grown);
    if (!grown)
        return w->result = writer_fail(w, AIO_ENOMEM, "out of memory");
    grown[i] = (struct interface){frame->link_type, frame->port};
    w->interfaces = grown;
    w->n_interfaces++;
    pcapng_describe(w, frame->link_type);
    return w->result;
}

static int pcapng_write(struct aio_writer *w, const struct aio_frame *frame,
                        const struct record *rec)
{
    uint32_t padding = -rec->cap_len & 3;
    uint32_t options = frame->direction == AIO_DIR_UNKNOWN ? 0 : 12;
    uint32_t block = 32 + rec->cap_len + padding + options;

    if (pcapng_interface(w, frame) < 0)
        return w->result;
    put32(w, 6);
    put32(w, block);
    put32(w, w->last_interface);
    put32(w, (uint32_t)(rec->time_ns >> 32));
    put32(w, (uint32_t)rec->time_ns);
    put32(w, rec->cap_len);
    put32(w, rec->wire_len);
    put_frame(w, frame, rec->cap_len);
    put_zeros(w, padding);
    if (options) {
        put16(w, 2); /* epb_flags: 1 = inbound, 2 = outbound, as in enum aio_direction */
        put16(w, 4);
        put32(w, frame->direction);
        put32(w, 0);
    }
    put32(w, block);
    return w->result;
}

/* ---- interface -------------------------------------------------------------------- */

int aio_writer_open(struct aio_writer **out, const char *path, int format,
                    uint32_t snap_len, uint16_t link_type, char *message)
{
    struct aio_writer *w;
    bool to_stdout = strcmp(path, "-") == 0;

    *out = NULL;
    errno = 0;
    message[0] = '\0';
    if (format < AIO_WRITE_PCAP_US || format > AIO_WRITE_PCAPNG) {
        strcpy(message, "no such capture format");
        return AIO_EINVAL;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        strcpy(message, "out of memory");
        return AIO_ENOMEM;
    }
    w->fd = to_stdout ? STDOUT_FILENO
                      : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        int error = errno;

        snprintf(message, 256, "%s", strerror(error));
        free(w);
        errno = error;
        return AIO_EIO;
    }
    w->format = format;
    w->link_type = link_type;
    w->snap_len = snap_len ? snap_len : DEFAULT_SNAP_LEN;
    *out = w;
    return AIO_OK;
}

static void begin(struct aio_writer *w)
{
    if (w->format == AIO_WRITE_PCAPNG)
        pcapng_begin(w);
    else
        pcap_begin(w);
    w->begun = true;
}

int aio_writer_write(struct aio_writer *w, const struct aio_frame *frame)
{
    struct record rec;

    if (w->result < 0)
        return w->result;
    if (!w->begun) {
        w->link_type = frame->link_type;
        begin(w);
    }
    rec = record_of(w, frame);
    if (w->format == AIO_WRITE_PCAPNG)
        return pcapng_write(w, frame, &rec);
    return pcap_write(w, frame, &rec);
}

const char *aio_writer_message(const struct aio_writer *w)
{
    return w->message;
}

int aio_writer_flush(struct aio_writer *w)
{
    drain(w);
    return w->result;
}

/* A capture without frames still says of which link type it has none. */
static void finish(struct aio_writer *w)
{
    if (w->begun)
        return;
    begin(w);
    if (w->format == AIO_WRITE_PCAPNG)
        pcapng_describe(w, w->link_type);
}

int aio_writer_close(struct aio_writer *w)
{
    int result;

    finish(w);
    result = aio_writer_flush(w);
    if (w->fd != STDOUT_FILENO && close(w->fd) < 0 && result == AIO_OK)
        result = AIO_EIO;
    free(w->interfaces);
    free(w);
    return result;
}
