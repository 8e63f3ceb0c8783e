"""Numbers and enumerations that every layer shares."""

# The two ends of a flow, as indices.
cdef enum:
    CLIENT = 0
    SERVER = 1

cdef enum:
    PROTO_TCP = 6
    PROTO_UDP = 17

# TCP header flags.
cdef enum:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20

# Why a flow ended (semantics.md 12); CLOSE_OPEN while it has not.
cdef enum:
    CLOSE_OPEN = 0
    CLOSE_FIN = 1
    CLOSE_RESET = 2
    CLOSE_TIMEOUT = 3
    CLOSE_REUSED = 4
    CLOSE_EVICTED = 5
    CLOSE_CAPTURE_END = 6
    CLOSE_SHUTDOWN = 7
    CLOSE_HANDLER_DROP = 8
    CLOSE_HANDLER_RESET = 9

# Why bytes are missing.
cdef enum:
    GAP_LOST = 0
    GAP_ACKED_UNSEEN = 1
    GAP_CAPTURE_DROP = 2
    GAP_OUT_OF_ORDER_LIMIT = 3
    GAP_MEMORY = 4
    GAP_MIDSTREAM = 5
    GAP_SNAP_LENGTH = 6
    GAP_URGENT = 7
    GAP_SLOW_READER = 8

# UrgentPolicy: what becomes of an urgent byte (urgent.pxd).
cdef enum:
    URGENT_OOB = 0            # out of band, as an application without SO_OOBINLINE has it
    URGENT_INLINE = 1         # in its place in the stream
    URGENT_DROP = 2           # a segment with the URG flag is not delivered: a gap
    URGENT_GAP = 3            # the byte becomes a gap of cause "urgent"

cdef enum:
    MAX_VLAN = 4                  # tags kept of a stack; deeper ones are walked, not kept
    MAX_HANDLERS = 64             # bits of a handler mask
    SCRATCH_SIZE = 1 << 18        # largest frame that is made contiguous when it is not

# Defaults; all are fields of CoreConfig. Times in ns.
cdef enum:
    OOO_MAX_BYTES = 1 << 20       # out-of-order store of one side (semantics.md 5)
    OOO_MAX_RANGES = 4096
