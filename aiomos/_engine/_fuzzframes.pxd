"""From a script of bytes to frames: what the fuzz target and its seeds are written in.

A script is a head of 8 bytes (see `_fuzz.pyx`), then instructions of 8 bytes each:

    op   who   a   b   c c   d d        (c and d: 16 bits, little-endian)

`who` names one of eight pairs of ends (bits 0 to 2) and which of the two speaks (bit 3); bits 4
and 5 say how much later than the frame before (STEPS). A few instructions are followed by c
bytes of their own. Any bytes at all are a script: a fuzzer may change each of them. Most
instructions make valid headers around few connections, whose ends count their sequence numbers,
so that changed scripts still reach the states behind a handshake; RAW and IP take any bytes.

Payloads are made up from sequence numbers (`reference_byte`), so who reads a stream knows what
it must hold. An instruction that can make two different bytes of one number ends that: `honest`.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame, aio_seg

cdef enum:
    PAIRS = 8
    FIRST_PORT = 40000        # of end 0 in pair n: FIRST_PORT + n; of the other end: SECOND_PORT
    SECOND_PORT = 80
    HEAD_SIZE = 8
    STEP_SIZE = 8
    FRAMES_MOST = 2500        # of one script: it ends there
    BYTES_MOST = 1 << 21

# Instructions, op & 15.
cdef enum:
    OP_SEGMENT = 0            # a: flags, b: seq, c: length, d: ack, window, units
    OP_OPEN = 1               # handshake. a: parts left out, b: initial numbers, c: data on the SYN
    OP_RUN = 2                # many segments. a, b: how many, in which order, c: sizes, d: hole
    OP_WAIT = 3               # time goes by: c << (a & 31) microseconds; a & 0x80: without a frame
    OP_RAW = 4                # c bytes are a frame of link type a
    OP_IP = 5                 # c bytes are the payload of an IP packet of protocol a
    OP_HOLD = 6               # the next packet is not sent, but kept for OP_FRAGMENT
    OP_FRAGMENT = 7           # a: offset, b: length (in 8 bytes), c: FRAGMENT_*, d: ident
    OP_DATAGRAM = 8           # UDP, c bytes
    OP_READ = 9               # a: READ_*, b: how much
    OP_BURST = 10             # the burst ends here
    OP_CLOSE = 11             # all flows end with reason a
    OP_LINK = 12              # a: link layer or tunnel, b: tag, c: snap length, d: second segment
    OP_OPTIONS = 13           # c bytes are the TCP options of what follows
    OP_SALT = 14              # other payload bytes from here on
    OP_ICMP = 15              # quotes the last packet. a: type, b: code

cdef enum:
    FRAGMENT_MORE = 1         # says that more follow, at the end too
    FRAGMENT_LAST = 2         # says that none follow
    FRAGMENT_OTHER = 4        # other bytes than were held
    FRAGMENT_BEHIND = 8       # offset behind the end

cdef struct Step:
    uint8_t op
    uint8_t who
    uint8_t a
    uint8_t b
    uint16_t c
    uint16_t d
    const uint8_t *bytes      # that follow, `size` of them
    uint32_t size

# A packet that waits to be cut into fragments.
cdef struct Held:
    uint8_t payload[4096]
    uint32_t size
    uint32_t ident
    uint8_t who
    uint8_t protocol

ctypedef void (*flush_fn)(void *context) noexcept

cdef struct Maker:
    aio_frame frames[AIO_BURST_MAX]
    aio_seg seconds[AIO_BURST_MAX]
    unsigned n                # frames in this burst
    unsigned most             # it is flushed with that many
    flush_fn flush
    void *context
    int64_t now
    bint steady               # time never goes back
    bint honest
    uint32_t frames_left
    uint32_t bytes_left
    uint32_t sent[PAIRS][2]   # next sequence number of each end
    uint32_t apart            # between the ports of many flows and those of the pair
    uint8_t salt
    uint8_t link
    uint8_t tag
    uint16_t snap             # 0: frames are captured whole
    uint16_t cut              # 0: they lie in one segment
    uint8_t options[40]
    uint8_t options_size
    bint hold
    Held held
    uint8_t quote[48]         # the begin of the last packet, for OP_ICMP
    uint32_t quote_size
    uint8_t buffer[16384]

cdef void maker_init(Maker *m, flush_fn flush, void *context) noexcept nogil
# The next instruction; False: the script is over.
cdef bint step_read(const uint8_t **at, const uint8_t *end, Step *step) noexcept nogil
# Makes the frames of one; those that make none (READ, BURST, CLOSE, a WAIT) are the caller's.
cdef void maker_step(Maker *m, const Step *step) noexcept
# Gives back the frames of a burst.
cdef void maker_release(Maker *m) noexcept nogil

cdef inline uint8_t reference_byte(uint32_t seq, unsigned pair, int side) noexcept nogil:
    """What an honest end sends under a sequence number."""
    cdef uint32_t x = (seq + pair * <uint32_t>0x01000193 + <uint32_t>side * <uint32_t>0x85EBCA6B)
    x *= <uint32_t>0x9E3779B1
    x = (x ^ x >> 15) * <uint32_t>0x2C1B3C6D
    return <uint8_t>(x >> 24)
