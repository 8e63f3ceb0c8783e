"""Devices inside one process that give back what is sent: rings, and net_null."""

from __future__ import annotations

from typing import Any

from stage import close_all, dpdk, held, numbered, start, take_all

from aiomos._engine.source import MemorySource
from aiomos.testing import frames


def ring_loop(n: int = 1000, room: int = 2048, length: int = 100) -> Any:
    """Frames from memory sent into a net_ring come back; they are sent again, held; and again."""
    start()
    port = dpdk.open_port("net_ring0", room=room)
    source = port.source()
    sent = numbered(n, length)
    assert source.transmit(0, held(sent)) == n
    first = take_all(source, n)
    in_use = port.in_use()
    assert source.transmit(0, first) == n
    second = take_all(source, n)
    same = [[f.data for f in frames] == sent for frames in (first, second)]
    for frame in first[::2] + second[1::2]:
        frame.release()
    ports = {frame.raw.port for frame in second[::2]}
    stats = source.stats()
    return {
        "same": same,
        "in_use": in_use,
        "ports": sorted(ports),
        "transmitted": stats.transmitted,
        "outstanding": stats.outstanding,
        "missing": close_all(port),
    }


def ring_full(n: int) -> Any:
    """More frames than the ring takes: how many were taken, and whether the others are ours."""
    start()
    port = dpdk.open_port("net_ring0")
    source = port.source()
    frames = held(numbered(n))
    taken = source.transmit(0, frames)
    rest = [frame.data for frame in frames[taken:]]
    come = [frame.data for frame in take_all(source, taken)]
    sent = numbered(n)
    return {
        "taken": taken,
        "right": come == sent[:taken] and rest == sent[taken:],
        "missing": close_all(port),
    }


def ring_vlan() -> Any:
    """A frame whose tags a device had stripped is sent with them."""
    start()
    port = dpdk.open_port("net_ring0")
    source = port.source()
    memory = MemorySource()
    packet = frames.ipv4(frames.udp())
    for vlan in [(), (5,), (100, 0x2007)]:
        memory.push(frames.ethernet(packet), vlan=vlan)
    memory.finish()
    source.transmit(0, memory.take())
    come = [frame.data for frame in take_all(source, 3)]
    want = [frames.ethernet(packet, vlan=vlan) for vlan in [(), (5,), (100, 0x2007)]]
    return {"right": come == want, "missing": close_all(port)}


def forward(n: int) -> Any:
    """One source of two ports: what comes in by one goes out by the other, not copied."""
    start()
    left, right = dpdk.open_port("net_ring0"), dpdk.open_port("net_ring1")
    source = dpdk.open_source([(left, 0), (right, 0)])
    source.transmit(0, held(numbered(n)))
    come = take_all(source, n)
    came_by = sorted({frame.raw.port for frame in come})
    before = right.in_use()
    assert source.transmit(1, come) == n
    copies = right.in_use() - before
    for frame in come:
        frame.release()
    again = take_all(source, n)
    right_again = [f.data for f in again] == numbered(n)
    went_by = sorted({frame.raw.port for frame in again})
    assert source.transmit(1, again) == n  # lies in the ring of the one when the other closes
    source.close()
    return {
        "came_by": came_by,
        "went_by": went_by,
        "copies": copies,
        "right": right_again,
        "missing": close_all(left, right),
    }


def null_device(queues: int) -> Any:
    """net_null: frames without end, on several queues, and a place to send to."""
    start(memory_mib=256)
    port = dpdk.open_port("net_null0,size=80", queues=queues, budget=256)
    info = port.info()
    sources = port.sources()
    lengths = {len(frame.data) for source in sources for frame in source.take()}
    sent = sources[0].transmit(0, held(numbered(10)))
    try:
        port.source(0)
        second = ""
    except ValueError as error:
        second = str(error)
    return {
        "queues": info.rx_queues,
        "rss": info.rss,
        "driver": info.driver,
        "reta": info.reta_size,
        "lengths": sorted(lengths),
        "sent": sent,
        "xstats": port.xstats().get("rx_good_packets"),
        "counters": port.counters().received,
        "second": second,
        "ports": dpdk.ports(),
        "missing": close_all(port),
        "ports_after": dpdk.ports(),
    }
