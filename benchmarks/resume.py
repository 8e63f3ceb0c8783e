"""What it costs to resume a coroutine that waits for data: ``python -m benchmarks.resume``.

The yardstick is `asyncio.StreamReader` on uvloop: ``burst`` tasks wait in ``read``; a callback
feeds each reader once and lets the loop run once, over and over. Beside it, in the same rounds,
stands aiomos: as many flows whose coroutines wait in ``read``, fed and stepped by the engine.
CPU nanoseconds a resume. With a burst of 1 each resume pays for a turn of the loop, as when data
trickles in; a burst of 64 spreads the turn over 64 resumes, the best that asyncio can do.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

import aiomos
from benchmarks.report import columns
from benchmarks.spread import Spread, ratios

CHUNK = bytes(512)
READ_AT_MOST = 65536


class HookMissing(Exception):
    """The installed aiomos cannot be measured this way."""


async def _read_to_end(reader: asyncio.StreamReader) -> int:
    total = 0
    while data := await reader.read(READ_AT_MOST):
        total += len(data)
    return total


def _feed(readers: list[asyncio.StreamReader], times: int) -> asyncio.Future[int]:
    """Feed every reader once per turn of the loop, ``times`` times; resolves to CPU nanoseconds."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()
    began = time.process_time_ns()

    def turn(left: int) -> None:
        if left == 0:
            done.set_result(time.process_time_ns() - began)
            return
        for reader in readers:
            reader.feed_data(CHUNK)
        loop.call_soon(turn, left - 1)

    turn(times)
    return done


async def _stream_reader_ns(resumes: int, burst: int) -> float:
    readers = [asyncio.StreamReader() for _ in range(burst)]
    tasks = [asyncio.create_task(_read_to_end(reader)) for reader in readers]
    await asyncio.sleep(0)
    times = resumes // burst
    spent = await _feed(readers, times)
    for reader in readers:
        reader.feed_eof()
    totals = await asyncio.gather(*tasks)
    if set(totals) != {times * len(CHUNK)}:
        raise AssertionError("a reader missed bytes")
    return spent / (times * burst)


def stream_reader_resume_ns(resumes: int, burst: int) -> float:
    """CPU nanoseconds a resume of a task that awaits `asyncio.StreamReader.read`, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_stream_reader_ns(resumes, burst))


async def _read_flow_to_end(flow: aiomos.Flow) -> int:
    reader = flow.client  # as the other side has its reader at hand
    total = 0
    while data := await reader.read(READ_AT_MOST):
        total += len(data)
    return total


def aiomos_resume_ns(resumes: int, burst: int) -> float:
    """CPU nanoseconds a resume of a flow's coroutine that awaits ``flow.client.read``.

    The same work as above: ``burst`` flows wait in ``read(READ_AT_MOST)``; each turn gives
    every flow ``CHUNK`` and steps its coroutine, which gets the bytes as a new object.
    """
    try:
        from aiomos._engine._resume import resume_ns
    except ImportError as error:
        raise HookMissing(f"aiomos has no resume hook (testing_hooks off?): {error}") from error
    return resume_ns(_read_flow_to_end, aiomos.Flow, aiomos.Endpoint, resumes, burst, CHUNK)


def _compare(burst: int, resumes: int, rounds: int, with_aiomos: bool) -> list[str]:
    """One row: both sides in turn, ``rounds`` times."""
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(rounds):
        theirs.append(stream_reader_resume_ns(resumes, burst))
        if with_aiomos:
            ours.append(aiomos_resume_ns(resumes, burst))
    cells = [f"burst of {burst}", f"{Spread.of(theirs):,.0f}"]
    ratio = ratios(ours, theirs)
    return [*cells, f"{Spread.of(ours):,.0f}", f"{ratio:.4f}"] if ratio else [*cells, "-", "-"]


def _hook_missing() -> str | None:
    """Why aiomos cannot take part, or None."""
    try:
        aiomos_resume_ns(64, 64)
    except HookMissing as missing:
        return str(missing)
    return None


def main() -> None:
    """Measure with bursts of one and of 64."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resumes", type=int, default=100_000, help="in each round")
    parser.add_argument("--runs", type=int, default=9, help="rounds")
    args = parser.parse_args()
    head = ["CPU ns a resume", "StreamReader on uvloop", "aiomos", "aiomos / StreamReader"]
    missing = _hook_missing()
    rows = [_compare(burst, args.resumes, args.runs, missing is None) for burst in (1, 64)]
    print(columns([head, *rows]))
    print(f"skipped aiomos: {missing}" if missing else "required: at most 0.1")


if __name__ == "__main__":
    main()
