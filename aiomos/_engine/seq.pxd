"""Sequence number arithmetic, modulo 2**32 (RFC 9293 section 3.4).

Two numbers can be compared when they lie less than 2**31 apart; every caller has
checked that, by a window or by a limit, before it trusts the answer.
"""
from libc.stdint cimport int32_t, uint32_t

cdef inline int32_t seq_diff(uint32_t a, uint32_t b) noexcept nogil:
    """How far a lies behind b; negative when before it."""
    return <int32_t>(a - b)

cdef inline bint seq_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0

cdef inline bint seq_le(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) <= 0

cdef inline bint seq_gt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) > 0

cdef inline bint seq_ge(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) >= 0
