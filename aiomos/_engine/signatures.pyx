"""Signed where the SYN was, not signed where it was not; see signatures.pxd."""
from libc.stdint cimport uint64_t

from aiomos._engine.be cimport be32
from aiomos._engine.events cimport ANOMALY_MALFORMED_OPTIONS, ANOMALY_SIGNATURE
from aiomos._engine.flow cimport HALF_SIGNED, HALF_SYN
from aiomos._engine.state cimport C_TCP_OPTIONS, C_TCP_SIGNATURE, refuse
from aiomos._engine.tcpopt cimport SIGNATURE_AO, SIGNATURE_MD5, tcpopt_parse

cdef enum:
    OPT_MD5 = 19
    OPT_AO = 29
    MD5_SIZE = 18
    NOP_NOP_TIMESTAMP = 0x0101080A


cdef bint signature_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil:
    cdef TcpOptions o
    if not (f.h[0].flags | f.h[1].flags) & HALF_SIGNED and (p.l4_len == 20 or usual(p)):
        return True
    tcpopt_parse(&o, p.l4 + 20, p.l4_len - 20)
    return signature_fits(cs, f, &o, s)


cdef inline bint usual(const Packet *p) noexcept nogil:
    """A timestamp alone, as RFC 7323 appendix A lays it out: nothing to look for."""
    return p.l4_len == 32 and be32(p.l4 + 20) == NOP_NOP_TIMESTAMP


cdef bint signature_fits(CoreState *cs, Flow *f, const TcpOptions *o, int s) noexcept nogil:
    """Where neither SYN was seen, nothing is known. Where options end in one that cannot be, with
    room behind it for a signature, Linux stops looking and drops the segment (from 6.7 on)."""
    cdef int shown = s if f.h[s].flags & HALF_SYN else 1 - s
    cdef bint is_signed = o.signature & cs.config.signatures != 0
    if o.malformed >= MD5_SIZE and cs.config.signatures:
        refuse(cs, f, s, ANOMALY_MALFORMED_OPTIONS, C_TCP_OPTIONS, o.malformed)
        return False
    if (not f.h[shown].flags & HALF_SYN
            or is_signed == (f.h[shown].flags & HALF_SIGNED != 0)):
        return True
    refuse(cs, f, s, ANOMALY_SIGNATURE, C_TCP_SIGNATURE, kind_of(o))
    return False


cdef inline uint64_t kind_of(const TcpOptions *o) noexcept nogil:
    if o.signature & SIGNATURE_MD5:
        return OPT_MD5
    return OPT_AO if o.signature & SIGNATURE_AO else 0
