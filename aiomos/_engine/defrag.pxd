"""Fragments of IPv4 and IPv6 datagrams, kept until one is whole (RFC 791, RFC 8200 section 4.5).

Every fragment is copied into a block of its own, so that memory follows what came, not what
an offset promises. A datagram's fragments stand in two orders: by offset, to see overlaps
and holes, and in the order in which they are written when the datagram is whole, which is
what the overlap policy decides.

Nothing here tells anybody: what was seen is returned (NOTE_*) and counted; fragments.pyx
raises the events.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.pool cimport Pool
from aiomos._engine.wire cimport Packet

# What happens to a datagram whose fragments overlap (docs/decisions/0013).
cdef enum:
    OVERLAP_DISCARD = 0       # none of it is delivered (RFC 5722, RFC 8200; Linux for IPv4 too)
    OVERLAP_FIRST = 1         # the bytes that came first stay
    OVERLAP_LAST = 2          # those that came last win

cdef enum:
    FRAGMENT_MOST = 512       # fragments of one datagram; at 8 bytes each, 4 kB
    FRAGMENT_SMALL = 64       # a fragment under so many bytes that is not the last is suspicious
    DATAGRAM_MAX = 65535      # bytes with its IPv4 header; IPv6: behind its first header

# What became of a fragment.
cdef enum:
    DEFRAG_KEPT = 0
    DEFRAG_WHOLE = 1          # its datagram is whole: defrag_rebuild() now
    DEFRAG_DROPPED = 2

# What was not right about it, one bit each.
cdef enum:
    NOTE_OVERLAP = 1
    NOTE_INCONSISTENCY = 2
    NOTE_SMALL = 4
    NOTE_SIZE = 8
    NOTE_DF = 16
    NOTE_TOO_LARGE = 32
    NOTE_MALFORMED = 64
    NOTE_TOO_MANY = 128

# Counters, named in names.DEFRAG. From DEFRAG_OVERLAPPING on: datagrams given up, by reason.
cdef enum:
    COUNT_REASSEMBLED = 0     # datagrams
    COUNT_DUPLICATE = 1       # fragments that were there already, byte for byte
    COUNT_LATE = 2            # fragments of a datagram that was given up
    COUNT_MALFORMED = 3       # fragments
    COUNT_OVERLAPPING = 4
    COUNT_BAD_SIZE = 5
    COUNT_TOO_LARGE = 6
    COUNT_TOO_MANY = 7
    COUNT_REFUSED = 8         # no memory in the core's budget
    COUNT_SHED = 9            # the oldest: their budget was reached, or the core's memory is short
    COUNT_TIMEOUT = 10
    COUNT_UNFINISHED = 11     # when the traffic ended
    DEFRAG_COUNTERS = 12

# IPv6 has no protocol in it (RFC 8200: fragments of one packet may differ in next header);
# IPv4 has (RFC 791).
cdef struct FragmentKey:
    uint64_t source[2]
    uint64_t destination[2]
    uint64_t ident            # identification, protocol, version
    uint64_t tag              # VLAN and tunnel, as far as they are in the flow key

# One fragment: this, then its captured bytes.
cdef struct Fragment:
    Fragment *next            # by offset
    Fragment *painted         # the one written after it
    uint16_t offset
    uint16_t length           # by the header
    uint16_t kept             # of it captured
    uint32_t room             # size of the block

cdef struct Datagram:
    Datagram *chain           # others in its bucket
    Datagram *older           # of its IP version, by first fragment
    Datagram *newer
    FragmentKey key
    Fragment *first           # by offset
    Fragment *last
    Fragment *paint_first     # as written
    Fragment *paint_last
    uint8_t *head             # headers in front of the first fragment; NULL: not seen yet
    int64_t born_ns           # engine time of the fragment that came first
    uint32_t head_room
    uint32_t hash
    uint32_t have             # bytes of all fragments; more than size if they overlap
    uint32_t size             # bytes behind the headers; SIZE_UNKNOWN until the last was seen
    uint32_t end              # behind the highest byte seen
    uint32_t room             # size of this block
    uint16_t head_length
    uint16_t named            # Packet.frag_named of the first fragment
    uint16_t count            # fragments
    uint8_t next_header       # IPv6: of the first fragment
    uint8_t six
    uint8_t overlapping       # some of its fragments do, and the policy allows it
    uint8_t given_up          # nothing is kept; what still comes is dropped until it times out

cdef struct Defrag:
    Pool *pool
    Datagram **buckets
    uint32_t mask
    uint32_t held             # datagrams, those given up included
    uint32_t most             # budget of them
    uint32_t policy           # OVERLAP_*
    uint64_t bytes            # of blocks
    uint64_t budget           # budget of those
    int64_t patience[2]       # how long a datagram of IPv4, IPv6 may take, ns
    Datagram *oldest[2]
    Datagram *newest[2]
    KeySeed seed
    uint64_t counters[DEFRAG_COUNTERS]

# -1: no memory. The settings (policy, most, budget, patience, seed) are in place by then.
cdef int defrag_init(Defrag *d, Pool *pool) noexcept nogil
# Gives up everything: the traffic has ended.
cdef void defrag_clear(Defrag *d) noexcept nogil
cdef void defrag_free(Defrag *d) noexcept nogil
# Takes a packet with WIRE_FRAGMENT; *notes are NOTE_*, *found its datagram when it is whole.
cdef int defrag_add(Defrag *d, const Packet *p, uint64_t tag, int64_t now, uint32_t *notes,
                    Datagram **found) noexcept nogil
# Gives up the datagram that began first; False: there is none.
cdef bint defrag_shed(Defrag *d) noexcept nogil
# Lets go of datagrams whose time is over.
cdef void defrag_expire(Defrag *d, int64_t now) noexcept nogil
cdef inline uint32_t defrag_size(const Datagram *g) noexcept nogil:
    """Bytes of the whole datagram with its headers."""
    return g.head_length + g.size
# Writes a whole datagram (defrag_size() bytes) and lets go of it; how much of it from the
# front was captured.
cdef uint32_t defrag_rebuild(Defrag *d, Datagram *g, uint8_t *out) noexcept nogil
