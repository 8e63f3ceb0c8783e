"""Stimuli that every part of aiomos must survive, by number: which test shows each, which are not
due yet, and which are not met.

A test claims a row in `SHOWN_BY` and `MOS_SHOWN_BY`, or in its docstring, as "row 7", "rows 7 and 8" or "rows 48-50" (hostile traffic,
below), or as "mOS row 3" (crafted cases in which the public mOS release fails). The list is held
against the tests by unit/test_cases.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

#: Hostile and broken traffic.
ROWS = {
    1: "segment with a bad checksum carrying decoy bytes",
    2: "decoy with a TTL that ends before the host",
    3: "flags that no stack sends: none, SYN+FIN, FIN+RST, Xmas; data without ACK",
    4: "data right of the window, and wholly old data",
    5: "decoy with an old timestamp (PAWS)",
    6: "resets: wrong number, in the window, exact, with an invalid timestamp",
    7: "reset before all data was acknowledged",
    8: "FIN at a wrong number, FIN again, data after FIN",
    9: "reset right after the SYN",
    10: "data on SYN, Fast Open, data on SYN refused",
    11: "split handshakes of four and five segments",
    12: "several SYN-ACKs with different numbers",
    13: "SYN again with another initial number",
    14: "ports used again in TIME_WAIT and on a live connection",
    15: "exact duplicates",
    16: "same numbers, other bytes (Quantum Insert)",
    17: "exact overlap before the acknowledgement, delivered when acknowledged",
    18: "the overlap vectors, every policy, every initial number",
    19: "urgent data, every policy",
    20: "very small segments, alternating and at random",
    21: "segments over the MSS, Ethernet padding, bytes beyond the IP length",
    22: "capture cut at a snap length",
    23: "window scale over 14, options of length 0, empty SACK",
    24: "sequence wrap within data, transfers over 4 GiB",
    25: "decoys with MD5 option, with a data offset of 10 and a bad checksum",
    26: "a segment that only the capture lost",
    27: "acknowledgement seen before its data",
    28: "HTTP: gaps in bodies",
    29: "HTTP: gap in the headers of a pipelined connection",
    30: "one side visible",
    31: "one-sided parser of a request and response protocol",
    32: "first packet in the middle, by policy",
    33: "misleading port and missing SYN",
    34: "both directions on different queues",
    35: "VLAN tag on one direction, QinQ, tunnels: one flow or two",
    36: "a flood of segments above one hole",
    37: "packets twice, from a mirror of both ports",
    38: "a flood of SYNs",
    39: "a flood of handshakes without data",
    40: "addresses that collide in the hash",
    41: "exceptions of the engine by packet number and policy",
    42: "slow handler on a large flow",
    43: "handler that never returns, swallows its cancellation, raises, blocks",
    44: "holds",
    45: "rewriting that changes lengths",
    46: "worker killed, exceptions in a storm, reload under load",
    47: "clocks: backwards, a jump, equal stamps, 2038",
    48: "fragments that overlap",
    49: "fragments twice",
    50: "fragments of one ID and different protocols",
    51: "fragments of more than 64 KiB",
    52: "nine fragments and more",
    53: "tiny first fragment, atomic fragments, chains of extension headers",
    54: "a flood of fragments",
    55: "names of fragment anomalies",
}

#: Rows for which no test is due yet, and what they wait for.
NOT_DUE = {
    31: "a reader of SMB",
    41: "inline",
    44: "inline",
    45: "inline",
}

#: Rows that are due and not met.
UNMET: dict[int, str] = {}

#: Tests, as file::test, that show a row without saying so.
SHOWN_BY = {
    7: ["test_core_gaps.py::test_reset_before_all_is_acknowledged_delivers_all_without_gap"],
    9: ["test_core_opening.py::test_syn_sent_rst_injected_takes_no_numbers_from_it"],
    10: [
        "test_core_opening.py::test_syn_sent_data_on_it_acknowledged_is_delivered_first",
        "test_core_opening.py::test_syn_sent_data_on_it_not_acknowledged_is_forgotten",
    ],
    11: [
        "test_core_opening.py::test_split_handshake_of_four_establishes_with_the_first_as_client",
        "test_core_opening.py::test_split_handshake_of_five_establishes_with_the_first_as_client",
    ],
    12: [
        "test_core_opening.py::test_syn_sent_several_synacks_the_clients_ack_chooses_the_last",
        "test_core_opening.py::test_syn_sent_several_synacks_the_clients_ack_chooses_the_first",
    ],
    13: ["test_core_opening.py::test_syn_sent_syn_of_another_isn_confirmed_keeps_one_flow"],
    15: ["test_core_repeats.py::test_established_exact_duplicate_payload_is_told_not_to_differ"],
    16: [
        "test_core_repeats.py::"
        "test_established_same_numbers_other_payload_first_is_read_and_both_are_told"
    ],
    17: ["test_core_acked.py::test_established_two_copies_before_the_ack_compete"],
    18: ["test_overlap_model.py::test_vector_of_novak_and_sturges_queued_is_as_published"],
    24: ["test_core_data.py::test_established_long_transfer_across_the_wrap_counts_on"],
    26: ["test_core_gaps.py::test_hole_acknowledged_becomes_a_gap_after_the_grace"],
    27: ["test_core_gaps.py::test_ack_before_its_data_is_no_gap"],
    35: [
        "test_flow_tunnel.py::test_connection_wrapped_half_the_time_is_one_flow",
        "test_flow_tunnel.py::"
        "test_connection_wrapped_half_the_time_with_the_network_in_the_key_is_two_flows",
    ],
    36: ["test_core_gaps.py::test_flood_above_one_hole_is_bounded"],
    53: [
        "test_fragments.py::test_tiny_first_fragment_without_the_tcp_header_is_put_together",
        "test_fragments.py::test_ip6_atomic_fragment_is_processed_alone",
    ],
}
MOS_SHOWN_BY = {
    3: ["test_endpoint.py::test_fin_gives_end_of_stream_and_a_complete_side"],
    4: ["test_core_opening.py::test_malformed_options_are_counted_and_the_rest_is_used"],
    5: ["test_core_closing.py::test_established_rst_with_another_number_is_ignored"],
    6: ["test_core_checks.py::test_old_timestamps_decoys_are_refused_and_the_content_is_read_once"],
    7: ["test_core_opening.py::test_syn_sent_data_on_it_acknowledged_is_delivered_first"],
    8: [
        "test_core_closing.py::test_closed_syn_with_another_isn_begins_a_new_flow",
        "test_core_closing.py::test_established_syn_with_another_isn_answered_begins_a_new_flow",
    ],
    9: ["test_core_closing.py::test_established_fin_before_late_data_waits_for_it"],
    10: ["test_core_repeats.py::test_established_old_bytes_are_judged_as_far_as_history_is_kept"],
    11: ["test_core_life.py::test_old_active_flow_in_front_of_idle_ones_holds_none_of_them_up"],
    12: ["test_core_life.py::test_flows_in_time_wait_cost_one_look_each"],
    13: ["test_malformed.py::test_header_that_cannot_be_right_is_told"],
    14: [
        "test_core_opening.py::test_closed_handshake_over_ipv6_establishes",
        "test_core_data.py::test_established_vlan_tag_on_one_direction_is_one_flow",
        "test_fragments.py::test_fragments_that_overlap_drop_the_whole_datagram",
        "test_core_midstream.py::test_closed_data_first_is_picked_up",
    ],
}

#: Crafted cases in which the public mOS release fails.
MOS_ROWS = {
    1: "first four segments late, 50 kB in order behind them",
    2: "flows that open and close within one burst, at several burst sizes",
    3: "separate FIN after the data was read",
    4: "SYN with an option of length 0",
    5: "reset a million bytes outside the window",
    6: "data with an old timestamp",
    7: "data on SYN",
    8: "new SYN on a live or closing tuple",
    9: "FIN before a late segment",
    10: "old retransmission with other content",
    11: "one old active flow in front of idle ones",
    12: "many flows in TIME_WAIT",
    13: "IP total length beyond the frame, header length under five words",
    14: "IPv6, VLAN, fragments, mid-stream",
    15: "a match completed by a packet, inline",
}
MOS_NOT_DUE = {15: "inline"}

_NUMBERS = r"(\d+(?:\s*(?:,\s*(?:and\s+)?|and|to|-)\s*\d+)*)"
_ROW = re.compile(rf"(mOS\s+)?\brows?\s+{_NUMBERS}", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)\s*(?:to|-)\s*(\d+)")


def numbers_in(text: str) -> Iterator[int]:
    """``7, 9 and 48-50`` as 7, 9, 48, 49, 50."""
    for low, high in _RANGE.findall(text):
        yield from range(int(low), int(high) + 1)
    yield from map(int, re.findall(r"\d+", text))


def claims_of(docstring: str) -> Iterator[tuple[bool, int]]:
    """(whether it is a row of mOS, number) of every row that a docstring names."""
    for mos, numbers in _ROW.findall(docstring):
        for number in numbers_in(numbers):
            yield bool(mos), number


def tests_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Every test below a folder, as file::test, with its docstring."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                yield f"{path.name}::{node.name}", ast.get_docstring(node) or ""


def claims(folder: Path) -> Iterator[tuple[bool, int, str]]:
    """Every row that a test below a folder claims or is said to show, with the test's name."""
    for name, docstring in tests_of(folder):
        for mos, number in claims_of(docstring):
            yield mos, number, name
    for mos, table in ((False, SHOWN_BY), (True, MOS_SHOWN_BY)):
        for number, names in table.items():
            for name in names:
                yield mos, number, name
