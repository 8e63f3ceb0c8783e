"""dpkt over a capture file: bare decoding, lengths of TCP payloads added, nothing tracked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dpkt


def main() -> None:
    total = 0
    with Path(sys.argv[1]).open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            total += len(dpkt.ethernet.Ethernet(frame).data.data.data)
    print(json.dumps({"bytes": total}))


if __name__ == "__main__":
    main()
