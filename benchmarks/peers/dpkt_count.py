"""dpkt over a capture file: bare decoding and the lengths of TCP payloads added, nothing tracked."""

from __future__ import annotations

import json
import sys

import dpkt


def main() -> None:
    total = 0
    with open(sys.argv[1], "rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            total += len(dpkt.ethernet.Ethernet(frame).data.data.data)
    print(json.dumps({"bytes": total}))


if __name__ == "__main__":
    main()
