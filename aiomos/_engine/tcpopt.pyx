"""Walks the option list of a TCP header; ends at the first length that cannot be right."""
from libc.string cimport memset

from aiomos._engine.be cimport be16, be32

cdef enum:
    OPT_END = 0
    OPT_NOP = 1
    OPT_MSS = 2
    OPT_WINDOW_SCALE = 3
    OPT_SACK_PERMITTED = 4
    OPT_TIMESTAMP = 8
    OPT_MD5 = 19
    OPT_AO = 29
    MAX_WINDOW_SCALE = 14   # RFC 7323 section 2.3: larger values mean 14


cdef void tcpopt_parse(TcpOptions *o, const uint8_t *options, uint32_t length) noexcept nogil:
    cdef uint32_t at = 0, size
    memset(o, 0, sizeof(TcpOptions))
    while at < length and options[at] != OPT_END:
        if options[at] == OPT_NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < length else 0
        if size < 2 or size > length - at:
            o.malformed = <uint8_t>(length - at)
            return
        take_option(o, options + at, size)
        at += size


cdef inline void take_option(TcpOptions *o, const uint8_t *h, uint32_t size) noexcept nogil:
    """One option; those of another length than their RFC gives are passed over."""
    if h[0] == OPT_MSS and size == 4:
        o.mss = be16(h + 2)
    elif h[0] == OPT_WINDOW_SCALE and size == 3:
        o.has_window_scale = 1
        o.window_scale = min(h[2], <uint8_t>MAX_WINDOW_SCALE)
    elif h[0] == OPT_SACK_PERMITTED and size == 2:
        o.sack_permitted = 1
    elif h[0] == OPT_MD5 and size == 18:
        o.signature |= SIGNATURE_MD5
    elif h[0] == OPT_AO and size >= 4:
        o.signature |= SIGNATURE_AO
    elif h[0] == OPT_TIMESTAMP and size == 10:
        o.has_timestamp = 1
        o.ts_value = be32(h + 2)
        o.ts_echo = be32(h + 6)
