"""Captures read by DPDK's net_pcap, and what becomes of their mbufs."""

from __future__ import annotations

import io
from typing import Any

from stage import digest, dpdk, start

import aiomos
from aiomos._engine.source import HeldFrame, open_files, read_all
from aiomos.flows import make_app, writer_of


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


def part_of(path: str, first: int, n: int) -> Any:
    """Some frames of a capture, by the own reader."""
    with open_files(path) as source:
        return digest(read_all(source)[first : first + n])


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


def starve(path: str) -> Any:
    """Never gives a frame back: the pool is used up, and what finds no mbuf is counted."""
    start()
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}", budget=100, descriptors=64)
    source = port.source()
    kept: list[HeldFrame] = []
    while source.result == 0:
        kept += source.take()
    stats = source.stats()
    counters = port.counters()
    in_use = port.in_use()
    port.close()
    return {
        "came": stats.frames,
        "sum": stats.frames + stats.dropped_nic,
        "no_memory": counters.no_memory,
        "mbufs": in_use,
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
