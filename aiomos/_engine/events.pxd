"""What the engine tells in place, with the packet at hand: the C face of aiomos/events.py.

An event belongs to one end's emulated stack. The sender's stack looks at a segment first and
tells with HOOK_SENDER, the receiver's after it with HOOK_RECEIVER; what comes from a timer has
no packet and HOOK_TIMER. `side` is the end that an event is about: for bytes and holes the end
that sent them, for states and windows the end whose state or window it is.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.flow cimport Flow
from aiomos._engine.wire cimport Packet

# EventKind, and what a, b, c of Event are. names.EVENTS has the same list for people.
cdef enum:
    EVENT_PACKET = 0          # a: PacketVerdict; at both hooks
    EVENT_START = 1           # side: which end has begun
    EVENT_ESTABLISHED = 2
    EVENT_NEW_DATA = 3        # a: stream offset, b: length; new: the bytes (may be NULL: cut)
    EVENT_RETRANSMISSION = 4  # a: offset, b: length, c: DIFFERS_*
    EVENT_OUT_OF_ORDER = 5    # a: offset, b: length
    EVENT_OVERLAP = 6         # a: offset, b: length, c: 0 old, 1 new bytes win; old, new
    EVENT_GAP = 7             # a: offset, b: length, c: GAP_*
    EVENT_STATE = 8           # a: old TCP_*, b: new
    EVENT_ZERO_WINDOW = 9     # side closed its window
    EVENT_WINDOW_UPDATE = 10  # a: window in bytes, b: what it was; no data, same acknowledgement
    EVENT_FIN = 11            # a: stream offset of the end
    EVENT_RESET = 12          # a: 1 valid, 0 not (RFC 5961)
    EVENT_END = 13            # a: CLOSE_*; the last of a flow
    EVENT_ORPHAN = 14         # a: OrphanReason; no flow
    EVENT_ANOMALY = 15        # a: AnomalyKind, b: what it says of that; flow may be NULL
    EVENT_IDLE = 16           # a: nanoseconds without a packet
    # c: 1 if what it quotes is outstanding (RFC 5927); side: whose packet it quotes
    EVENT_ICMP = 17           # a: type << 8 | code, b: second word
    EVENTS = 18

cdef enum:
    HOOK_SENDER = 0
    HOOK_RECEIVER = 1
    HOOK_TIMER = 2

# AnomalyKind: what is not as the standards say. names.ANOMALIES has the same list for people;
# those of fragments are called as Zeek calls them. New ones go to the end.
cdef enum:
    ANOMALY_BAD_CHECKSUM = 0              # b: 0 IPv4 header, else the IP protocol
    ANOMALY_FRAGMENT_OVERLAP = 1          # with the bytes that were there; b: offset
    ANOMALY_FRAGMENT_INCONSISTENCY = 2    # with other bytes; b: offset
    ANOMALY_FRAGMENT_SMALL = 3            # not the last, and under 64 bytes; b: its length
    ANOMALY_FRAGMENT_SIZE = 4             # contradicts where its datagram ends; b: its end
    ANOMALY_FRAGMENT_WITH_DF = 5          # b: offset
    ANOMALY_FRAGMENT_TOO_LARGE = 6        # its datagram would be over 65535 bytes; b: its end
    ANOMALY_FRAGMENT_MALFORMED = 7        # empty, or an IPv6 one of no multiple of 8; b: its length
    ANOMALY_FRAGMENTS_TOO_MANY = 8        # b: how many
    ANOMALY_INVALID_FLAGS = 9             # b: the TCP flags
    ANOMALY_OLD_TIMESTAMP = 10            # PAWS (RFC 7323 section 5); b: it, c: the newest
    ANOMALY_SMALL_SEGMENTS = 11           # many tiny segments in flight at once
    ANOMALY_DIRECTION_FLIPPED = 12        # the ends of a flow picked up changed roles
    ANOMALY_NO_ACK_FLAG = 13              # data or FIN without ACK in a synchronised state
    ANOMALY_RIGHT_OF_WINDOW = 14          # beyond what the receiver offered; b: bytes
    ANOMALY_BAD_ACK = 15                  # of what was not sent, or too old (RFC 5961 section 5)
    ANOMALY_CHALLENGED_SYN = 16           # SYN on a live connection (RFC 5961 section 4)
    ANOMALY_DATA_AFTER_FIN = 17           # b: bytes
    ANOMALY_MALFORMED_OPTIONS = 18
    ANOMALY_BAD_RESET = 19                # its receiver does not believe it (RFC 5961 section 3)
    ANOMALY_URGENT = 20                   # urgent data that is not delivered in line; b: bytes
    ANOMALY_SIGNATURE = 21                # signed, and its SYN was not; b: option, 0: not signed
    ANOMALIES = 22
    ANOMALY_STATUS = 64                   # and above: a malformed frame, by its WireStatus

# Whether repeated bytes are the ones that were there.
cdef enum:
    DIFFERS_NO = 0
    DIFFERS_YES = 1
    DIFFERS_UNKNOWN = 2       # the old ones are gone

# PacketVerdict: what the stack at this hook made of a packet. names.VERDICTS
cdef enum:
    VERDICT_ACCEPTED = 0      # brought something new, or acknowledges
    VERDICT_REPEATED = 1      # brought nothing new
    VERDICT_REFUSED = 2       # failed a check: nothing of it counts

# OrphanReason: why a packet belongs to no flow. names.ORPHANS
cdef enum:
    ORPHAN_NO_FLOW = 0        # TCP that opens no flow: RST, or pickup is off
    ORPHAN_CLOSED = 1         # TCP or UDP of a flow that is over
    ORPHAN_PROTOCOL = 2       # IP, neither TCP nor UDP
    ORPHAN_NOT_IP = 3
    ORPHAN_MALFORMED = 4      # headers that cannot be right, or are cut off
    ORPHAN_TABLE_FULL = 5
    ORPHAN_FRAGMENT = 6       # a fragment whose datagram is not complete

cdef struct Event:
    Flow *flow                # NULL: orphans, and anomalies below TCP
    Packet *packet            # NULL: a timer
    const uint8_t *old        # valid during the call only, as everything here
    const uint8_t *new
    int64_t time_ns           # capture stamp; of a timer, engine time
    uint64_t a
    uint64_t b
    uint64_t c
    uint32_t old_length
    uint32_t new_length
    uint8_t kind              # EventKind
    uint8_t side              # CLIENT or SERVER, by the roles that the ends have now
    uint8_t hook              # HOOK_*

# Called in place. It steps no coroutine, calls no hook and frees nothing (semantics.md 2).
ctypedef void (*event_fn)(void *context, const Event *event) noexcept nogil
