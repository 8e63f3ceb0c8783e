"""Live runs on a pair of virtual interfaces: ``python -m benchmarks.live [--quick]`` (root).

How long a datagram takes from the kernel's stamp to the handler, beside a socket that asyncio on
uvloop waits for in the same namespace; what an idle run costs; how long a killed worker is away.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import columns

NAME = f"aiomos-bench-{os.getpid()}"
SENDER, RECEIVER, PORT = "192.0.2.1", "192.0.2.2", 9000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

APP = """\
import time, os, aiomos

app = aiomos.App()

@app.udp("port 9000")
async def told(flow):
    async for datagram in flow:
        print("aiomos", time.time() - datagram.time, os.getpid(), flush=True)
"""
#: The peer: the kernel's stamp of a datagram (SO_TIMESTAMPNS) against the time of the callback.
SOCKET = """\
import asyncio, socket, struct, sys, time, uvloop

def readable(end):
    data, extra, *_ = end.recvmsg(2048, 64)
    seconds, ns = struct.unpack("qq", extra[0][2])
    print("socket", time.time() - seconds - ns / 1e9, flush=True)

async def main():
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, 35, 1)
    end.bind(("192.0.2.2", 9000))
    end.setblocking(False)
    asyncio.get_running_loop().add_reader(end, readable, end)
    print("ready", flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


def do(*words: str) -> None:
    """A configuration command."""
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def cable() -> Iterator[None]:
    """Two namespaces, joined."""
    try:
        for role in "ab":
            do("ip", "netns", "add", f"{NAME}-{role}")
        ends = ("v0", "netns", f"{NAME}-a", "type", "veth", "peer", "name", "v0")
        do("ip", "link", "add", *ends, "netns", f"{NAME}-b")
        for role, address in (("a", SENDER), ("b", RECEIVER)):
            do("ip", "-n", f"{NAME}-{role}", "address", "add", f"{address}/24", "dev", "v0")
            do("ip", "-n", f"{NAME}-{role}", "link", "set", "v0", "up")
        yield
    finally:
        for role in "ab":
            words = ["ip", "netns", "delete", f"{NAME}-{role}"]
            subprocess.run(words, check=False, capture_output=True)


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A program at the receiving end; its output goes into a file."""
    out = folder / f"{time.monotonic_ns()}.out"
    with out.open("w") as stream:
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{NAME}-b", *words], stdout=stream, stderr=stream, text=True
        )
        try:
            deadline = time.monotonic() + 30
            while not any(word in out.read_text() for word in ("listening", "ready")):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"it does not begin: {out.read_text()}")
                time.sleep(0.05)
            yield process, out
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def aiomos(app: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "aiomos.cli", "run", str(app), "-i", "v0", *more]


def send(count: int, pause: float) -> None:
    """Datagrams, so many seconds apart."""
    code = (
        "import socket, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for _ in range({count}):\n"
        f"    s.sendto(b'x', ({RECEIVER!r}, {PORT})); time.sleep({pause})\n"
    )
    do("ip", "netns", "exec", f"{NAME}-a", sys.executable, "-c", code)


def delays(out: Path) -> list[float]:
    """Microseconds from stamp to handler, as printed."""
    lines = [line.split() for line in out.read_text().splitlines()]
    return [float(words[1]) * 1e6 for words in lines if words and words[0] in ("aiomos", "socket")]


def wake_up(folder: Path, app: Path, count: int) -> list[tuple[str, ...]]:
    """Rows: who, median, 99 of 100, in microseconds."""
    peer = folder / "peer.py"
    peer.write_text(SOCKET)
    rows = []
    for name, words in (
        ("aiomos run -i", aiomos(app)),
        ("aiomos run -i --workers 1", aiomos(app, "--workers", "1")),
        ("aiomos run -i --receive-pump", aiomos(app, "--receive-pump")),
        ("uvloop, a socket", [sys.executable, str(peer)]),
    ):
        with running(folder, *words) as (_, out):
            send(count, 0.01)
            time.sleep(0.2)
            found = sorted(delays(out))
        rows.append(
            (name, f"{statistics.median(found):.0f}", f"{found[len(found) * 99 // 100]:.0f}")
        )
    return rows


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of those it has started."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return total + sum(cpu_seconds(int(child)) for child in children)


def idle(folder: Path, app: Path, seconds: float) -> list[tuple[str, ...]]:
    """Rows: who, part of a core in per cent."""
    rows = []
    for more in ((), ("--receive-pump",), ("--workers", "2")):
        with running(folder, *aiomos(app, *more)) as (process, _):
            time.sleep(1)
            before = cpu_seconds(process.pid)
            time.sleep(seconds)
            used = cpu_seconds(process.pid) - before
        name = " ".join(("aiomos run -i", *more))
        rows.append((name, f"{100 * used / seconds:.2f}"))
    return rows


def away(folder: Path, app: Path, rounds: int) -> list[float]:
    """Seconds from kill -9 of the worker until its successor has read what came meanwhile."""
    found = []
    with running(folder, *aiomos(app, "--workers", "1")) as (_, out):
        for _ in range(rounds):
            send(2, 0.2)
            pid = int(out.read_text().split()[-1])
            known = len(delays(out))
            os.kill(pid, signal.SIGKILL)
            begin = time.monotonic()
            send(1, 0)
            while len(delays(out)) == known and time.monotonic() < begin + 30:
                time.sleep(0.005)
            found.append(time.monotonic() - begin)
            time.sleep(6)  # it lives long enough to be started at once the next time
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if os.geteuid() != 0 or not hasattr(socket, "AF_PACKET"):
        print("live: needs root and Linux, for network namespaces; left out")
        return
    with tempfile.TemporaryDirectory() as name, cable():
        folder = Path(name)
        app = folder / "app.py"
        app.write_text(APP)
        rows = wake_up(folder, app, 50 if quick else 500)
        print(columns([("a datagram to its handler, us", "median", "99 %"), *rows]))
        rows = idle(folder, app, 2 if quick else 10)
        print(columns([("idle, per cent of a core (at most 2)", "CPU"), *rows]))
        seconds = away(folder, app, 1 if quick else 5)
        print(json.dumps({"seconds a killed worker is away": [round(s, 2) for s in seconds]}))


if __name__ == "__main__":
    main()
