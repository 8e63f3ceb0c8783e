"""aiomos without a handler on a DPDK device: every connection followed, nobody told.

Called as ``python benchmarks/dpdk_engine.py DEVICE SECONDS CPU``. Prints what the engine took in
the time between its first and its last burst.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import uvloop

import aiomos
from aiomos._engine.dpdkconfig import DpdkConfig, load


async def serve(source: aiomos.Source, seconds: float) -> float:
    """Serves for so long; how long it really was."""
    async with aiomos.Engine(source, stall=None) as engine:
        serving = asyncio.ensure_future(engine.serve(aiomos.App()))
        begin = time.perf_counter()
        await asyncio.sleep(seconds)
        passed = time.perf_counter() - begin
        engine.stop()
        await serving
        return passed


def main() -> None:
    device, seconds, cpu = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    dpdk = load()
    dpdk.initialise(DpdkConfig(huge="no", memory_mib=512))
    os.sched_setaffinity(0, {cpu})
    with dpdk.open_port(device, budget=36_000) as port:
        source = port.source()
        passed = uvloop.run(serve(source, seconds))
        stats, counters = source.stats(), port.counters()
        source.close()
    result = {"packets": stats.frames, "seconds": passed, "received": counters.received}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
