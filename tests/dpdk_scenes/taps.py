"""The kernel at the other end of a net_tap."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Any

from stage import PATIENCE, close_all, dpdk, held, ip, own_network, start, take_all, wait_for

from aiomos._engine.source import HeldFrame, Source
from aiomos.testing import frames

TAP = "aiodpdk0"
KERNEL, OURS = "10.99.0.1", "10.99.0.2"
OUR_MAC = bytes.fromhex("020000000002")


def open_tap(**options: Any) -> Any:
    own_network()
    start()
    port = dpdk.open_port(f"net_tap0,iface={TAP}", **options)
    ip("addr", "add", f"{KERNEL}/24", "dev", TAP)
    ip("link", "set", TAP, "up")
    ip("neigh", "replace", OURS, "lladdr", OUR_MAC.hex(":"), "dev", TAP)
    return port


def ip_frames(source: Source, n: int) -> list[HeldFrame]:
    """The next n frames of IPv4; others are let go."""
    found: list[HeldFrame] = []
    while len(found) < n:
        frame = take_all(source, 1)[0]
        if frame.data[12:14] == b"\x08\0":
            found.append(frame)
        else:
            frame.release()
    return found


def answer(request: bytes) -> bytes:
    """An echo request or a datagram, with its ends swapped and its payload as it was."""
    head, body = request[14:34], request[34:]
    if head[9] == 1:
        body = b"\0" + body[1:2] + b"\0\0" + body[4:]
        body = body[:2] + frames.checksum(body).to_bytes(2, "big") + body[4:]
    else:
        sport, dport = struct.unpack(">HH", body[:4])
        body = frames.udp(dport, sport, body[8:], ends=(OURS, KERNEL))
    packet = frames.ipv4(body, OURS, KERNEL, head[9])
    return frames.ethernet(packet, dst=request[6:12], src=OUR_MAC)


def echo_request(number: int, payload: bytes) -> bytes:
    """An ICMP message, as a raw socket sends it."""
    echo = struct.pack(">BBHHH", 8, 0, 0, 7, number) + payload
    return echo[:2] + frames.checksum(echo).to_bytes(2, "big") + echo[4:]


def answer_next(source: Source) -> HeldFrame:
    """Sends the answer to the next request of the kernel; the request, held."""
    [request] = ip_frames(source, 1)
    source.transmit(0, held([answer(request.data)]))
    return request


def datagram_comes_back(source: Source, udp: socket.socket, payload: bytes) -> bool:
    before = time.time_ns()
    udp.sendto(payload, (OURS, 7))
    request = answer_next(source)
    assert before <= request.raw.time_ns <= time.time_ns()
    assert request.raw.direction == 1
    request.release()
    return udp.recv(65536) == payload


def echo_comes_back(source: Source, icmp: socket.socket, echo: bytes) -> tuple[bool, int]:
    """Whether the reply is right, and in how many pieces the request came."""
    icmp.sendto(echo, (OURS, 0))
    request = answer_next(source)
    pieces = len(request.pieces)
    request.release()
    while (reply := icmp.recv(65536)[20:])[0] != 0:
        pass
    return reply[4:] == echo[4:], pieces


def tap_talk(n: int, length: int, room: int = 2048, mtu: int = 1500) -> Any:
    """The kernel sends datagrams and echo requests; each is answered."""
    port = open_tap(room=room)
    ip("link", "set", TAP, "mtu", str(mtu))
    source = port.source()
    echoed = datagrams = 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp,
    ):
        udp.settimeout(PATIENCE)
        icmp.settimeout(PATIENCE)
        for i in range(n):
            payload = i.to_bytes(4, "big") * (length // 4)
            datagrams += datagram_comes_back(source, udp, payload)
            right, pieces = echo_comes_back(source, icmp, echo_request(i, payload))
            echoed += right
    stats = source.stats()
    return {
        "datagrams": datagrams,
        "echoed": echoed,
        "pieces": pieces,
        "outstanding": stats.outstanding,
        "dropped": stats.dropped_nic,
        "missing": close_all(port),
    }


def tap_sleep(ports: int) -> Any:
    """The descriptor is quiet while nothing comes, and wakes when something does."""
    port = open_tap()
    others = [dpdk.open_port(f"net_tap{i},iface=aiodpdk{i}") for i in range(1, ports)]
    source = dpdk.open_source([(one, 0) for one in (port, *others)])
    interrupts = port.info().interrupts
    while source.take():
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        quiet = not select.select([source.fileno()], [], [], 0.05)[0]
        udp.sendto(b"wake", (OURS, 7))
        awake = bool(select.select([source.fileno()], [], [], PATIENCE)[0])
        ip_frames(source, 1)
        while source.take():
            pass
        quiet_again = not select.select([source.fileno()], [], [], 0.05)[0]
    return {
        "interrupts": interrupts,
        "quiet": [quiet, quiet_again],
        "awake": awake,
        "missing": close_all(port, *others),
    }


def tap_link() -> Any:
    """The link goes down and comes back; the port goes on."""
    port = open_tap()
    source = port.source()
    states = [port.link().up]
    ip("link", "set", TAP, "down")
    wait_for(lambda: not port.link().up)
    states.append(port.link().up)
    assert source.take() == []
    ip("link", "set", TAP, "up")
    wait_for(lambda: port.link().up)
    states.append(port.link().up)
    ip("neigh", "replace", OURS, "lladdr", OUR_MAC.hex(":"), "dev", TAP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"again", (OURS, 7))
        came = ip_frames(source, 1)[0].data.endswith(b"again")
    return {"states": states, "came": came, "missing": close_all(port)}
