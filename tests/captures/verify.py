#!/usr/bin/env python3
"""Check that every truth can be had from its capture, twice over.

A reassembler of our own does it, and where it is installed tshark, which follows each stream and
names each HTTP request.

    python tests/captures/verify.py                   # this folder
    python tests/captures/verify.py FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.frames import LINK_TYPES, Key, frames, segments, turned
from lab.streams import Direction, directions, how_it_ended

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]


def key_of(row: Row) -> Key:
    """Client to server."""
    return row["src"], row["sport"], row["dst"], row["dport"]


def check_direction(row: Row, name: str, length: int, sha256: str) -> Iterator[str]:
    """Compare one direction with the truth; `sha256` is of the bytes the receiver got."""
    received, sent = row[f"{name}_bytes"], row[f"{name}_sent_bytes"]
    if row[f"{name}_exact"] and length != received:
        yield f"{name}: {length} bytes, not {received}"
    elif not received <= length <= sent:
        yield f"{name}: {length} bytes, not between {received} and {sent}"
    if sha256 != row[f"{name}_sha256"]:
        yield f"{name}: other bytes than were received"


def check_connection(row: Row, found: dict[Key, Direction]) -> Iterator[str]:
    """What our own reassembly and the truth differ in."""
    client = found.get(key_of(row), Direction())
    server = found.get(turned(key_of(row)), Direction())
    for name, side in (("client", client), ("server", server)):
        digest = side.sha256(row[f"{name}_bytes"])
        yield from check_direction(row, name, len(side.data), digest)
        if side.missing:
            yield f"{name}: {side.missing} bytes are not in the capture"
        if side.differing:
            yield f"{name}: {side.differing} bytes were seen with two values"
    if how_it_ended(client, server) != row["end"]:
        yield f"ended by {how_it_ended(client, server)}, not {row['end']}"


def check_order(rows: list[Row], found: dict[Key, Direction]) -> Iterator[str]:
    """The truth lists exactly the connections of the capture, first seen first."""
    seen: list[Key] = []
    for key in found:
        if turned(key) not in seen:
            seen.append(key)
    expected = [key_of(row) for row in rows]
    if [min(key, turned(key)) for key in seen] != [min(key, turned(key)) for key in expected]:
        yield "other connections, or in another order"


def tshark(path: Path, *args: str) -> list[str]:
    """The lines that tshark prints about a capture, taking late segments into their place."""
    command = ["tshark", "-r", str(path), "-n", "-o", "tcp.reassemble_out_of_order:TRUE", *args]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def tshark_follow(path: Path, number: int) -> tuple[Key, bytes, bytes]:
    """One stream as tshark follows it: its key, and what each node sent."""
    lines = tshark(path, "-q", "-z", f"follow,tcp,raw,{number}")
    nodes = [re.match(r"Node \d: (.*):(\d+)$", line) for line in lines]
    (src, sport), (dst, dport) = [node.groups() for node in nodes if node]
    parts: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        if re.fullmatch(r"\t?[0-9a-f]+", line):
            parts[line.startswith("\t")].append(line.strip())
    first, second = (bytes.fromhex("".join(part)) for part in parts)
    return (src.strip("[]"), int(sport), dst.strip("[]"), int(dport)), first, second


def check_followed(path: Path, rows: list[Row]) -> Iterator[str]:
    """What tshark's streams and the truth differ in."""
    numbers = {int(line) for line in tshark(path, "-Y", "tcp", "-T", "fields", "-e", "tcp.stream")}
    by_key = {key_of(row): row for row in rows}
    if len(numbers) != len(rows):
        yield f"tshark: {len(numbers)} connections, not {len(rows)}"
    for number in sorted(numbers):
        key, first, second = tshark_follow(path, number)
        if key not in by_key:
            key, first, second = turned(key), second, first
        row = by_key[key]
        for name, data in (("client", first), ("server", second)):
            digest = hashlib.sha256(data[: row[f"{name}_bytes"]]).hexdigest()
            for problem in check_direction(row, name, len(data), digest):
                yield f"tshark, {key}: {problem}"


def check_requests(path: Path, requests: list[Row]) -> Iterator[str]:
    """Method, path and status of every request, as tshark names them for each connection."""
    fields = ("tcp.port", "http.request.method", "http.request.uri", "http.response.code")
    args = [word for name in fields for word in ("-e", name)]
    asked: dict[int, list[tuple[str, str]]] = {}
    answered: dict[int, list[int]] = {}
    for line in tshark(path, "-Y", "http", "-T", "fields", *args):
        ports, methods, paths, codes = (part.split(",") for part in line.split("\t"))
        client = next(int(port) for port in ports if port != "80")
        if methods != [""]:
            asked.setdefault(client, []).extend(zip(methods, paths, strict=True))
        if codes != [""]:
            answered.setdefault(client, []).extend(int(code) for code in codes if code != "100")
    for port in {row["sport"] for row in requests}:
        mine = [row for row in requests if row["sport"] == port]
        if asked.get(port) != [(row["method"], row["path"]) for row in mine]:
            yield f"tshark, port {port}: other requests: {asked.get(port)}"
        if answered.get(port) != [row["status"] for row in mine]:
            yield f"tshark, port {port}: other answers: {answered.get(port)}"


def check(truth_path: Path, *, with_tshark: bool) -> list[str]:
    """Everything wrong with one capture; prints a line about it."""
    truth = json.loads(truth_path.read_text())
    path, rows = truth_path.parent / truth["capture"], truth["connections"]
    captured = list(frames(path))
    found = directions(segments(path))
    problems = [f"{key_of(row)}: {text}" for row in rows for text in check_connection(row, found)]
    problems += check_order(rows, found)
    if LINK_TYPES[captured[0].link_type] != truth["link_type"]:
        problems.append("another link type")
    if with_tshark:
        problems += check_followed(path, rows)
        problems += check_requests(path, truth.get("requests", []))
    repeated = sum(side.repeated for side in found.values())
    late = sum(side.late for side in found.values())
    print(
        f"{path.name:22} {path.stat().st_size:7} bytes {len(captured):5} frames"
        f" {len(rows):3} connections {repeated:4} repeated {late:4} late"
        f" {'ok' if not problems else 'WRONG'}"
    )
    return problems


def main() -> int:
    """Check every truth of a folder."""
    parser = argparse.ArgumentParser(description="check captures against their truth")
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    folder = parser.parse_args().folder
    with_tshark = shutil.which("tshark") is not None
    if not with_tshark:
        print("tshark is not installed: our own reassembly only")
    problems = 0
    for truth in sorted(folder.glob("*.truth.json")):
        for problem in check(truth, with_tshark=with_tshark):
            problems += 1
            print("   ", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
