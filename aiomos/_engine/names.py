"""Names for people of what the engine counts and tells, in the order of its enumerations."""

COUNTERS = (
    "tcp_retransmitted",
    "tcp_out_of_order",
    "tcp_outside_window",
    "tcp_bad_flags",
    "tcp_no_ack",
    "tcp_bad_rst",
    "tcp_bad_ack",
    "tcp_challenged_syn",
    "tcp_differing",
    "tcp_beyond_fin",
    "tcp_no_flow",
    "tcp_bad_options",
    "gaps",
    "gap_bytes",
    "flows",
    "flows_closed",
    "table_full",
    "memory_refused",
    "udp_dropped",
    "slow_reader_bytes",
    "unread_side",
    "late_packets",
    "tcp_old_timestamp",
    "tcp_keep_alive",
    "tcp_window_probe",
    "tcp_urgent",
    "tcp_direction_flipped",
    "tcp_small_segments",
    "evicted_lingering",
    "evicted_embryonic",
    "evicted_idle",
    "embryonic_full",
    "memory_full",
    "shed_history_bytes",
    "shed_early_bytes",
    "shed_reader_bytes",
    "low_ttl",
    "unacked_bytes",
    "overlap_conflict",
    "events_lost",
    "icmp_errors",
    "bad_checksum",
    "duplicates",
    "shed_fragment_bytes",
    "tcp_signature",
    "other_workers",
    "wrong_core",
    "wrong_core_lost",
    "rejoined",
    "midstream",
)

#: Of reassembly (defrag.pxd).
DEFRAG = (
    "reassembled",
    "fragment_duplicates",
    "fragment_late",
    "fragment_malformed",
    "fragment_overlaps",
    "fragment_bad_size",
    "fragment_too_large",
    "fragment_too_many",
    "fragment_refused",
    "fragment_shed",
    "fragment_timeouts",
    "fragment_unfinished",
)

#: Of those, datagrams given up, by reason.
DEFRAG_LOST = DEFRAG[4:]

#: Whom memory is charged to, in the order of pool.pxd; `Core.usage()` adds "_bytes".
MEMORY = ("reader", "early", "fragment", "stats", "object")

STATUSES = (
    "tcp",
    "udp",
    "other_ip",
    "fragments",
    "not_ip",
    "incomplete",
    "unknown_link_type",
    "truncated_header",
    "bad_link_header",
    "bad_ip4_header",
    "bad_ip4_length",
    "bad_ip6_header",
    "bad_ip6_length",
    "bad_ip6_extension",
    "bad_tcp_header",
    "bad_udp_length",
    "bad_encapsulation",
    "too_deep",
    "protected",
)

#: Statuses of frames that are malformed, not merely of another kind.
MALFORMED = STATUSES[7:18]

#: What decoding can be told to leave closed; from "mpls" on they are told as tunnels.
DECODERS = (
    "vlan",
    "snap",
    "cmd",
    "ah",
    "ppp",
    "wifi",
    "mpls",
    "pppoe",
    "pbb",
    "gre",
    "nvgre",
    "erspan",
    "pptp",
    "eoip",
    "etherip",
    "ipip",
    "6in4",
    "4in6",
    "6in6",
    "l2tp",
    "teredo",
    "vxlan",
    "geneve",
    "gtpu",
)

ANOMALIES = (
    "bad_checksum",
    "fragment_overlap",
    "fragment_inconsistency",
    "excessively_small_fragment",
    "fragment_size_inconsistency",
    "fragment_with_DF",
    "fragment_too_large",
    "fragment_malformed",
    "too_many_fragments",
    "invalid_flags",
    "old_timestamp",
    "small_segments",
    "direction_flipped",
    "no_ack_flag",
    "right_of_window",
    "bad_ack",
    "challenged_syn",
    "data_after_fin",
    "malformed_options",
    "bad_reset",
    "urgent",
    "signature",
)

#: Anomalies from here on are malformed frames: STATUSES follows.
ANOMALY_STATUS = 64


def anomaly_name(kind: int) -> str:
    """What Anomaly.kind says for a number of the engine's."""
    return STATUSES[kind - ANOMALY_STATUS] if kind >= ANOMALY_STATUS else ANOMALIES[kind]


CLOSE_REASONS = (
    "",
    "FIN",
    "RESET",
    "TIMEOUT",
    "REUSED",
    "EVICTED",
    "CAPTURE_END",
    "SHUTDOWN",
    "HANDLER_DROP",
    "HANDLER_RESET",
)

GAP_CAUSES = (
    "lost",
    "acked_unseen",
    "capture_drop",
    "out_of_order_limit",
    "memory",
    "midstream",
    "snap_length",
    "urgent",
    "slow_reader",
)

#: Events by number (events.pxd), as the classes of aiomos/events.py.
EVENTS = (
    "PacketSeen",
    "ConnectionStart",
    "Established",
    "NewData",
    "Retransmission",
    "OutOfOrder",
    "Overlap",
    "Gap",
    "StateChange",
    "ZeroWindow",
    "WindowUpdate",
    "FinSeen",
    "ResetSeen",
    "ConnectionEnd",
    "Orphan",
    "Anomaly",
    "Idle",
    "IcmpError",
)

HOOKS = ("sender", "receiver", "timer")

SIDES = ("client", "server")

VERDICTS = ("accepted", "repeated", "refused")

ORPHANS = (
    "no_flow",
    "closed",
    "protocol",
    "not_ip",
    "malformed",
    "table_full",
    "fragment",
)

#: Which copy of a byte a receiver keeps (overlap.pxd).
OVERLAPS = ("first", "last", "bsd", "linux", "old-linux", "solaris")

#: enum aio_result of shim.h, as far as people are told about it.
RESULT_CUT = -2
RESULTS_FAILED = (-3, -4, -5, -7, -8)
