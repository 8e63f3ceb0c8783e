/* pcapng_format.c -- pcapng: sections, interfaces and packets of all three kinds.
 *
 * Interfaces are numbered through the whole file: those of a second section get ports of
 * their own, since nothing says that they are the same ones. */
#include "file.h"
#include "ticks.h"

#include <stdlib.h>

#define BLOCK_SECTION 0x0a0d0d0au
#define BLOCK_INTERFACE 1u
#define BLOCK_OLD_PACKET 2u
#define BLOCK_SIMPLE_PACKET 3u
#define BLOCK_STATISTICS 5u
#define BLOCK_PACKET 6u

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define BLOCK_MIN 12u /* type, length, length again */
#define SECTION_MIN 28u
#define MAX_INTERFACES 65536u
#define MAX_BLOCK (AIO_MAX_RECORD + (1u << 20))

#define OPT_END 0
#define OPT_FLAGS 2     /* of a packet */
#define OPT_TSRESOL 9   /* of an interface */
#define OPT_TSOFFSET 14 /* of an interface */
#define OPT_IFDROP 5    /* of statistics: by the interface */
#define OPT_OSDROP 7    /* of statistics: by the operating system */

struct interface {
    uint16_t link_type;
    uint16_t port;
    uint32_t snap_len; /* 0 = unlimited */
    struct aio_ticks ticks;
    uint64_t dropped_nic, dropped_kernel;
};

struct aio_pcapng {
    struct interface *interfaces; /* of this section */
    uint32_t n, capacity;
    uint32_t n_ports; /* interfaces of this and earlier sections */
};

static unsigned parse_native(struct aio_file *file, struct aio_frame *out, unsigned max);
static unsigned parse_swapped(struct aio_file *file, struct aio_frame *out, unsigned max);

static bool damaged(struct aio_file *file, const char *what, uint32_t value)
{
    aio_file_fail(file, AIO_ECORRUPT, "block at byte %llu is damaged: %s %u",
                  (unsigned long long)aio_file_offset(file), what, value);
    return false;
}

/* ---- options ---------------------------------------------------------------------- */

struct option {
    uint16_t code, len;
    const uint8_t *value;
};

/* Takes the next option from *p; false at the end, or where the list is damaged: what
 * options say is never worth losing a packet for. */
static bool next_option(const uint8_t **p, const uint8_t *end, bool swap,
                        struct option *opt)
{
    size_t padded;

    if (end - *p < 4)
        return false;
    opt->code = aio_get16(*p, swap);
    opt->len = aio_get16(*p + 2, swap);
    opt->value = *p + 4;
    padded = (opt->len + 3u) & ~3u;
    if (opt->code == OPT_END || (size_t)(end - opt->value) < padded)
        return false;
    *p = opt->value + padded;
    return true;
}

static uint8_t direction_option(const uint8_t *p, const uint8_t *end, bool swap)
{
    static const uint8_t directions[] = {AIO_DIR_UNKNOWN, AIO_DIR_IN, AIO_DIR_OUT,
                                         AIO_DIR_UNKNOWN};
    struct option opt;

    while (next_option(&p, end, swap, &opt))
        if (opt.code == OPT_FLAGS && opt.len == 4)
            return directions[aio_get32(opt.value, swap) & 3];
    return AIO_DIR_UNKNOWN;
}

/* ---- blocks that describe --------------------------------------------------------- */

static struct interface *new_interface(struct aio_file *file)
{
    struct aio_pcapng *ng = file->pcapng;
    uint32_t port = file->port_base + ng->n_ports;
    struct interface *iface;

    if (ng->n == ng->capacity) {
        uint32_t capacity = ng->capacity ? 2 * ng->capacity : 8;

        iface = realloc(ng->interfaces, capacity * sizeof *iface);
        if (!iface)
            return NULL;
        ng->interfaces = iface;
        ng->capacity = capacity;
    }
    iface = &ng->interfaces[ng->n++];
    memset(iface, 0, sizeof *iface);
    iface->port = port < UINT16_MAX ? (uint16_t)port : UINT16_MAX;
    ng->n_ports++;
    return iface;
}

static void interface_options(struct interface *iface, const uint8_t *p, const uint8_t *end,
                              bool swap)
{
    uint8_t resolution = 6;
    int64_t offset_s = 0;
    struct option opt;

    while (next_option(&p, end, swap, &opt)) {
        if (opt.code == OPT_TSRESOL && opt.len == 1)
            resolution = opt.value[0];
        else if (opt.code == OPT_TSOFFSET && opt.len == 8)
            offset_s = (int64_t)aio_get64(opt.value, swap);
    }
    aio_ticks_set(&iface->ticks, resolution, offset_s);
}

static bool interface_block(struct aio_file *file, uint32_t len, bool swap)
{
    const uint8_t *p = file->pos;
    struct interface *iface;
    uint32_t precision;

    if (len < 20)
        return damaged(file, "an interface description of length", len);
    if (file->pcapng->n == MAX_INTERFACES)
        return damaged(file, "more interfaces than", MAX_INTERFACES);
    iface = new_interface(file);
    if (!iface) {
        aio_file_fail(file, AIO_ENOMEM, "out of memory");
        return false;
    }
    iface->link_type = aio_get16(p + 8, swap);
    iface->link_type = aio_link_type(iface->link_type);
    iface->snap_len = aio_get32(p + 12, swap);
    interface_options(iface, p + 16, p + len - 4, swap);
    precision = aio_ticks_precision(&iface->ticks);
    if (file->pcapng->n_ports == 1 || precision < file->base.pub.time_precision)
        file->base.pub.time_precision = precision;
    return true;
}

/* The counters of a statistics block count from the start of the capture. */
static void update_drops(uint64_t *sum, uint64_t *last, const struct option *opt, bool swap)
{
    uint64_t now = aio_get64(opt->value, swap);

    if (now == UINT64_MAX || now < *last)
        return;
    *sum += now - *last;
    *last = now;
}

static bool statistics_block(struct aio_file *file, uint32_t len, bool swap)
{
    struct aio_source_stats *stats = &file->base.stats;
    const uint8_t *p = file->pos + 20, *end = file->pos + len - 4;
    uint32_t id;
    struct interface *iface;
    struct option opt;

    if (len < 24)
        return true;
    id = aio_get32(file->pos + 8, swap);
    if (id >= file->pcapng->n)
        return true;
    iface = &file->pcapng->interfaces[id];
    while (next_option(&p, end, swap, &opt)) {
        if (opt.code == OPT_IFDROP && opt.len == 8)
            update_drops(&stats->dropped_nic, &iface->dropped_nic, &opt, swap);
        else if (opt.code == OPT_OSDROP && opt.len == 8)
            update_drops(&stats->dropped_kernel, &iface->dropped_kernel, &opt, swap);
    }
    return true;
}

/* ---- blocks with a packet --------------------------------------------------------- */

static FAST void set_frame(struct aio_file *file, struct aio_frame *frame,
                           const struct interface *iface, const uint8_t *data,
                           uint32_t cap_len, uint32_t wire_len)
{
    *frame = file->blank;
    frame->owner = file->window;
    frame->data = data;
    frame->head_len = frame->cap_len = cap_len;
    frame->wire_len = wire_len > cap_len ? wire_len : cap_len;
    frame->link_type = iface->link_type;
    frame->port = iface->port;
    file->base.stats.bytes += cap_len;
}

static const struct interface *find_interface(struct aio_file *file, uint32_t id)
{
    if (id < file->pcapng->n)
        return &file->pcapng->interfaces[id];
    damaged(file, "a packet of an interface that was not described:", id);
    return NULL;
}

/* Enhanced packets, and the old ones, whose interface has 16 bits before a drop count. */
static FAST bool packet_block(struct aio_file *file, struct aio_frame *frame, uint32_t len,
                              bool swap, bool old)
{
    const uint8_t *p = file->pos, *end = p + len - 4;
    const struct interface *iface;
    uint32_t cap_len;
    uint64_t ticks;

    if (len < 32)
        return damaged(file, "a packet block of length", len);
    iface = find_interface(file, old ? aio_get16(p + 8, swap) : aio_get32(p + 8, swap));
    if (!iface)
        return false;
    cap_len = aio_get32(p + 20, swap);
    if (cap_len > len - 32)
        return damaged(file, "a captured length of", cap_len);
    ticks = (uint64_t)aio_get32(p + 12, swap) << 32 | aio_get32(p + 16, swap);
    set_frame(file, frame, iface, p + 28, cap_len, aio_get32(p + 24, swap));
    frame->time_ns = aio_ticks_ns(&iface->ticks, ticks);
    p += 28 + ((cap_len + 3) & ~3u);
    if (p < end)
        frame->direction = direction_option(p, end, swap);
    return true;
}

/* No time, no captured length: that is what the block's and the interface's leave. */
static bool simple_packet_block(struct aio_file *file, struct aio_frame *frame,
                                uint32_t len, bool swap)
{
    const struct interface *iface;
    uint32_t wire_len, cap_len;

    if (len < 16)
        return damaged(file, "a simple packet block of length", len);
    iface = find_interface(file, 0);
    if (!iface)
        return false;
    wire_len = cap_len = aio_get32(file->pos + 8, swap);
    if (iface->snap_len && cap_len > iface->snap_len)
        cap_len = iface->snap_len;
    if (cap_len > len - 16)
        return damaged(file, "a captured length of", cap_len);
    set_frame(file, frame, iface, file->pos + 12, cap_len, wire_len);
    frame->time_ns = AIO_NO_TIME;
    return true;
}

/* ---- going from block to block ---------------------------------------------------- */

static bool is_packet(uint32_t type)
{
    return type == BLOCK_PACKET || type == BLOCK_SIMPLE_PACKET || type == BLOCK_OLD_PACKET;
}

static bool is_known(uint32_t type)
{
    return is_packet(type) || type == BLOCK_INTERFACE || type == BLOCK_STATISTICS;
}

/* Passes over bytes of a block that nobody wants; true when all of them are behind. */
static bool skipped(struct aio_file *file)
{
    size_t step = aio_file_left(file);

    if (step > file->skip)
        step = (size_t)file->skip;
    file->pos += step;
    file->skip -= step;
    file->need = 1;
    return file->skip == 0;
}

/* Is the whole block in the window? If not, need or result say what is to be done. */
static FAST bool block_ready(struct aio_file *file, uint32_t len, uint32_t least, bool swap)
{
    if (len < least || len % 4 != 0 || len > MAX_BLOCK)
        return damaged(file, "a length of", len);
    file->need = len;
    if (aio_file_left(file) < len)
        return false;
    if (aio_get32(file->pos + len - 4, swap) != len)
        return damaged(file, "it begins and ends with different lengths, first", len);
    return true;
}

static FAST bool block_parse(struct aio_file *file, uint32_t type, uint32_t len,
                             struct aio_frame *frame, bool swap)
{
    switch (type) {
    case BLOCK_PACKET:
        return packet_block(file, frame, len, swap, false);
    case BLOCK_OLD_PACKET:
        return packet_block(file, frame, len, swap, true);
    case BLOCK_SIMPLE_PACKET:
        return simple_packet_block(file, frame, len, swap);
    case BLOCK_INTERFACE:
        return interface_block(file, len, swap);
    default:
        return statistics_block(file, len, swap);
    }
}

/* Unknown blocks may be longer than any window: they are passed over, not loaded. */
static bool block_skip(struct aio_file *file, uint32_t len)
{
    if (len < BLOCK_MIN || len % 4 != 0)
        return damaged(file, "a length of", len);
    file->skip = len;
    return skipped(file);
}

static unsigned parse_section(struct aio_file *file, struct aio_frame *out, unsigned max)
{
    uint32_t magic;
    bool swap;

    (void)out, (void)max;
    file->need = SECTION_MIN;
    if (aio_file_left(file) < SECTION_MIN)
        return 0;
    magic = aio_get32(file->pos + 8, false);
    swap = magic != BYTE_ORDER_MAGIC;
    if (swap && magic != __builtin_bswap32(BYTE_ORDER_MAGIC)) {
        damaged(file, "no byte-order magic but", magic);
    } else if (aio_get16(file->pos + 12, swap) != 1) {
        damaged(file, "pcapng of version", aio_get16(file->pos + 12, swap));
    } else if (block_ready(file, aio_get32(file->pos + 4, swap), SECTION_MIN, swap)) {
        file->pos += aio_get32(file->pos + 4, swap);
        file->pcapng->n = 0;
        file->parse = swap ? parse_swapped : parse_native;
        file->need = 1;
    }
    return 0;
}

/* One block at the cursor, whole or not; *n grows with a packet. False: stop here. */
static FAST bool step(struct aio_file *file, struct aio_frame *out, unsigned max,
                      unsigned *n, bool swap)
{
    uint32_t type, len;

    file->need = BLOCK_MIN;
    if (aio_file_left(file) < BLOCK_MIN)
        return false;
    type = aio_get32(file->pos, swap);
    len = aio_get32(file->pos + 4, swap);
    if (type == BLOCK_SECTION) {
        file->parse = parse_section;
        return false;
    }
    if (!is_known(type))
        return block_skip(file, len);
    if ((is_packet(type) && *n == max) || !block_ready(file, len, BLOCK_MIN, swap) ||
        !block_parse(file, type, len, &out[*n], swap))
        return false;
    file->pos += len;
    *n += is_packet(type);
    return true;
}

static FAST unsigned parse(struct aio_file *file, struct aio_frame *out, unsigned max,
                           bool swap)
{
    unsigned n = 0;

    if (skipped(file))
        while (step(file, out, max, &n, swap))
            ;
    return n;
}

static unsigned parse_native(struct aio_file *file, struct aio_frame *out, unsigned max)
{
    return parse(file, out, max, false);
}

static unsigned parse_swapped(struct aio_file *file, struct aio_frame *out, unsigned max)
{
    return parse(file, out, max, true);
}

bool aio_pcapng_begin(struct aio_file *file)
{
    if (aio_get32(file->pos, false) != BLOCK_SECTION)
        return false;
    file->pcapng = calloc(1, sizeof *file->pcapng);
    if (!file->pcapng)
        aio_file_fail(file, AIO_ENOMEM, "out of memory");
    file->base.pub.time_precision = 1000;
    file->parse = parse_section;
    return true;
}

void aio_pcapng_end(struct aio_file *file)
{
    if (file->pcapng)
        free(file->pcapng->interfaces);
    free(file->pcapng);
    file->pcapng = NULL;
}
