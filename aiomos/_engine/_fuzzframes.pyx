"""Instructions to frames; each frame lies in a block of exactly its size, so that a sanitizer
sees every byte read outside."""
from libc.stdint cimport int8_t, int32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos._engine._fuzzheaders cimport (Out, add_up, folded, is_ip6, push, push_ip, put16, put32,
                                          transport_sum, wrap_plain, wrap_tunnel)
from aiomos._engine.limits cimport ACK, FIN, PROTO_TCP, PROTO_UDP, PSH, RST, SYN, URG

cdef enum:
    HEADROOM = 512            # headers are put in front of what is there already
    PAYLOAD_MOST = 4096
    RAW_MOST = 15000

cdef int64_t LATEST = 4_200_000_000_000_000_000   # what a capture file can say at the most
cdef int64_t *STEPS = [1_000_000, 0, -1_000_000_000, 150_000_000]
cdef uint8_t *FLAGS = [ACK, ACK | PSH, ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, URG | ACK,
                       FIN, 0, SYN | FIN, ACK | FIN | PSH, RST | FIN, SYN | RST, PSH]
cdef uint32_t *UNITS = [1, 8, 536, 1 << 24]
cdef uint16_t *WINDOWS = [65535, 0, 1, 2, 512, 1024, 1460, 4096, 8192, 16384, 29200, 32768,
                          40000, 50000, 60000, 65000]
cdef uint32_t *NUMBERS = [0, 1, 0xFFFFFFFF, 0xFFFFFFF5, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 1000]
cdef uint16_t *LINK_TYPES = [1, 101, 113, 276, 0, 108, 228, 229, 12, 14, 9, 105, 127, 192, 50, 104,
                             166, 51, 10, 163, 119, 204, 109, 129, 147, 7, 6, 144, 149, 189,
                             220, 265]


cdef void maker_init(Maker *m, flush_fn flush, void *context) noexcept nogil:
    memset(m, 0, sizeof(Maker))
    m.flush = flush
    m.context = context
    m.most = AIO_BURST_MAX
    m.now = 1_700_000_000_000_000_000
    m.honest = True
    m.frames_left = FRAMES_MOST
    m.bytes_left = BYTES_MOST


cdef bint step_read(const uint8_t **at, const uint8_t *end, Step *step) noexcept nogil:
    cdef const uint8_t *p = at[0]
    if end - p < STEP_SIZE:
        return False
    step.op = p[0] & 15
    step.who = p[1]
    step.a = p[2]
    step.b = p[3]
    step.c = p[4] | <uint16_t>p[5] << 8
    step.d = p[6] | <uint16_t>p[7] << 8
    p += STEP_SIZE
    step.bytes = p
    step.size = 0
    if step.op == OP_RAW or step.op == OP_IP or step.op == OP_OPTIONS:
        step.size = <uint32_t>min(<int64_t>step.c, <int64_t>(end - p))
        p += step.size
    at[0] = p
    return True


cdef void maker_step(Maker *m, const Step *step) noexcept:
    if step.op == OP_SEGMENT:
        make_segment(m, step)
    elif step.op == OP_OPEN:
        make_handshake(m, step)
    elif step.op == OP_RUN:
        make_run(m, step)
    elif step.op == OP_WAIT:
        m.now = min(m.now + (<int64_t>step.c * 1000 << (step.a & 31)), LATEST)
    elif step.op == OP_RAW:
        make_raw(m, step)
    elif step.op == OP_IP:
        make_ip(m, step)
    elif step.op == OP_FRAGMENT:
        make_fragment(m, step)
    elif step.op == OP_DATAGRAM:
        make_datagram(m, step)
    elif step.op == OP_ICMP:
        make_icmp(m, step)
    else:
        change(m, step)


cdef void change(Maker *m, const Step *step) noexcept nogil:
    """Instructions that only change what the following ones make."""
    if step.op == OP_HOLD:
        m.hold = True
    elif step.op == OP_LINK:
        m.link = step.a & 15
        m.tag = step.b
        m.snap = step.c
        m.cut = step.d
    elif step.op == OP_OPTIONS:
        m.options_size = <uint8_t>(min(step.size, <uint32_t>40) & ~<uint32_t>3)
        memcpy(m.options, step.bytes, m.options_size)
    elif step.op == OP_SALT:
        m.salt = step.a
        m.honest = False


# ---- from the inside out -----------------------------------------------------------------


cdef inline Out begin(Maker *m, uint32_t payload) noexcept nogil:
    """An empty packet with room for so much payload behind its headers."""
    cdef Out o
    o.at = m.buffer + HEADROOM
    o.size = payload
    return o


cdef void push_ports(Maker *m, Out *o, uint8_t who, uint32_t size) noexcept nogil:
    cdef uint32_t first = FIRST_PORT + (who & 7) + m.apart
    cdef uint32_t second = SECOND_PORT
    cdef uint8_t *h = push(o, size)
    if who & 7 == 7:          # two ports of one kind: who is the server does not show
        second = FIRST_PORT + 8
    put16(h, second if who >> 3 & 1 else first)
    put16(h + 2, first if who >> 3 & 1 else second)


cdef void send_ip(Maker *m, Out *o, uint8_t who, uint8_t protocol) noexcept:
    """The transport packet gets its network header and goes, or is kept to be cut."""
    if m.hold and o.size <= sizeof(m.held.payload):
        m.hold = False
        memcpy(m.held.payload, o.at, o.size)
        m.held.size = o.size
        m.held.who = who
        m.held.protocol = protocol
        m.held.ident += 1
        return
    push_ip(o, who, protocol, 0x4000, 1)
    send_link(m, o, is_ip6(who))


cdef void send_link(Maker *m, Out *o, bint six) noexcept:
    cdef uint16_t link_type = 1
    m.quote_size = min(o.size, <uint32_t>sizeof(m.quote))
    memcpy(m.quote, o.at, m.quote_size)
    if m.link < 8:
        link_type = wrap_plain(o, m.link, m.tag, six)
    else:
        wrap_tunnel(o, m.link, m.tag, six)
    send(m, o.at, o.size, link_type)


# ---- frames ------------------------------------------------------------------------------


cdef void send(Maker *m, const uint8_t *data, uint32_t size, uint16_t link_type) noexcept:
    """One frame; the burst goes when it is full. Too many, and nothing is sent any more."""
    cdef aio_frame *f = &m.frames[m.n]
    cdef uint32_t captured = min(size, <uint32_t>m.snap) if m.snap else size
    cdef uint32_t head = min(captured, <uint32_t>m.cut) if m.cut else captured
    if m.frames_left == 0 or m.bytes_left < size:
        return
    m.frames_left -= 1
    m.bytes_left -= size
    memset(f, 0, sizeof(aio_frame))
    f.data = copy_of(data, head)
    f.head_len = head
    if head < captured:
        m.seconds[m.n].data = copy_of(data + head, captured - head)
        m.seconds[m.n].len = captured - head
        m.seconds[m.n].next = NULL
        f.next = &m.seconds[m.n]
    f.cap_len = captured
    f.wire_len = size
    f.time_ns = m.now
    f.link_type = link_type
    m.n += 1
    if m.n >= m.most:
        m.flush(m.context)


cdef const uint8_t *copy_of(const uint8_t *data, uint32_t size) noexcept nogil:
    cdef uint8_t *block = <uint8_t *>malloc(size if size else 1)
    memcpy(block, data, size)
    return block


cdef void maker_release(Maker *m) noexcept nogil:
    cdef unsigned i
    for i in range(m.n):
        if m.frames[i].next != NULL:
            free(<void *>m.frames[i].next.data)
        free(<void *>m.frames[i].data)
    m.n = 0


cdef inline void step_time(Maker *m, uint8_t who) noexcept nogil:
    cdef int64_t step = STEPS[who >> 4 & 3]
    if step >= 0 or not m.steady:
        m.now += step


# ---- TCP ---------------------------------------------------------------------------------


cdef void send_segment(Maker *m, uint8_t who, uint8_t flags, uint32_t seq, uint32_t ack,
                       uint16_t window, uint32_t length) noexcept:
    cdef int side = who >> 3 & 1
    cdef uint8_t *h
    cdef uint32_t end, i
    cdef Out o = begin(m, length)
    for i in range(length):
        o.at[i] = reference_byte(seq + i + (flags & SYN != 0), who & 7, side) ^ m.salt
    memcpy(push(&o, m.options_size), m.options, m.options_size)
    push_ports(m, &o, who, 20)
    h = o.at
    put32(h + 4, seq)
    put32(h + 8, ack if flags & ACK else 0)
    h[12] = <uint8_t>((20 + m.options_size) << 2)
    h[13] = flags
    put16(h + 14, window)
    put16(h + 18, length >> 1 if flags & URG else 0)
    put16(h + 16, transport_sum(&o, who, PROTO_TCP) ^ <uint16_t>(who >> 6 & 1))
    end = seq + length + (flags & SYN != 0) + (flags & FIN != 0)
    if not flags & RST and <int32_t>(end - m.sent[who & 7][side]) > 0:
        m.sent[who & 7][side] = end
    step_time(m, who)
    send_ip(m, &o, who, PROTO_TCP)


cdef void make_segment(Maker *m, const Step *step) noexcept:
    cdef int side = step.who >> 3 & 1
    cdef const uint32_t *sent = m.sent[step.who & 7]
    cdef uint8_t flags = step.a & 0x3F if step.a & 0x80 else FLAGS[step.a & 15]
    cdef uint32_t seq = sent[side] + <uint32_t>(<int8_t>step.b) * UNITS[step.d >> 12 & 3]
    cdef uint32_t ack = (sent[1 - side] + <uint32_t>(<int8_t>(step.d & 0xFF))
                         * UNITS[step.d >> 14 & 3])
    send_segment(m, step.who, flags, seq, ack, WINDOWS[step.d >> 8 & 15],
                 step.c & (PAYLOAD_MOST - 1))


cdef void make_handshake(Maker *m, const Step *step) noexcept:
    """a: bits 0 to 2 leave out SYN, SYN-ACK, ACK; bit 3: numbers stay as they are."""
    cdef uint8_t first = step.who & ~<uint8_t>8, second = step.who | 8
    cdef uint32_t *sent = m.sent[step.who & 7]
    if step.who & 8:
        first, second = second, first
    cdef int c = first >> 3 & 1
    if not step.a & 8:
        sent[c] = NUMBERS[step.b & 7] + (step.b >> 3 & 3)
        sent[1 - c] = NUMBERS[step.b >> 5]
    if step.a & 1:
        sent[c] += 1
    else:
        send_segment(m, first, SYN, sent[c], 0, 65535, step.c & 1023)
    if step.a & 2:
        sent[1 - c] += 1
    else:
        send_segment(m, second, SYN | ACK, sent[1 - c], sent[c], 65535, 0)
    if not step.a & 4:
        send_segment(m, first, ACK, sent[c], sent[1 - c], 65535, 0)


cdef void make_run(Maker *m, const Step *step) noexcept:
    """Many segments behind a hole of d bytes: b & 3 says in which order (up, down, scattered,
    up and each twice), b >> 2 & 31 how many times a + 1, b & 128: each from a port of its own."""
    cdef int side = step.who >> 3 & 1
    cdef uint32_t count = (step.a + <uint32_t>1) * (1 + (step.b >> 2 & 31))
    cdef uint32_t size = 1 + (step.c & 0xFF), stride = size + (step.c >> 8)
    cdef uint32_t first = m.sent[step.who & 7][side] + step.d, i, place
    for i in range(count):
        place = i
        if step.b & 3 == 1:
            place = count - 1 - i
        elif step.b & 3 == 2:        # odd and not a divisor: each place about once
            place = <uint32_t>(i * <uint64_t>2654435761 % count)
        elif step.b & 3 == 3:
            place = i >> 1
        if step.b & 128:
            m.apart = 8 + i * 8
        send_segment(m, step.who, ACK, first + place * stride, m.sent[step.who & 7][1 - side],
                     65535, size)
    m.apart = 0


# ---- the rest ----------------------------------------------------------------------------


cdef void make_raw(Maker *m, const Step *step) noexcept:
    m.honest = False
    step_time(m, step.who)
    send(m, step.bytes, min(step.size, <uint32_t>RAW_MOST), LINK_TYPES[step.a & 31])


cdef void make_ip(Maker *m, const Step *step) noexcept:
    cdef uint32_t size = min(step.size, <uint32_t>(RAW_MOST - HEADROOM))
    cdef Out o = begin(m, size)
    m.honest = False
    memcpy(o.at, step.bytes, size)
    step_time(m, step.who)
    send_ip(m, &o, step.who, step.a)


cdef void make_datagram(Maker *m, const Step *step) noexcept:
    cdef uint32_t length = step.c & (PAYLOAD_MOST - 1), i
    cdef Out o = begin(m, length)
    for i in range(length):
        o.at[i] = reference_byte(i, step.who & 7, step.who >> 3 & 1)
    push_ports(m, &o, step.who, 8)
    put16(o.at + 4, o.size)
    put16(o.at + 6, transport_sum(&o, step.who, PROTO_UDP) ^ <uint16_t>(step.who >> 6 & 1))
    step_time(m, step.who)
    send_ip(m, &o, step.who, PROTO_UDP)


cdef void make_fragment(Maker *m, const Step *step) noexcept:
    cdef Held *held = &m.held
    cdef uint32_t units = (held.size >> 3) + 1, at = step.a % units * 8, size, i, field
    cdef Out o
    if held.size == 0:
        return
    size = held.size - at
    if step.b and <uint32_t>step.b * 8 < size:
        size = <uint32_t>step.b * 8
    o = begin(m, size)
    for i in range(size):
        o.at[i] = held.payload[at + i] ^ (0x55 if step.c & FRAGMENT_OTHER else 0)
    field = at >> 3 | (0x2000 if at + size < held.size else 0)
    if step.c & FRAGMENT_BEHIND:
        field |= 0x1F00
    if step.c & FRAGMENT_MORE:
        field |= 0x2000
    if step.c & FRAGMENT_LAST:
        field &= ~<uint32_t>0x2000
    if step.c & (FRAGMENT_OTHER | FRAGMENT_BEHIND) or step.d:
        m.honest = False
    step_time(m, step.who)
    push_ip(&o, held.who, held.protocol, field, held.ident + step.d)
    send_link(m, &o, is_ip6(held.who))


cdef void make_icmp(Maker *m, const Step *step) noexcept:
    """An error about the last packet (RFC 792, RFC 4443)."""
    cdef Out o = begin(m, m.quote_size)
    cdef bint six = m.quote_size and m.quote[0] >> 4 == 6
    cdef uint8_t who = <uint8_t>(step.who & 0xF8 | (5 if six else 0))
    memcpy(o.at, m.quote, m.quote_size)
    push(&o, 8)
    o.at[0] = step.a
    o.at[1] = step.b
    put16(o.at + 2, transport_sum(&o, who, 58) if six else folded(add_up(o.at, o.size, 0)))
    step_time(m, who)
    send_ip(m, &o, who, 58 if six else 1)
