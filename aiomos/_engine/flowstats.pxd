"""Extended statistics of a flow: a block of its own, made only where somebody asks (stats.pyx)."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

# EndStats.flags.
cdef enum:
    STATS_SYN = 0x01          # syn_ns holds: its SYN or SYN-ACK was seen, once
    STATS_SYN_AGAIN = 0x02    # more than once: which of them was answered is not known (Karn)
    STATS_HANDSHAKE = 0x04    # handshake_ns holds
    STATS_ECHO_DUE = 0x08     # ts_value and ts_ns hold: its echo has not come yet
    STATS_WINDOW = 0x10       # window_min and window_max hold
    STATS_TIMESTAMPS = 0x20   # its SYN offered timestamps (RFC 7323)
    STATS_SACK = 0x40         # its SYN offered selective acknowledgements (RFC 2018)
    STATS_SCALE = 0x80        # its SYN offered window scaling
    STATS_TIMED = 0x100       # ts_newest holds

# One end, by what it sent; times on the engine's clock, in ns.
cdef struct EndStats:
    uint64_t wire_bytes       # of its frames, as they were on the wire
    uint64_t payload_bytes    # by the headers, every copy counted
    uint64_t retransmitted_bytes  # of them seen before
    uint64_t early_bytes      # of them in front of which something was missing
    uint64_t gap_bytes        # given up
    int64_t syn_ns            # when its SYN passed
    int64_t handshake_ns      # from its peer's SYN to its answer
    int64_t ts_ns             # when ts_value passed for the first time
    uint64_t rtt_sum          # of rtt_samples, as are the next three
    int64_t rtt_min
    int64_t rtt_max
    int64_t rtt_last
    uint32_t rtt_samples      # timestamps of its peer that it echoed
    uint32_t ts_value         # timestamp of its own that its peer has to echo
    uint32_t early_segments
    uint32_t zero_windows     # times it closed its window
    uint32_t window_min       # bytes, scaled where both SYNs were seen
    uint32_t window_max
    uint32_t window_last
    uint32_t ts_newest        # newest timestamp of its own that passed
    uint16_t flags            # STATS_*
    uint8_t scale

cdef struct FlowStats:
    EndStats end[2]           # as Flow.h
    uint32_t room             # size of the block, in bytes
