"""The corpus of captures with known answers, through the app behind `aiomos flows`.

The answers are other programs' (corpus/check.py says how they were had). In the folders where
every byte is determined nothing may differ from them; in the others this version decodes less
than the corpus holds, and must end well.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import aiomos
from aiomos.flows import OPTIONS, make_app, writer_of

STRICT = (
    "normal",
    "bulk",
    "ipv6",
    "reorder_retransmit",
    "seqwrap",
    "flags_rst",
    "fileformat",
    "fragments",
    "linktype",
    "tunnel",
    "vlan_mpls_pppoe",
    "overlap",
    "gap_loss",
    "fastopen",
    "flowcontrol",
    "midstream",
)
OTHERS = ("nontcp",)
ERRORS = ("mismatched", "missing", "extra", "end_mismatch")


def captures_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".pcap", ".pcapng"))


def listing(path: Path) -> tuple[str, aiomos.Summary]:
    """What `aiomos flows --digest sha256 --format jsonl` prints about a capture."""
    out = io.StringIO()
    app = make_app(writer_of("jsonl", out), digest="sha256")
    summary = aiomos.run(app, path, **OPTIONS)
    return out.getvalue(), summary


def check(corpus: Path, folder: str, results: Path) -> tuple[dict[str, int], str]:
    """Totals and text of the corpus's own comparison."""
    done = subprocess.run(
        [
            *(sys.executable, corpus / "check.py", "--json", "--show", "1000", "--dir"),
            *(results, corpus / "public" / folder),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.parametrize("folder", STRICT)
def test_a_folder_of_determined_captures_listed_equals_the_answers(corpus, tmp_path, folder):
    captures = captures_in(corpus / "public" / folder)
    for path in captures:
        (tmp_path / f"{path.stem}.jsonl").write_text(listing(path)[0])
    totals, said = check(corpus, folder, tmp_path)
    assert {error: totals[error] for error in ERRORS} == dict.fromkeys(ERRORS, 0), said
    assert (totals["no_results"], totals["captures"]) == (0, len(captures))


@pytest.mark.parametrize("folder", [*STRICT, *OTHERS])
def test_any_folder_listed_ends_well_and_accounts_for_every_frame(corpus, folder):
    for path in captures_in(corpus / "public" / folder):
        text, summary = listing(path)
        rows = [json.loads(line) for line in text.splitlines()]
        assert (summary.handler_errors, summary.turn_limit) == (0, 0), path.name
        assert summary.received == summary.processed, path.name
        assert 2 * len(rows) == summary.handlers_started, path.name
        assert all(row["reason"] != "None" for row in rows), path.name


#: Captures where another program counts UDP that is no datagram of this engine, and why.
OTHER_UDP = {
    "PcapFlowLab__14_eoip_payload_length_smaller_than_inner_frame.pcap": "EoIP says it is shorter",
    "arkime__gtp-u.pcap": "the innermost packet is ICMP",
    "tcpdump__esp_truncated.pcap": "one fragment of a datagram",
    "tcpdump__icmp-cksum-oobr-4.pcapng": "in the quote of an ICMP error, malformed",
    "tcpdump__wb-oobr.pcap": "malformed",
    "zeek__fragmented-1.pcap": "fragments that contradict each other",
}


def test_captures_without_tcp_hold_as_many_udp_datagrams_as_another_program_says(corpus):
    found = {}
    for path in sorted((corpus / "public" / "nontcp").glob("*.nontcp.json")):
        answer = json.loads(path.read_text())
        app = aiomos.App()
        app.packet()(lambda packet: None)
        counted = aiomos.run(app, path.parent / answer["pcap"]).counters
        ours = counted["udp"] + counted["reassembled"]
        found[answer["pcap"]] = (ours, answer["frames_with_protocol_tshark"].get("udp", 0))
    assert len(found) >= 40
    assert {name for name, (ours, theirs) in found.items() if ours != theirs} == OTHER_UDP.keys()
