"""Connections of the corpus of which two copies differ: `aiomos flows --policy first` and `last`.

Each must give what the corpus says that the first, or the last, copy of every byte gives, where
all copies came before the receiver's acknowledgement. The table below has those of which some
came after it, with the frame that makes that answer unreachable.
"""

from __future__ import annotations

import io
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos.flows import OPTIONS, make_app, writer_of

SYN_ONLY = "acknowledges nothing, its own number is the SYN's: data on a SYN that nobody took"
NO_SYN = "its number is the first that counts, since a SYN with FIN (frame 1) opens nothing"

#: Capture -> policy -> the frame after which this answer cannot be had, and why.
UNREACHABLE: dict[str, dict[str, tuple[int, str]]] = {
    "overlap/PcapPlusPlus__PacketExamples_Ftp": {
        "last": (4, "acknowledges what frame 7 brings other bytes of"),
    },
    **{
        f"overlap/suricata-verify__util-action-{n}_input": {
            "first": (3, SYN_ONLY),
            "last": (3, SYN_ONLY),
        }
        for n in ("03", "08", "13")
    },
    "overlap/zeek__fuzz-72": {"first": (2, NO_SYN), "last": (2, NO_SYN)},
}

Answer = tuple[int, int, str, str]


def listing(path: Path, policy: str) -> list[dict[str, Any]]:
    """What `aiomos flows --policy POLICY --digest sha256 --format jsonl` prints."""
    out = io.StringIO()
    app = make_app(writer_of("jsonl", out), digest="sha256", policy=policy)
    aiomos.run(app, path, **OPTIONS)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def ends(row: dict[str, Any]) -> tuple[str, int, str, int]:
    src, dst = (ipaddress.ip_address(row[name]).compressed for name in ("src", "dst"))
    return src, row["sport"], dst, row["dport"]


def answer(row: dict[str, Any], turned: bool = False) -> Answer:
    """What each end sent; ``turned``: with the ends in the other roles."""
    first, second = ("server", "client") if turned else ("client", "server")
    return (
        *(row[f"{first}_bytes"], row[f"{second}_bytes"]),
        *(row[f"{first}_sha256"], row[f"{second}_sha256"]),
    )


def answers(rows: list[dict[str, Any]], wanted: dict[str, Any]) -> list[Answer]:
    """Those of the connections between the same two ends, whoever was taken for the client."""
    src, sport, dst, dport = ends(wanted)
    found = [answer(row) for row in rows if ends(row) == (src, sport, dst, dport)]
    turned = [answer(row, True) for row in rows if ends(row) == (dst, dport, src, sport)]
    return found + turned


def policy_connections(corpus: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(capture, connection) of all that have an answer by a policy."""
    found = []
    for path in sorted(corpus.glob("public/*/*.expected.json")):
        base = path.name.removesuffix(".expected.json")
        [capture] = [p for p in path.parent.glob(f"{base}.pcap*") if p.stem == base]
        for connection in json.loads(path.read_text())["tcp_connections"]:
            names = {a["name"] for a in connection.get("alternatives", ())}
            if connection["class"] == "policy" and names & {"first", "last"}:
                found.append((capture, connection))
    return found


def unanswered(corpus: Path, policy: str) -> set[str]:
    """Captures with a connection of which no row equals the alternative of that name."""
    missed = set()
    for capture, connection in policy_connections(corpus):
        [wanted] = [a for a in connection["alternatives"] if a["name"] == policy]
        if answer(wanted) not in answers(listing(capture, policy), connection):
            missed.add(f"{capture.parent.name}/{capture.stem}")
    return missed


@pytest.mark.parametrize("policy", ["first", "last"])
def test_connections_with_differing_copies_listed_by_policy_equal_its_answer(corpus, policy):
    unreachable = {name for name, policies in UNREACHABLE.items() if policy in policies}
    assert unanswered(corpus, policy) == unreachable


def test_the_corpus_has_connections_that_the_policies_tell_apart(corpus):
    reachable = [c for c, _ in policy_connections(corpus) if f"overlap/{c.stem}" not in UNREACHABLE]
    assert len(reachable) == 5
