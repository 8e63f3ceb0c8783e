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
    EVENT_OVERLAP = 6         # a: offset, b: length, c: 1 the new bytes win, 0 the old; old, new
    EVENT_GAP = 7             # a: offset, b: length, c: GAP_*
    EVENT_STATE = 8           # a: old TCP_*, b: new
    EVENT_ZERO_WINDOW = 9     # side closed its window
    EVENT_WINDOW_UPDATE = 10  # a: window in bytes, b: what it was; no data, same acknowledgement
    EVENT_FIN = 11            # a: stream offset of the end
    EVENT_RESET = 12          # a: 1 valid, 0 not (RFC 5961)
    EVENT_END = 13            # a: CLOSE_*; the last of a flow
    EVENT_ORPHAN = 14         # a: OrphanReason; no flow
    EVENT_ANOMALY = 15        # a: AnomalyKind; flow may be NULL
    EVENT_IDLE = 16           # a: nanoseconds without a packet
    EVENTS = 17

cdef enum:
    HOOK_SENDER = 0
    HOOK_RECEIVER = 1
    HOOK_TIMER = 2

# Whether repeated bytes are the ones that were there.
cdef enum:
    DIFFERS_NO = 0
    DIFFERS_YES = 1
    DIFFERS_UNKNOWN = 2       # the old ones are gone

# AnomalyKind: what no peer that follows the rules would send. names.ANOMALIES for people.
cdef enum:
    ANOMALY_INVALID_FLAGS = 0      # SYN+FIN, SYN+RST, FIN+RST, none at all
    ANOMALY_NO_ACK_FLAG = 1        # data or FIN without ACK in a synchronised state
    ANOMALY_OLD_TIMESTAMP = 2      # PAWS (RFC 7323 section 5)
    ANOMALY_RIGHT_OF_WINDOW = 3    # bytes beyond the window that the receiver has offered
    ANOMALY_BAD_RESET = 4          # RST that its receiver does not believe (RFC 5961 section 3)
    ANOMALY_CHALLENGED_SYN = 5     # SYN on a live connection (RFC 5961 section 4)
    ANOMALY_BAD_ACK = 6            # acknowledges what was not sent, or is too old (section 5)
    ANOMALY_DATA_AFTER_FIN = 7
    ANOMALY_MALFORMED_OPTIONS = 8
    ANOMALY_DIRECTION_FLIPPED = 9  # the end taken for the client is the server
    ANOMALY_SMALL_SEGMENTS = 10    # many tiny segments in flight at once
    ANOMALY_URGENT = 11            # urgent data that is not delivered in line
    ANOMALIES = 12

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
    uint8_t side              # CLIENT or SERVER
    uint8_t hook              # HOOK_*

# Called in place. It steps no coroutine, calls no hook and frees nothing (semantics.md 2).
ctypedef void (*event_fn)(void *context, const Event *event) noexcept nogil
