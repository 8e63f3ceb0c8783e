"""What happens in processes of their own when DPDK is tested; see dpdk_kit.py.

Called as `dpdk_scenes.py SCENE JSON`. A scene returns what can be written as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import io
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit import LOOPS
from line import Line, serve, until

import aiomos
from aiomos._engine.dpdkconfig import DpdkConfig, load
from aiomos._engine.source import HeldFrame, MemorySource, Source, open_files, read_all
from aiomos.flows import make_app, writer_of
from aiomos.testing import frames

dpdk = load()

PATIENCE = 60.0
SMALL = 192  # MiB, without huge pages
NOBODY = 65534


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


# ---- devices that give back what is sent -------------------------------------------------------------


def close_all(*ports: Any) -> list[int]:
    """Closes ports; the mbufs that each missed."""
    for port in ports:
        port.close()
    return [port.missing for port in ports]


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


class RingLine(Line):
    """What is given goes into a net_ring and comes back: a live source without a descriptor."""

    def __init__(self, port: Any) -> None:
        self.source = port.source()
        self.clients = 0

    def __exit__(self, *exc_info: object) -> None:
        self.source.close()

    def give(self, raw: bytes, time_ns: int = 0, *, seen: bool = True) -> None:
        assert self.source.transmit(0, held([raw])) == 1


def live_without_descriptor(loop: str, tasks: str, busy_poll: bool) -> Any:
    """A run on a net_ring: what handlers and timers saw, and how it was stopped."""
    start()
    port = dpdk.open_port("net_ring0")
    app, seen, ticks, filenos = aiomos.App(), [], [], []

    @app.tcp()
    async def reads(flow: aiomos.Flow) -> None:
        async for line in flow.client.lines():
            seen.append(line.decode())
            if line == b"wait":
                await flow.sleep(0.05)
                flow.after(0.02, lambda flow, event, packet: seen.append("after"))
        seen.append((await flow.closed()).name)
        await asyncio.sleep(0.02)
        seen.append("lingered")

    @app.every(0.01)
    async def tick() -> None:
        ticks.append(1)

    async def story(line: Line, engine: aiomos.Engine) -> None:
        filenos.append(line.source.fileno())
        talk = line.greeting(b"one\n")
        await until(lambda: seen == ["one"])
        talk.c(b"wait\n")
        await until(lambda: seen == ["one", "wait", "after"] and len(ticks) > 5)
        talk.c(b"two\n")
        await until(lambda: seen[-1] == "two")

    summary = serve(
        LOOPS[loop], app, story, lambda: RingLine(port), tasks=tasks, busy_poll=busy_poll, linger=5
    )
    return {
        "filenos": filenos,
        "seen": seen,
        "frames": [summary.received, summary.processed, summary.dropped],
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


# ---- the kernel at the other end of a tap ---------------------------------------------------------------

TAP = "aiodpdk0"
KERNEL, OURS = "10.99.0.1", "10.99.0.2"
OUR_MAC = bytes.fromhex("020000000002")


def own_network() -> None:
    """A network namespace for this process, without IPv6's own talk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


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


def tap_talk(n: int, length: int, room: int = 2048, mtu: int = 1500) -> Any:
    """The kernel sends datagrams and echo requests; each is answered."""
    port = open_tap(room=room)
    ip("link", "set", TAP, "mtu", str(mtu))
    source = port.source()
    before = time.time_ns()
    echoed = datagrams = 0
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp,
    ):
        udp.settimeout(PATIENCE)
        icmp.settimeout(PATIENCE)
        for i in range(n):
            payload = i.to_bytes(4, "big") * (length // 4)
            udp.sendto(payload, (OURS, 7))
            [request] = ip_frames(source, 1)
            assert before <= request.raw.time_ns <= time.time_ns()
            assert request.raw.direction == 1
            source.transmit(0, held([answer(request.data)]))
            datagrams += udp.recv(65536) == payload
            request.release()
            echo = struct.pack(">BBHHH", 8, 0, 0, 7, i) + payload
            echo = echo[:2] + frames.checksum(echo).to_bytes(2, "big") + echo[4:]
            icmp.sendto(echo, (OURS, 0))
            [request] = ip_frames(source, 1)
            pieces = len(request.pieces)
            source.transmit(0, held([answer(request.data)]))
            request.release()
            while (reply := icmp.recv(65536)[20:])[0] != 0:
                pass
            echoed += reply[4:] == echo[4:]
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


# ---- several processes -----------------------------------------------------------------------------------


def shared(prefix: str, folder: str, lcore: int, **options: Any) -> Any:
    """Starts DPDK with memory that others see."""
    return start(
        huge="yes", shared=True, file_prefix=prefix, huge_dir=folder, lcore=lcore, **options
    )


def primary_of_queues(prefix: str, folder: str) -> Any:
    """Opens a ring device with two queues; others read them. Does what it is told."""
    shared(prefix, folder, 0)
    port = dpdk.open_port("net_ring0", queues=2, shared=True, descriptors=256, budget=512)
    say(port.info().mbufs)
    for word in words():
        verb, _, rest = word.partition(" ")
        if verb == "close":
            break
        if verb == "in_use":
            say([port.in_use(queue) for queue in range(2)])
        elif verb == "recover":
            say(port.recover(int(rest)))
        elif verb == "counters":
            say(port.counters().received)
    return close_all(port)


def secondary_of_queue(prefix: str, folder: str, lcore: int, queue: int, n: int) -> Any:
    """Sends on its queue, takes it back, holds a part and waits to be killed or told to go on."""
    dpdk.initialise(
        DpdkConfig(process="secondary", file_prefix=prefix, huge_dir=folder, lcore=lcore)
    )
    with dpdk.attach_port("net_ring0") as port:
        source = port.source(queue)
        sent = numbered(n)
        assert source.transmit(0, held(sent)) == n
        come = take_all(source, n)
        for frame in come[n // 2 :]:
            frame.release()
        say([frame.data for frame in come[: n // 2]] == sent[: n // 2])
        next(words())
        for frame in come[: n // 2]:
            frame.release()
        return source.stats().outstanding


def stranger(prefix: str, folder: str) -> Any:
    """A secondary that asks for a port nobody opened."""
    dpdk.initialise(DpdkConfig(process="secondary", file_prefix=prefix, huge_dir=folder, lcore=9))
    dpdk.attach_port("net_ring7")


def receiver(prefix: str, folder: str, path: str, workers: int, size: int = 256) -> Any:
    """The primary reads a capture for ever and hands frames to workers, as it is told."""
    shared(prefix, folder, 0)
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}", shared=True, budget=4096, descriptors=256)
    source = port.source()
    fan = dpdk.create_fan("flows", workers, size=size)
    say("ready")
    for word in words():
        verb, *numbers = word.split()
        if verb == "close":
            break
        if verb == "push":
            worker, n = map(int, numbers)
            burst = source.take(n)
            taken = fan.push(worker, burst)
            for frame in burst[taken:]:
                frame.release()
            say([len(burst), taken])
        elif verb == "churn":  # until the test has done with the workers
            pushed = 0
            while not select.select([sys.stdin], [], [], 0)[0]:
                for number in range(workers):
                    burst = source.take()
                    taken = fan.push(number, burst)
                    for frame in burst[taken:]:
                        frame.release()
                    pushed += taken
            say(pushed)
        elif verb == "recover":
            say(fan.recover(int(numbers[0])))
        elif verb == "look":
            say([fan.drain(), port.in_use(), [fan.waiting(w) for w in range(workers)]])
    outstanding = source.stats().outstanding
    fan.close()
    return [outstanding, *close_all(port)]


def worker(prefix: str, folder: str, lcore: int, number: int) -> Any:
    """Takes frames from its ring, holds and releases them, as it is told."""
    dpdk.initialise(
        DpdkConfig(process="secondary", file_prefix=prefix, huge_dir=folder, lcore=lcore)
    )
    source = dpdk.fan_source("flows", number)
    say("ready")
    held_frames: list[HeldFrame] = []
    for word in words():
        verb, *numbers = word.split()
        if verb == "close":
            break
        if verb == "take":
            held_frames += take_all(source, int(numbers[0]))
            say(digest([frame.raw for frame in held_frames]))
        elif verb == "hold":  # another hold on each, and the first one let go
            twice = [frame.retain() for frame in held_frames]
            for frame in held_frames:
                frame.release()
            held_frames = twice
            say(source.stats().outstanding)
        elif verb == "release":
            for frame in held_frames:
                frame.release()
            held_frames = []
            say(source.stats().outstanding)
    source.close()


def busy_worker(prefix: str, folder: str, lcore: int, number: int) -> None:
    """Takes frames and gives them back, some at once and some later, until it is killed."""
    dpdk.initialise(
        DpdkConfig(process="secondary", file_prefix=prefix, huge_dir=folder, lcore=lcore)
    )
    source = dpdk.fan_source("flows", number)
    say("ready")
    kept: list[HeldFrame] = []
    while True:
        for frame in source.take():
            kept.append(frame.retain())
            frame.release()
        while len(kept) > 50:
            kept.pop(len(kept) // 2).release()


# ---- what goes wrong ----------------------------------------------------------------------------------


def open_badly(device: str, config: dict[str, Any] | None = None, **options: Any) -> None:
    start(**(config or {}))
    dpdk.open_port(device, **options)


def open_as_nobody(device: str, **config: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        os.environ["XDG_RUNTIME_DIR"] = folder
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, 0)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            start(**config)
            with dpdk.open_port(device) as port:
                return len(port.source().take())
        finally:
            os.seteuid(0)


def start_badly(**config: Any) -> None:
    dpdk.initialise(DpdkConfig(**config))


def start_twice(second: dict[str, Any]) -> Any:
    """The same again is nothing; another configuration is refused."""
    first = start()
    assert start() == first
    assert dpdk.initialise(first) == first
    return start(**second) == first


def open_twice() -> None:
    start()
    with dpdk.open_port("net_null0"):
        dpdk.open_port("net_null0")


def open_again() -> Any:
    """A device that was closed can be opened again; DPDK that was shut down cannot be started."""
    start()
    for _ in range(3):
        with dpdk.open_port("net_null0") as port:
            port.source().take()
    dpdk.shutdown()
    dpdk.shutdown()
    dpdk.open_port("net_null0")


def shut_down_too_early() -> None:
    start()
    with dpdk.open_port("net_null0"):
        dpdk.shutdown()


def use_after_close() -> Any:
    start()
    port = dpdk.open_port("net_null0")
    source = port.source()
    port.close()
    said = []
    for use in (source.take, port.source, port.info, port.counters):
        try:
            use()
        except OSError as error:
            said.append(str(error))
    return said


def let_go() -> Any:
    """A port that nobody has any more goes with its last source."""
    start()
    source = dpdk.open_port("net_null0").source()
    taken = source.take()
    before = dpdk.ports()
    del taken
    source.close()
    dpdk.shutdown()
    return [before, dpdk.ports()]


def not_needed() -> Any:
    """Libraries of DPDK in a process that uses none of it."""
    code = "import aiomos.cli; print(open('/proc/self/maps').read().count('librte_'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def quiet_start() -> Any:
    """DPDK writes nothing to the terminal, changes no affinity, and starts no telemetry."""
    affinity = os.sched_getaffinity(0)
    effective = start()
    with dpdk.open_port("net_null0"):
        pass
    return [
        os.sched_getaffinity(0) == affinity,
        effective.huge,
        dpdk.version(),
        dpdk.built_version(),
    ]


# ---- the stage --------------------------------------------------------------------------------------

Scene = Callable[..., Any]


def say(value: Any) -> None:
    print(json.dumps({"returned": value}), flush=True)


def words() -> Iterator[str]:
    """What the test says, a word a line."""
    return (line.strip() for line in iter(sys.stdin.readline, ""))


def main() -> None:
    scene: Scene = globals()[sys.argv[1]]
    try:
        say(scene(**json.loads(sys.argv[2])))
    except Exception as error:
        print(json.dumps({"raised": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
