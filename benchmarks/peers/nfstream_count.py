"""nfstream over a capture file: one meter process, no protocol detection, payload bytes added.

``accounting_mode=3`` counts the payload of the transport layer; ``n_dissections=0`` switches nDPI
off; one meter, because every other program here uses one core.
"""

from __future__ import annotations

import json
import sys

from nfstream import NFStreamer

PAYLOAD = 3


def main() -> None:
    flows = NFStreamer(sys.argv[1], n_meters=1, n_dissections=0, accounting_mode=PAYLOAD)
    connections = total = 0
    for flow in flows:
        connections += 1
        total += flow.bidirectional_bytes
    print(json.dumps({"connections": connections, "bytes": total}))


if __name__ == "__main__":
    main()
