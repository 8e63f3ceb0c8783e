/* source_file.c -- capture files as a source: windows are filled, a format turns them
 * into frames.
 *
 * Every record is contiguous: the beginning of one that the window's end cuts is moved to
 * the front of the next window before more is read behind it. Regular files are read by
 * position, and frames in their windows may be held for nothing; of gzip and pipes, where
 * memory is to be bounded whatever the consumer holds, retain() makes copies. */
#include "file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LINKTYPE_RAW 101
#define DLT_RAW 12 /* as some programs wrote it, and libpcap on Linux reads it */

static struct aio_file *file_of(struct aio_source *src)
{
    return (struct aio_file *)src;
}

uint16_t aio_link_type(uint32_t field)
{
    uint16_t link_type = field & 0xffff;

    return link_type == DLT_RAW ? LINKTYPE_RAW : link_type;
}

void aio_file_fail(struct aio_file *file, int result, const char *format, ...)
{
    struct aio_source *src = &file->base.pub;
    va_list args;
    int n = snprintf(src->message, sizeof src->message, "%s%s", file->name,
                     file->name[0] ? ": " : "");

    va_start(args, format);
    vsnprintf(src->message + n, sizeof src->message - (size_t)n, format, args);
    va_end(args);
    file->result = result;
}

/* ---- the end ---------------------------------------------------------------------- */

/* Descriptor and window are given up at once: of a thousand files merged, most have
 * ended. Frames keep their windows. */
static void file_finish(struct aio_file *file)
{
    aio_input_close(&file->in);
    aio_pcapng_end(file);
    file->window_offset = aio_file_offset(file);
    if (file->window)
        aio_owner_put(&file->window->owner);
    file->window = NULL;
    file->pos = file->end = NULL;
}

/* The cursor moves for the first time when the file header was understood. */
static bool file_in_header(const struct aio_file *file)
{
    return aio_file_offset(file) == file->in.start;
}

static void file_ended_in_header(struct aio_file *file)
{
    size_t left = aio_file_left(file);

    if (left == 0)
        aio_file_fail(file, AIO_ENOTCAPTURE, "empty file: not a capture");
    else if (left < 4)
        aio_file_fail(file, AIO_ENOTCAPTURE, "not a capture: it has only %zu bytes", left);
    else
        aio_file_fail(file, AIO_CUT, "cut off in the file header, after %zu bytes", left);
}

/* The input has no more bytes. */
static void file_ended(struct aio_file *file)
{
    if (file->in.cut)
        aio_file_fail(file, AIO_CUT, "gzip data ends early, after %llu bytes of it",
                      (unsigned long long)file->in.pos);
    else if (file_in_header(file))
        file_ended_in_header(file);
    else if (aio_file_left(file) || file->skip)
        aio_file_fail(file, AIO_CUT,
                      "cut off: the input ends inside the record at byte %llu",
                      (unsigned long long)aio_file_offset(file));
    else
        file->result = AIO_END;
}

/* ---- filling windows -------------------------------------------------------------- */

/* A place for file->need bytes from the cursor on; false without memory. */
static bool file_next_window(struct aio_file *file)
{
    struct aio_window *old = file->window, *window = old;
    size_t left = aio_file_left(file);
    bool reuse = old && old->owner.refs == 1 && old->size == file->windows.size;

    if (!reuse || file->need > old->size)
        window = aio_window_get(&file->windows, file->need);
    if (!window)
        return false;
    file->window_offset = aio_file_offset(file);
    if (left)
        memmove(window->data, file->pos, left);
    if (old && old != window)
        aio_owner_put(&old->owner);
    file->window = window;
    file->pos = window->data;
    file->end = window->data + left;
    return true;
}

static size_t file_room(const struct aio_file *file)
{
    return file->window ? (size_t)(file->window->data + file->window->size - file->end) : 0;
}

/* Reads until file->need bytes are there, or sets file->result. True: carry on. */
static bool file_fill(struct aio_file *file)
{
    while (aio_file_left(file) < file->need) {
        size_t missing = file->need - aio_file_left(file);
        ssize_t n;

        if (file_room(file) < missing && !file_next_window(file)) {
            aio_file_fail(file, AIO_ENOMEM, "out of memory for a record of %zu bytes",
                          file->need);
            return false;
        }
        n = aio_input_read(&file->in, (uint8_t *)file->end, file_room(file));
        if (n > 0) {
            file->end += n;
            continue;
        }
        if (n == 0)
            file_ended(file);
        else if (n != AIO_INTERRUPTED)
            aio_file_fail(file, (int)n, "%s", file->in.error);
        return false;
    }
    return true;
}

/* ---- the format, from the magic --------------------------------------------------- */

static const char *packed_by(const uint8_t *p)
{
    static const struct {
        uint8_t magic[4];
        const char *unpacker;
    } packers[] = {
        {{0x28, 0xb5, 0x2f, 0xfd}, "zstd -dc"},
        {{0xfd, '7', 'z', 'X'}, "xz -dc"},
        {{0x04, 0x22, 0x4d, 0x18}, "lz4 -dc"},
        {{'B', 'Z', 'h', '9'}, "bzip2 -dc"},
    };

    for (size_t i = 0; i < sizeof packers / sizeof packers[0]; i++)
        if (memcmp(p, packers[i].magic, 4) == 0)
            return packers[i].unpacker;
    return NULL;
}

static unsigned parse_magic(struct aio_file *file, struct aio_frame *out, unsigned max)
{
    const uint8_t *p = file->pos;

    (void)out, (void)max;
    file->need = 4;
    if (aio_file_left(file) < 4 || aio_pcap_begin(file) || aio_pcapng_begin(file))
        return 0;
    if (packed_by(p))
        aio_file_fail(file, AIO_ENOTCAPTURE,
                      "compressed; unpack it with %s and read from -", packed_by(p));
    else
        aio_file_fail(file, AIO_ENOTCAPTURE,
                      "not a pcap or pcapng file (first bytes %02x %02x %02x %02x)", p[0],
                      p[1], p[2], p[3]);
    return 0;
}

/* ---- operations ------------------------------------------------------------------- */

/* Of a pipe, whatever is complete is handed out before anybody waits for more. */
static int file_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_file *file = file_of(src);
    unsigned n = 0;

    while (!file->result) {
        unsigned more = file->parse(file, out + n, max - n);

        if (more)
            file->window->owner.refs += more;
        n += more;
        if (n == max || file->result || (n && !file->in.seekable))
            break;
        if (!file_fill(file))
            break;
    }
    if (file->result && file->in.fd >= 0)
        file_finish(file);
    file->base.stats.frames += n;
    file->base.stats.outstanding += n;
    return n ? (int)n : file->result;
}

/* To be waited on after a burst that brought less than was asked for: what came in
 * before is in the window then, and no longer in the pipe. */
static int file_descriptor(struct aio_source *src)
{
    struct aio_file *file = file_of(src);

    return file->in.pollable ? file->in.fd : -1;
}

static void file_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_file *file = file_of(src);

    *out = file->base.stats;
    out->input_pos = file->in.gzip ? file->in.pos : aio_file_offset(file);
    out->input_size = file->in.size;
}

static void file_close(struct aio_source *src)
{
    struct aio_file *file = file_of(src);

    file_finish(file);
    aio_base_close(&file->base);
    aio_windows_free(&file->windows);
    free(file);
}

static const struct aio_source_ops file_ops = {
    .burst = file_burst,
    .release = aio_base_release,
    .retain = aio_base_retain,
    .transmit = aio_base_no_transmit,
    .descriptor = file_descriptor,
    .stats = file_stats,
    .close = file_close,
};

/* ---- opening ---------------------------------------------------------------------- */

/* The end of the path: what fits in front of a message and still tells files apart. */
static void file_set_name(struct aio_file *file, const char *path)
{
    size_t len = strlen(path), room = sizeof file->name - 1;

    if (!file->in.own_fd)
        path = "standard input";
    else if (len > room)
        path += len - room;
    strcpy(file->name, path);
}

/* Reads the file header; false when it is none. A pipe's header is left to the first
 * burst, so that opening never waits for somebody to write. */
static bool file_prime(struct aio_file *file)
{
    if (!file->in.seekable)
        return true;
    while (file_in_header(file) && !file->result) {
        file->parse(file, NULL, 0);
        if (file_in_header(file) && !file->result)
            file_fill(file);
    }
    return file->result == 0;
}

static void file_set_caps(struct aio_file *file)
{
    bool bounded = file->in.gzip || !file->in.seekable;

    file->base.pub.caps = bounded ? AIO_CAP_RING : AIO_CAP_RETAIN_FREE;
}

static int file_start(struct aio_file *file, const char *path,
                      const struct aio_file_options *opt)
{
    static const struct aio_file_options defaults;
    int r;

    opt = opt ? opt : &defaults;
    if (opt->port > UINT16_MAX)
        return aio_fail(&file->base.pub, AIO_EINVAL, "port %u is beyond 65535", opt->port);
    aio_base_init(&file->base, &file_ops, 0, opt->retain_budget);
    aio_windows_init(&file->windows, &file->base, opt->window_size);
    file->port_base = (uint16_t)opt->port;
    file->parse = parse_magic;
    r = aio_input_open(&file->in, path);
    if (r < 0)
        return aio_fail(&file->base.pub, r, "%s", file->in.error);
    file->window_offset = file->in.start;
    if (!file_prime(file))
        return file->result;
    file_set_caps(file);
    file_set_name(file, path);
    file->parse(file, NULL, 0); /* what stands before the first packet: interfaces */
    return AIO_OK;
}

int aio_file_open(struct aio_source **out, const char *path,
                  const struct aio_file_options *opt, char *message)
{
    struct aio_file *file = calloc(1, sizeof *file);
    int r, error;

    *out = NULL;
    if (!file) {
        strcpy(message, "out of memory");
        return AIO_ENOMEM;
    }
    file->in.fd = -1;
    r = file_start(file, path, opt);
    if (r == AIO_OK) {
        *out = &file->base.pub;
        return r;
    }
    error = r == AIO_EIO ? errno : 0;
    strcpy(message, file->base.pub.message);
    file_close(&file->base.pub);
    errno = error; /* for callers that want more than the message */
    return r;
}
