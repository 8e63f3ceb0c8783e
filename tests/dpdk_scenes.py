"""What happens in processes of their own when DPDK is tested; see dpdk_kit.py.

Called as `dpdk_scenes.py SCENE JSON`. A scene returns what can be written as JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiomos
from aiomos._engine.dpdkconfig import DpdkConfig, load
from aiomos._engine.source import HeldFrame, MemorySource, Source, open_files, read_all
from aiomos.flows import make_app, writer_of

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


# ---- capture files --------------------------------------------------------------------------------


def replay(path: str, burst: int = 64, room: int = 2048, **config: Any) -> Any:
    """A capture by net_pcap: what came, and what became of the mbufs."""
    start(**config)
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}", room=room)
    source = port.source()
    live = source.live
    frames = read_all(source, burst=burst)
    stats = source.stats()
    counters = port.counters()
    in_use = port.in_use()
    port.close()
    return {
        "frames": digest(frames),
        "live": live,
        "result": source.result,
        "stats": stats._asdict(),
        "received": counters.received,
        "in_use": in_use,
        "missing": port.missing,
    }


def own_reader(path: str) -> Any:
    """The same capture by the project's own reader."""
    with open_files(path) as source:
        return digest(read_all(source))


def chains(path: str, room: int) -> Any:
    """Lengths of the pieces of each frame."""
    start()
    with dpdk.open_port(f"net_pcap0,rx_pcap={path}", room=room) as port:
        source = port.source()
        frames = [frame for burst in iter(source.take, []) for frame in burst]
        return [frame.pieces for frame in frames]


def hold_and_close(path: str) -> Any:
    """Eight frames held, two of them twice, when everything is closed."""
    start()
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}")
    source = port.source()
    frames = source.take(8)
    twice = [frame.retain() for frame in frames[:2]]
    in_use = port.in_use()
    port.close()
    outstanding = source.stats().outstanding
    del twice
    return {"outstanding": outstanding, "in_use": in_use, "missing": port.missing}


def hold_too_many(path: str, budget: int) -> Any:
    """Holds every frame for as long as that is allowed, then goes on without."""
    start()
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}", budget=budget)
    source = port.source()
    held_frames: list[HeldFrame] = []
    refused = ""
    count = 0
    for burst in iter(source.take, []):
        for frame in burst:
            count += 1
            try:
                held_frames.append(frame.retain())
            except OSError as error:
                refused = str(error)
            frame.release()
    stats = source.stats()
    port.close()
    return {
        "refused": refused,
        "held": len(held_frames),
        "all": count,
        "dropped_pool": stats.dropped_pool,
        "dropped_nic": stats.dropped_nic,
        "missing": port.missing,
    }


def infinite(path: str, frames: int) -> Any:
    """A capture that begins again at its end."""
    start()
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path},infinite_rx=1")
    source = port.source()
    live = source.live
    while source.stats().frames < frames:
        for frame in source.take():
            frame.release()
    count = source.stats().frames
    port.close()
    return {"live": live, "frames": count, "missing": port.missing}


def two_queues(paths: list[str]) -> Any:
    """Two captures as two queues: each by itself, then both through one source."""
    start()
    device = "net_pcap0," + ",".join(f"rx_pcap={path}" for path in paths)
    with dpdk.open_port(device, queues=2) as port:
        rss = port.info().rss
        apart = [digest(read_all(source)) for source in port.sources()]
    port = dpdk.open_port(device, queues=2)
    frames = read_all(dpdk.open_source([(port, 0), (port, 1)]))
    port.close()
    counts = [sum(frame.port == i for frame in frames) for i in range(2)]
    return {"apart": apart, "ports": counts, "missing": port.missing, "rss": rss}


def flows(path: str, dpdk_port: bool = False) -> Any:
    """What `aiomos flows` says of a capture."""
    out = io.StringIO()
    app = make_app(writer_of("jsonl", out), digest="sha256")
    if not dpdk_port:
        aiomos.run(app, path)
        return sorted(out.getvalue().splitlines())
    start()
    with dpdk.open_port(f"net_pcap0,rx_pcap={path}") as port:
        aiomos.run(app, port.source())
        assert port.in_use() == 0
    return sorted(out.getvalue().splitlines())


# ---- the stage --------------------------------------------------------------------------------------

Scene = Callable[..., Any]


def say(value: Any) -> None:
    print(json.dumps({"returned": value}), flush=True)


def words() -> Iterator[str]:
    """What the test says, a word a line."""
    return (line.strip() for line in sys.stdin)


def main() -> None:
    scene: Scene = globals()[sys.argv[1]]
    try:
        say(scene(**json.loads(sys.argv[2])))
    except Exception as error:
        print(json.dumps({"raised": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
