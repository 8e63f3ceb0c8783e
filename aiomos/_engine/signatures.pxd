"""Signed segments: the TCP MD5 option (RFC 2385) and TCP-AO (RFC 5925).

Nobody but the two ends has the key, so that no signature can be judged here. But a receiver
drops a signed segment that it has no key for, and an unsigned one where it has; and whether
there is a key, the SYNs show (docs/decisions/0035).
"""
from aiomos._engine.flow cimport Flow
from aiomos._engine.state cimport CoreState
from aiomos._engine.tcpopt cimport TcpOptions
from aiomos._engine.wire cimport Packet

# Of a segment other than a SYN; False: its receiver drops it. Counted and told.
cdef bint signature_check(CoreState *cs, Flow *f, const Packet *p, int s) noexcept nogil
# The same, its options having been read.
cdef bint signature_fits(CoreState *cs, Flow *f, const TcpOptions *o, int s) noexcept nogil
