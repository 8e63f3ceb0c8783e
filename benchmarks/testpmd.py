"""The engine beside dpdk-testpmd: ``python -m benchmarks.testpmd [--quick]``.

Both read the same capture over and over from net_pcap (``infinite_rx=1``, without huge pages) on
one core: testpmd in its mode rxonly, which looks at nothing, the engine without a handler, which
follows every connection. A round is one after the other. What counts is the ratio of the packet
rates; nothing fails because it was slow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from aiomos.testing import frames
from benchmarks import generate
from benchmarks.report import columns
from benchmarks.spread import Spread, ratios

REQUIRED, AIMED = 1 / 3, 1 / 2
SEED = 1
#: Bytes on the wire without the frame check sequence, and how many of a hundred frames have them.
SIZES = {60: 80, 576: 15, 1514: 5}
_ETHERNET_IP_UDP = 14 + 20 + 8


def traffic(packets: int, flows: int) -> Path:
    """A capture of mostly frames of 64 bytes: datagrams and bare acknowledgements."""
    folder = generate.cache_directory()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"small-{packets}-{flows}-v1.pcap"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with generate.Writer(partial) as writer:
            for now, frame in enumerate(_frames(packets, flows)):
                writer.write(frame, 1_700_000_000_000_000 + now)
        partial.replace(path)
    return path


def _frames(packets: int, flows: int) -> list[bytes]:
    rng = random.Random(SEED)
    sizes = rng.choices(list(SIZES), list(SIZES.values()), k=packets)
    return [_frame(rng.randrange(flows), size, rng) for size in sizes]


def _frame(flow: int, size: int, rng: random.Random) -> bytes:
    ends = (f"10.{flow >> 12 & 15}.{flow >> 6 & 63}.{flow & 63}", "10.128.0.1")
    ports = (1024 + flow % 50_000, 443)
    if rng.random() < 0.5:
        ends, ports = ends[::-1], ports[::-1]
    if size == min(SIZES) and flow % 2:
        segment = frames.tcp(*ports, 1000 + flow, 2000 + flow, frames.ACK, ends=ends)
        protocol = frames.TCP
    else:
        segment = frames.udp(*ports, bytes(size - _ETHERNET_IP_UDP), ends=ends)
        protocol = frames.UDP
    return frames.ethernet(frames.ipv4(segment, *ends, protocol)).ljust(size, b"\0")


# ---- the two -----------------------------------------------------------------------------------


def testpmd_rate(device: str, seconds: float, cpus: tuple[int, int]) -> float:
    """Packets a second of testpmd, forwarding mode rxonly, by its own count."""
    command = [
        *("stdbuf", "-oL"),  # it says when it is ready, into a pipe
        *("dpdk-testpmd", "-l", f"{cpus[0]},{cpus[1]}", "--main-lcore", str(cpus[0])),
        *("--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "--no-shconf"),
        *(f"--file-prefix=bench-{os.getpid()}", f"--vdev={device}"),
        *("--", "-i", "--forward-mode=rxonly", "--total-num-mbufs=40000", "--burst=64"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        _wait_for_prompt(process)
        process.stdin.write("start\n")
        process.stdin.flush()
        begin = time.perf_counter()
        time.sleep(seconds)
        process.stdin.write("stop\n")
        process.stdin.flush()
        passed = time.perf_counter() - begin
        process.stdin.write("quit\n")
        process.stdin.close()
        text = process.stdout.read()
    with contextlib.suppress(OSError):
        Path(f"/var/run/dpdk/bench-{os.getpid()}").rmdir()
    found = re.search(r"RX-packets:\s*(\d+)", text)
    if found is None:
        raise SystemExit(f"dpdk-testpmd counted nothing:\n{text}")
    return int(found[1]) / passed


def _wait_for_prompt(process: subprocess.Popen[str]) -> None:
    """Until testpmd takes commands: it has said that its port is up."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Done"):
            return
    raise SystemExit(f"dpdk-testpmd ended with status {process.wait()}")


def engine_rate(device: str, seconds: float, cpu: int) -> float:
    """Packets a second of the engine."""
    script = Path(__file__).parent / "dpdk_engine.py"
    done = subprocess.run(
        [sys.executable, script, device, str(seconds), str(cpu)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["packets"]) / float(result["seconds"])


# ---- rounds ------------------------------------------------------------------------------------


def measure(device: str, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    cpus = sorted(os.sched_getaffinity(0))
    pair = (cpus[0], cpus[-1])
    theirs, ours = [], []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        theirs.append(testpmd_rate(device, seconds, pair))
        ours.append(engine_rate(device, seconds, pair[1]))
    return theirs, ours


def table(theirs: list[float], ours: list[float]) -> str:
    ratio = ratios(ours, theirs)
    assert ratio is not None
    rows = [
        ("program", "packets/s", "ns/packet", "of testpmd's", "required", "aimed at"),
        ("dpdk-testpmd rxonly", *_figures(theirs), "1", "", ""),
        ("aiomos, no handler", *_figures(ours), f"{ratio:.2f}", f"{REQUIRED:.2f}", f"{AIMED:.2f}"),
    ]
    return columns(rows)


def _figures(rates: list[float]) -> tuple[str, str]:
    return f"{Spread.of(rates):,.0f}", f"{Spread.of(1e9 / rate for rate in rates):.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of a second")
    parser.add_argument("--rounds", type=int, help="pairs of runs (default 7, quick 2)")
    parser.add_argument("--seconds", type=float, help="of each run (default 5, quick 1)")
    parser.add_argument("--packets", type=int, default=16384, help="in the capture")
    parser.add_argument("--flows", type=int, default=4096, help="in the capture")
    args = parser.parse_args()
    if shutil.which("dpdk-testpmd") is None:
        print("dpdk-testpmd is not installed (Debian: dpdk-dev): nothing to compare with")
        return 0
    device = f"net_pcap0,rx_pcap={traffic(args.packets, args.flows)},infinite_rx=1"
    rounds = args.rounds or (2 if args.quick else 7)
    seconds = args.seconds or (1.0 if args.quick else 5.0)
    print(table(*measure(device, rounds, seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
