"""What scenes share: DPDK started, frames sent and awaited, words with the test."""

from __future__ import annotations

import ctypes
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiomos._engine.dpdkconfig import DpdkConfig, load
from aiomos._engine.source import HeldFrame, MemorySource, Source

dpdk = load()

PATIENCE = 60.0
SMALL = 192  # MiB, without huge pages


def start(**options: Any) -> Any:
    options.setdefault("huge", "no")
    if options["huge"] == "no":
        options.setdefault("memory_mib", SMALL)
    return dpdk.initialise(DpdkConfig(**options))


def digest(frames: list[Any]) -> list[Any]:
    """Number, bytes and contents of frames, with what is told of each."""
    whole = hashlib.sha256()
    for frame in frames:
        whole.update(len(frame.data).to_bytes(4, "big") + frame.data)
    times = hashlib.sha256(b"".join(f.time_ns.to_bytes(8, "big", signed=True) for f in frames))
    return [len(frames), sum(len(f.data) for f in frames), whole.hexdigest(), times.hexdigest()]


def take_all(source: Source, want: int) -> list[HeldFrame]:
    """Frames, held, until there are as many; RuntimeError if they do not come."""
    taken: list[HeldFrame] = []
    deadline = time.monotonic() + PATIENCE
    while len(taken) < want:
        taken += source.take(want - len(taken))
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(taken)} frames of {want} came")
    return taken


def held(frames: list[bytes]) -> list[HeldFrame]:
    """Frames from memory, to be sent."""
    source = MemorySource(frames)
    return [frame for burst in iter(source.take, []) for frame in burst]


def numbered(n: int, length: int = 100) -> list[bytes]:
    return [i.to_bytes(4, "big") * (length // 4) for i in range(n)]


def close_all(*ports: Any) -> list[int]:
    """Closes ports; the mbufs that each missed."""
    for port in ports:
        port.close()
    return [port.missing for port in ports]


def send_all(source: Source, frames: list[HeldFrame]) -> int:
    """Sends frames, waiting while the other end takes them in."""
    done = 0
    deadline = time.monotonic() + PATIENCE
    while done < len(frames) and time.monotonic() < deadline:
        done += source.transmit(0, frames[done : done + 64])
    return done


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("it did not come")
        time.sleep(0.01)


def own_network() -> None:
    """A network namespace for this process, without IPv6's own talk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def say(value: Any) -> None:
    print(json.dumps({"returned": value}), flush=True)


def words() -> Iterator[str]:
    """What the test says, a word a line."""
    return (line.strip() for line in iter(sys.stdin.readline, ""))
