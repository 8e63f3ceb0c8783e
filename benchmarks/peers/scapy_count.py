"""scapy over a capture file: ``TCPSession`` reassembles, the bytes it hands on are added."""

from __future__ import annotations

import json
import sys

from scapy.layers.inet import TCP
from scapy.packet import Packet
from scapy.sendrecv import sniff
from scapy.sessions import TCPSession


def main() -> None:
    total = 0

    def count(packet: Packet) -> None:
        nonlocal total
        total += len(packet[TCP].payload)

    sniff(offline=sys.argv[1], session=TCPSession, store=False, prn=count)
    print(json.dumps({"bytes": total}))


if __name__ == "__main__":
    main()
