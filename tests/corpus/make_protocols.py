#!/usr/bin/env python3
"""Writes protocols.json: what tshark reads from the corpus that protocol readers read too.

    python tests/corpus/make_protocols.py CORPUS

Needs tshark; the version that was asked is in the file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

FILTER = (
    "(tcp && (http.request or http.response or tls.handshake.ja3 or tls.handshake.ja3s"
    " or ssh.protocol or ssh.kex.hassh or ssh.kex.hasshserver or (dns && tcp.port == 53)))"
    " or (dns && udp.port == 53)"
)
#: Kind of answer -> fields that make one, told apart by place where a packet has several.
FIELDS = {
    "requests": ("http.request.method", "http.request.uri"),
    "responses": ("http.response.code",),
    "ja3": ("tls.handshake.ja3",),
    "names": ("tls.handshake.extensions_server_name",),
    "ja3s": ("tls.handshake.ja3s",),
    "banners": ("ssh.protocol",),
    "hassh": ("ssh.kex.hassh",),
    "hassh_server": ("ssh.kex.hasshserver",),
    "dns": ("dns.id", "dns.flags.response"),
}
VALUES, CELLS = "\x1f", "\x1e"


def answers(path: Path) -> dict[str, dict[str, int]]:
    """Kind -> answer -> how often."""
    columns = [field for fields in FIELDS.values() for field in fields]
    command = ["tshark", "-n", "-r", str(path), "-Y", FILTER, "-T", "fields", "-E", "occurrence=a"]
    command += ["-E", f"aggregator={VALUES}", "-E", f"separator={CELLS}"]
    for column in columns:
        command += ["-e", column]
    done = subprocess.run(command, capture_output=True, check=False)
    found = {kind: Counter[str]() for kind in FIELDS}
    for line in done.stdout.decode("utf-8", "replace").split("\n"):
        cells = dict(zip(columns, line.split(CELLS), strict=False))
        for kind, fields in FIELDS.items():
            lists = [cells[f].split(VALUES) for f in fields if cells.get(f)]
            if len(lists) == len(fields):
                found[kind].update(" ".join(parts) for parts in zip(*lists, strict=False))
    return {kind: dict(sorted(counts.items())) for kind, counts in found.items() if counts}


def main() -> None:
    """Over all captures of the public part."""
    folder = Path(sys.argv[1]) / "public"
    version = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True)
    result: dict[str, object] = {"made by": version.stdout.split("\n")[0]}
    for entry in json.loads((folder / "manifest.json").read_text()):
        if found := answers(folder / entry["pcap"]):
            result[entry["pcap"]] = found
    target = Path(__file__).with_name("protocols.json")
    lines = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in result.items())
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
