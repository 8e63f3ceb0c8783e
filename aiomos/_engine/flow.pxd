"""What the engine knows of one connection: two cache lines for every packet, then the rest.

Memory of a flow, and nothing else of it: behaviour is in tcp.pyx and udp.pyx, birth and
death in flowtable.pyx.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos._engine.flowstats cimport FlowStats
from aiomos._engine.stream cimport Stream

# Half.flags: what is known of what this end sent; 16 bits.
cdef enum:
    HALF_SEEN = 0x001         # at least one packet of this end was seen
    HALF_SYN = 0x002          # its SYN was seen
    HALF_SYNCED = 0x004       # Flow.isn and nxt hold: a SYN, picked up, or told by the peer's ACK
    HALF_ACKING = 0x008       # it acknowledged its peer's SYN: ack and edge hold
    HALF_FIN = 0x010          # its FIN was seen; Flow.fin holds
    HALF_FIN_DONE = 0x020     # everything before its FIN was seen, and the FIN itself
    HALF_FIN_ACKED = 0x040
    HALF_RST = 0x080          # it sent a RST (valid or not)
    HALF_SCALING = 0x100      # its SYN offered window scaling
    HALF_INFERRED = 0x200     # Flow.isn and nxt come from the peer's ACK alone
    HALF_CLAIMED = 0x400      # without FIN: Flow.fin is where the peer's ACK alone put nxt
    HALF_TIMESTAMPS = 0x800   # its segments carry timestamps; ts_recent holds
    HALF_STARTED = 0x1000     # its ConnectionStart was told
    HALF_URGENT = 0x4000      # an urgent byte is announced and not yet passed (Stream.urgent)
    HALF_SIGNED = 0x8000      # its SYN was signed: so is every segment (signatures.pxd)
    HALF_AWAY = 0x2000        # not heard for long while its peer goes on: its peer is believed
# Flow.flags.
cdef enum:
    FLOW_OPEN = 0x0001        # both SYNs acknowledged, no FIN and no RST yet: the fast path
    FLOW_ESTABLISHED = 0x0002 # was open at some time
    FLOW_CLOSED = 0x0004      # has its CloseReason; the entry lingers for late packets
    FLOW_MIDSTREAM = 0x0008   # picked up without a SYN
    FLOW_CLIENT_LOW = 0x0010  # the client is the canonical low end
    FLOW_DATA = 0x0020        # payload was accepted
    FLOW_UNLINKED = 0x0040    # no longer in the table: freed with its last view
    FLOW_FLIPPED = 0x0080     # end 0 is the server: the guess was wrong (direction.pxd)
    FLOW_REUSE_SYN = 0x0100   # other_isn is of a SYN on this live connection, not answered yet
    FLOW_IN_WHEEL = 0x0200
    FLOW_OTHER_ISN = 0x1000   # other_isn holds, of the client (0x1000) or the server (0x2000)
    FLOW_OFFER_LOST = 0x0800  # and there was one before it (offers.pxd)
    FLOW_NO_SACK = 0x8000     # a SYN was seen that permits no selective acknowledgements
    FLOW_PAWS = 0x4000        # both ends use timestamps: older ones are refused (RFC 7323)
    FLOW_EXTRA = 0x400000     # it has a block of its own besides (extra.pxd)
    FLOW_CLAIM = 0x10000      # claim holds, of the client (0x10000) or the server (0x20000)
    FLOW_LEARNING = 0x40000   # whether timestamps are used shows as segments come
    FLOW_SHOWN = 0x1000000    # claim is where data beyond the window ended: client, server
    FLOW_DOUBT = 0x4000000    # a RST of the client (0x4000000) or server may have been exact
    FLOW_DYING = 0x0400       # unlinked in this burst; records may still name it
    FLOW_IDLE_TOLD = 0x10000000      # Idle was told, and no packet was seen to have come since
    FLOW_EVENTS = 0x20000000  # the event bridge has something of it
    FLOW_END_TOLD = 0x40000000       # nobody is told anything of it any more
    FLOW_STATS = 0x100000     # Flow.stats holds: every packet is counted in more detail

# Flow.list: flows by what would be missed least, each list in order of what is to go first
# (flowtable.pxd: table_list).
cdef enum:
    LIST_NONE = 0
    LIST_EMBRYONIC = 1        # handshake not finished; in order of their birth
    LIST_UNPROVEN = 2         # open, and no data or one end unseen when it was looked at last
    LIST_OPEN = 3             # by when it was last known to have had packets
    LIST_CLOSED = 4           # over, lingers for late packets; in order of their ends
    LISTS = 5

# Endpoint states (RFC 9293 section 3.3.2).
cdef enum:
    TCP_CLOSED = 0
    TCP_LISTEN = 1
    TCP_SYN_SENT = 2
    TCP_SYN_RECEIVED = 3
    TCP_ESTABLISHED = 4
    TCP_FIN_WAIT_1 = 5
    TCP_FIN_WAIT_2 = 6
    TCP_CLOSE_WAIT = 7
    TCP_CLOSING = 8
    TCP_LAST_ACK = 9
    TCP_TIME_WAIT = 10

# One end of a connection, by what it sent. 40 bytes.
cdef struct Half:
    uint64_t offset           # 64-bit stream offset that nxt stands for
    uint32_t nxt              # first sequence number its peer has not received in order
    uint32_t top              # one past the highest sequence number it has sent
    uint32_t ack              # highest acknowledgement it has sent (of the peer's bytes)
    uint32_t edge             # right edge of the widest window it has offered its peer
    uint32_t ts_recent        # newest timestamp that its peer has echoed (RFC 7323 section 4.3)
    uint32_t packets
    uint16_t window           # of its last acceptable segment, unscaled
    uint16_t max_window       # largest of these since it was established
    uint16_t flags            # HALF_*
    uint8_t state             # TCP_*; written by set_state() of state.pxd alone
    uint8_t scale             # shift of its window field

cdef struct Flow:
    # -- hot: 128 bytes ------------------------------------------------------------
    uint64_t k0               # canonical key (flowkey.pxd)
    uint64_t k1
    int64_t last_ns           # engine time of the last packet
    Stream *stream[2]         # bytes kept of each end; NULL: counted, not kept
    uint32_t flags            # FLOW_*
    uint32_t index            # its own number in the slab
    Half h[2]                 # the two ends: see flow_role()
    # -- cold ------------------------------------------------------------------------
    void *views               # chain of Python objects whose handlers watch it (bridge)
    uint64_t id
    uint64_t waiting          # handlers that match and have not started yet (mask)
    int64_t start_ns          # capture stamp of the first packet
    int64_t born_ns           # the same in engine time
    uint32_t timer_next       # wheel list, or free list of the slab
    uint32_t timer_prev
    uint32_t timer_tick       # when the wheel looks at it
    uint32_t listed           # when it was put on its list, in units of LISTED_SHIFT
    uint16_t timer_slot
    uint8_t protocol
    uint8_t ip_version
    uint8_t close_reason      # CLOSE_*
    uint8_t n_vlan
    uint16_t ports[2]
    uint16_t mss[2]           # announced, 0 = not seen
    uint16_t vlan[2]
    uint8_t address[2][16]    # IPv4 in the first four bytes
    uint8_t mac[2][6]
    uint16_t ts_ahead[2]      # newest timestamp of an end less its ts_recent; 65535: or more
    uint8_t other_offer       # options of the SYN that other_isn is of (offers.pxd)
    uint8_t list              # LIST_*
    uint16_t policies         # whether and how bytes are kept, eight bits an end (overlap.pxd)
    uint8_t small[2]          # tiny segments in a row, none waiting for an acknowledgement
    uint32_t isn[2]           # initial sequence numbers
    uint32_t fin[2]           # sequence numbers of the FINs
    uint32_t other_isn        # an earlier one of an end; once established: of another connection
    uint32_t pins             # Python objects that name this entry: not reused before 0
    uint32_t retransmissions[2]
    uint32_t gaps[2]
    uint32_t list_next
    uint32_t list_prev
    FlowStats *stats          # NULL: nobody asked for more than what is here (stats.pxd)
    uint32_t claim            # where one end claims to be, beyond what its peer has shown
    uint32_t since            # when that began, or a doubtful RST came (life.pxd: since_now)
    # 320 bytes in all: the hot part lies in exactly two cache lines

# The role of an end, and the end that has a role. End 0 is the one that was taken for the client
# when the flow began; nothing in an entry moves when that is corrected.
cdef inline int flow_role(const Flow *f, int end) noexcept nogil:
    return end ^ ((f.flags & FLOW_FLIPPED) != 0)
