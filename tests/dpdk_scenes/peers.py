"""Devices with somebody at the other end: another process, or a packet socket."""

from __future__ import annotations

import socket
from typing import Any

from stage import (
    PATIENCE,
    close_all,
    dpdk,
    held,
    ip,
    numbered,
    own_network,
    say,
    send_all,
    start,
    take_all,
    wait_for,
    words,
)

from aiomos.testing import frames


def memif_server(path: str, n: int, **options: Any) -> Any:
    """Takes what the other process sends, and sends it back."""
    start()
    port = dpdk.open_port(f"net_memif0,role=server,socket={path},socket-abstract=no", **options)
    source = port.source()
    say(port.link().up)
    come = take_all(source, n)
    assert send_all(source, come) == n
    data = [frame.data for frame in come]
    say([data == numbered(n, len(data[0])), port.link().up])
    next(words())
    return {"stats": source.stats()._asdict(), "missing": close_all(port)}


def memif_client(path: str, n: int, length: int = 100, **options: Any) -> Any:
    """Sends, and takes back."""
    start()
    port = dpdk.open_port(f"net_memif0,role=client,socket={path},socket-abstract=no", **options)
    source = port.source()
    wait_for(lambda: port.link().up)
    sent = numbered(n, length)
    assert send_all(source, held(sent)) == n
    come = [frame.data for frame in take_all(source, n)]
    return {"right": come == sent, "missing": close_all(port)}


def vhost_server(path: str, n: int) -> Any:
    """The other side of virtio_user: gives back what it gets."""
    start(huge="yes", memory_mib=64)
    port = dpdk.open_port(f"net_vhost0,iface={path},queues=1", budget=512)
    source = port.source()
    say("ready")
    come = take_all(source, n)
    assert send_all(source, come) == n
    say([frame.data for frame in come] == numbered(n))
    next(words())
    return close_all(port)


def virtio_user(path: str, n: int) -> Any:
    """A virtio device whose other side is a process."""
    start(huge="yes", memory_mib=64)
    port = dpdk.open_port(f"net_virtio_user0,path={path},queues=1", budget=512)
    source = port.source()
    wait_for(lambda: port.link().up)
    assert send_all(source, held(numbered(n))) == n
    come = [frame.data for frame in take_all(source, n)]
    return {"right": come == numbered(n), "missing": close_all(port)}


def on_veth(device: str, vlan: bool) -> Any:
    """A driver on one end of a veth pair, a packet socket on the other."""
    own_network()
    start()
    ip("link", "add", "aiodpdk0", "type", "veth", "peer", "name", "aiodpdk1")
    for name in ("aiodpdk0", "aiodpdk1"):
        ip("link", "set", name, "up")
    port = dpdk.open_port(device, budget=512)
    source = port.source()
    tagged = frames.ethernet(frames.ipv4(frames.udp()), vlan=(5,) if vlan else ())
    sent = [tagged, frames.ethernet(frames.ipv4(frames.udp(payload=bytes(1400))))]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as other:
        other.bind(("aiodpdk1", 3))
        other.settimeout(PATIENCE)
        for frame in sent:
            other.send(frame)
        come = take_all(source, 2)
        assert source.transmit(0, come) == 2
        back, kind = b"", socket.PACKET_OUTGOING
        while len(back) < 1400 or kind == socket.PACKET_OUTGOING:
            back, (_, _, kind, *_) = other.recvfrom(65536)
    return {
        "come": [frame.data == one for frame, one in zip(come, sent, strict=True)],
        "back": back == sent[1],
        "missing": close_all(port),
    }
