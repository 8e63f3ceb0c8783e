"""TCP options of one segment (RFC 9293 section 3.1, RFC 7323, RFC 2018, 2385, 5925)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

# TcpOptions.signature, and the option refuse_signatures.
cdef enum:
    SIGNATURE_MD5 = 1        # RFC 2385
    SIGNATURE_AO = 2         # TCP-AO (RFC 5925)

cdef struct TcpOptions:
    uint32_t ts_value
    uint32_t ts_echo
    uint16_t mss             # 0 = not given
    uint8_t window_scale     # 0..14
    uint8_t has_window_scale
    uint8_t has_timestamp
    uint8_t sack_permitted
    uint8_t signature        # SIGNATURE_*
    uint8_t malformed        # a length that cannot be: parsing stopped so far from the end; 0: not

cdef void tcpopt_parse(TcpOptions *o, const uint8_t *options, uint32_t length) noexcept nogil
