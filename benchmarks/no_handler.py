"""aiomos without a handler: every connection followed, nobody told.

Called as ``python benchmarks/no_handler.py CAPTURE``.
"""

from __future__ import annotations

import json
import sys

import aiomos

if __name__ == "__main__":
    aiomos.run(aiomos.App(), sys.argv[1])
    print(json.dumps({}))
