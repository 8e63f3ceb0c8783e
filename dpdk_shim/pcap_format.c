/* pcap_format.c -- the classic capture format: micro- and nanoseconds, both byte orders,
 * and the variant with longer record headers ("modified", by A. Kuznetzov).
 *
 * What the magic decides (byte order, unit of time, header length) are constants of the
 * record loop: it exists once for each combination, and asks none of it per frame. */
#include "file.h"

#define MAGIC_US 0xa1b2c3d4u
#define MAGIC_NS 0xa1b23c4du
#define MAGIC_MODIFIED 0xa1b2cd34u

#define FILE_HEADER 24u
#define RECORD_HEADER 16u
#define MODIFIED_HEADER 24u

#define NS_PER_S 1000000000

/* The record header, at p:  seconds, fraction, captured length, length on the wire;
 * and in the modified variant  interface index, protocol (2 bytes), packet type, pad. */

static uint8_t modified_direction(const uint8_t *p)
{
    enum { FROM_OTHERS = 2, TO_OTHERS = 3, OUTGOING = 4 };
    uint8_t packet_type = p[22];

    if (packet_type <= FROM_OTHERS)
        return AIO_DIR_IN;
    return packet_type == OUTGOING ? AIO_DIR_OUT : AIO_DIR_UNKNOWN;
}

/* Why the loop stopped before max frames: bytes are missing, or a length is wrong. */
static void stopped(struct aio_file *file, bool swap, unsigned header)
{
    uint32_t cap_len;

    file->need = header;
    if (aio_file_left(file) < header)
        return;
    cap_len = aio_get32(file->pos + 8, swap);
    if (cap_len > AIO_MAX_RECORD)
        aio_file_fail(file, AIO_ECORRUPT,
                      "record at byte %llu is damaged: a captured length of %u",
                      (unsigned long long)aio_file_offset(file), cap_len);
    else
        file->need = header + cap_len;
}

static FAST unsigned parse(struct aio_file *file, struct aio_frame *out, unsigned max,
                           bool swap, uint32_t unit, unsigned header)
{
    const uint8_t *p = file->pos, *end = file->end;
    struct aio_frame frame = file->blank;
    uint64_t bytes = 0;
    unsigned n;

    frame.owner = file->window;
    for (n = 0; n < max && (size_t)(end - p) >= header; n++) {
        uint32_t cap_len = aio_get32(p + 8, swap);
        uint32_t wire_len = aio_get32(p + 12, swap);

        if (cap_len > (size_t)(end - p) - header || cap_len > AIO_MAX_RECORD)
            break;
        frame.time_ns =
            (int64_t)aio_get32(p, swap) * NS_PER_S + (int64_t)aio_get32(p + 4, swap) * unit;
        frame.data = p + header;
        frame.head_len = frame.cap_len = cap_len;
        frame.wire_len = wire_len > cap_len ? wire_len : cap_len;
        if (header == MODIFIED_HEADER)
            frame.direction = modified_direction(p);
        out[n] = frame;
        bytes += cap_len;
        p += header + cap_len;
    }
    file->pos = p;
    file->base.stats.bytes += bytes;
    if (n < max)
        stopped(file, swap, header);
    return n;
}

#define PARSER(name, swap, unit, header)                                                   \
    static unsigned name(struct aio_file *file, struct aio_frame *out, unsigned max)       \
    {                                                                                      \
        return parse(file, out, max, swap, unit, header);                                  \
    }

PARSER(parse_us, false, 1000, RECORD_HEADER)
PARSER(parse_us_swapped, true, 1000, RECORD_HEADER)
PARSER(parse_ns, false, 1, RECORD_HEADER)
PARSER(parse_ns_swapped, true, 1, RECORD_HEADER)
PARSER(parse_modified, false, 1000, MODIFIED_HEADER)
PARSER(parse_modified_swapped, true, 1000, MODIFIED_HEADER)

static const struct variant {
    uint32_t magic;
    uint32_t unit;       /* ns */
    aio_parse *parse[2]; /* in our byte order, in the other one */
} variants[] = {
    {MAGIC_US, 1000, {parse_us, parse_us_swapped}},
    {MAGIC_NS, 1, {parse_ns, parse_ns_swapped}},
    {MAGIC_MODIFIED, 1000, {parse_modified, parse_modified_swapped}},
};

static const struct variant *find_variant(const uint8_t *p, bool *swap)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        for (int swapped = 0; swapped <= 1; swapped++) {
            *swap = swapped;
            if (aio_get32(p, swapped) == variants[i].magic)
                return &variants[i];
        }
    }
    return NULL;
}

/* The rest of the file header, version included, is not judged: what is wrong there in
 * real files has never kept anybody from reading the records. */
static unsigned parse_file_header(struct aio_file *file, struct aio_frame *out,
                                  unsigned max)
{
    const struct variant *variant;
    bool swap;

    (void)out, (void)max;
    file->need = FILE_HEADER;
    if (aio_file_left(file) < FILE_HEADER)
        return 0;
    variant = find_variant(file->pos, &swap);
    file->base.pub.time_precision = variant->unit;
    file->blank.link_type = aio_link_type(aio_get32(file->pos + 20, swap));
    file->blank.port = file->port_base;
    file->pos += FILE_HEADER;
    file->parse = variant->parse[swap];
    file->need = 1;
    return 0;
}

bool aio_pcap_begin(struct aio_file *file)
{
    bool swap;

    if (!find_variant(file->pos, &swap))
        return false;
    file->parse = parse_file_header;
    return true;
}
