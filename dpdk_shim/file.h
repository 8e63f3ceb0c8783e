/* file.h -- a capture file being read: the window under the cursor, and the format that
 * turns its bytes into frames. Seen by source_file.c and the formats only. */
#ifndef AIO_FILE_H
#define AIO_FILE_H

#include "base.h"
#include "input.h"
#include "window.h"

#include <string.h>

/* No capture tool writes a longer record; a length beyond it is damage. */
#define AIO_MAX_RECORD (16u << 20)

/* Of what runs for every record there is one copy for each byte order (and unit): these
 * functions are given it as a constant. */
#define FAST inline __attribute__((always_inline))

struct aio_file;
struct aio_pcapng;

/* Turns complete records of the window into frames, at most max, and moves the cursor
 * behind them. Stopping early it has set file->need to the bytes it wants to see from the
 * cursor on, or file->result when what stands there cannot be read. Calls nothing that
 * blocks. */
typedef unsigned aio_parse(struct aio_file *file, struct aio_frame *out, unsigned max);

struct aio_file {
    struct aio_base base;
    struct aio_input in;
    struct aio_windows windows;

    struct aio_window *window; /* under the cursor; the reader has a hold of its own */
    const uint8_t *pos;        /* the cursor */
    const uint8_t *end;        /* of what was read into the window */
    size_t need;
    uint64_t window_offset; /* where the window's first byte stands in the input */
    uint64_t skip;          /* bytes to pass over without looking at them */

    aio_parse *parse;
    int result;             /* not 0: no frame will come any more, and why */
    struct aio_frame blank; /* what is the same in all frames */
    uint16_t port_base;
    struct aio_pcapng *pcapng; /* its state, when it is one */
    char name[80];             /* end of the path, for messages */
};

static inline size_t aio_file_left(const struct aio_file *file)
{
    return (size_t)(file->end - file->pos);
}

/* Where the cursor stands in the (uncompressed) input. */
static inline uint64_t aio_file_offset(const struct aio_file *file)
{
    return file->window_offset +
           (file->window ? (uint64_t)(file->pos - file->window->data) : 0);
}

/* Sets file->result and a message that begins with the file's name. */
void aio_file_fail(struct aio_file *file, int result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The LINKTYPE_ of a file's link type field: without FCS length and class bits. */
uint16_t aio_link_type(uint32_t field);

/* The formats: each looks at the magic (4 bytes at the cursor) and, if it is its own,
 * sets file->parse and returns true. */
bool aio_pcap_begin(struct aio_file *file);
bool aio_pcapng_begin(struct aio_file *file);
void aio_pcapng_end(struct aio_file *file);

/* ---- bytes in the file's order ---------------------------------------------------- */

static inline uint16_t aio_get16(const uint8_t *p, bool swap)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return swap ? __builtin_bswap16(v) : v;
}

static inline uint32_t aio_get32(const uint8_t *p, bool swap)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return swap ? __builtin_bswap32(v) : v;
}

static inline uint64_t aio_get64(const uint8_t *p, bool swap)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return swap ? __builtin_bswap64(v) : v;
}

#endif
