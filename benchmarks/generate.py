"""Captures for the benchmarks, made once and kept: ``python -m benchmarks.generate short``.

Beside ``NAME.pcap`` stands ``NAME.json``, which says what the capture holds: connections, packets,
payload bytes. The name carries every parameter, so a file that exists is the right one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import workloads
from benchmarks.capture_file import Writer, cut

FORMAT = 1  # raise it when the same parameters begin to give another capture
SEED = 1


@dataclass(frozen=True)
class Capture:
    """A capture file and what is true of it."""

    path: Path
    truth: dict[str, object]

    @property
    def packets(self) -> int:
        return self.number("packets")

    def number(self, name: str) -> int:
        """A count of the truth, by name."""
        value = self.truth[name]
        assert isinstance(value, int)
        return value


def cache_directory() -> Path:
    """Where captures are kept: ``AIOMOS_BENCH_CACHE``, or ``.cache`` beside this file."""
    return Path(os.environ.get("AIOMOS_BENCH_CACHE") or Path(__file__).parent / ".cache")


def load(path: Path) -> Capture:
    """A capture that exists already, with its ``.json``."""
    return Capture(path, json.loads(path.with_suffix(".json").read_text()))


def _cached(name: str, make: Callable[[Path], dict[str, object]]) -> Capture:
    """The capture ``name``, made by ``make`` if it is missing; never seen half made."""
    directory = cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-v{FORMAT}.pcap"
    if not path.with_suffix(".json").exists():
        partial = path.with_suffix(".partial")
        truth = make(partial)
        partial.replace(path)
        path.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n")
    return load(path)


def _made(name: str, make: Callable[[Writer], workloads.Truth]) -> Capture:
    def write(path: Path) -> dict[str, object]:
        with Writer(path) as writer:
            return make(writer).to_json()

    return _cached(name, write)


def short(packets: int, seed: int = SEED) -> Capture:
    """Many short connections, a thousand at a time, at least ``packets`` packets."""
    return _made(f"short-{packets}-s{seed}", lambda out: workloads.short(out, seed, packets))


def live(flows: int, data_packets: int, seed: int = SEED) -> Capture:
    """``flows`` connections established, then ``data_packets`` small packets over all of them."""
    name = f"live-{flows}-{data_packets}-s{seed}"
    return _made(name, lambda out: workloads.live(out, seed, flows, data_packets))


def bulk(packets: int, seed: int = SEED) -> Capture:
    """Eight large downloads, about ``packets`` packets."""
    return _made(f"bulk-{packets}-s{seed}", lambda out: workloads.bulk(out, seed, packets))


def hole(segments: int, apart: int = 0, seed: int = SEED) -> Capture:
    """Segments above one hole, or (``apart``) each above a hole of its own."""
    name = f"hole-{segments}-{apart}-s{seed}"
    return _made(name, lambda out: workloads.hole(out, seed, segments, apart))


def empty() -> Capture:
    """A capture without packets, to see what a program's start costs."""
    return _made("empty", lambda out: workloads.empty(out, SEED))


def beginning(whole: Capture, packets: int) -> Capture:
    """The first ``packets`` packets of ``whole``, for the tools too slow for all of it."""
    if packets >= whole.packets:
        return whole

    def write(path: Path) -> dict[str, object]:
        payload = cut(whole.path, path, packets)
        return {**whole.truth, "packets": packets, "payload_bytes": payload, "cut": True}

    return _cached(f"{whole.path.stem}-first-{packets}", write)


def main() -> None:
    """Make one capture and print where it is and what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=("short", "live", "bulk", "empty"))
    parser.add_argument("--packets", type=int, default=1_000_000, help="packets (live: of data)")
    parser.add_argument("--flows", type=int, default=10_000, help="live: connections")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    makers: dict[str, Callable[[], Capture]] = {
        "short": lambda: short(args.packets, args.seed),
        "live": lambda: live(args.flows, args.packets, args.seed),
        "bulk": lambda: bulk(args.packets, args.seed),
        "empty": empty,
    }
    capture = makers[args.workload]()
    print(capture.path)
    print(json.dumps(capture.truth, indent=1))


if __name__ == "__main__":
    main()
