"""What the middle does to frames: a kernel switch with nftables rules, or a wire of our own.

`Switch` drops and duplicates with `numgen random` (not repeatable); `Wire` drops, duplicates and
delays by a seeded generator, and a delayed frame is overtaken by those behind it. Only frames that
carry TCP are touched.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lab.netns import Namespace, command

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
VNET_HDR_LENGTH = 10
LONGEST_FRAME = 70_000
TCP = 6


@dataclass(frozen=True)
class Switch:
    """A Linux bridge between m0 and m1; chances in per mille for each direction."""

    drop: int = 0
    duplicate: int = 0

    @contextlib.contextmanager
    def running(self, middle: Namespace) -> Iterator[None]:
        """Bridge the two ports until the end of the block."""
        name = ("ip", "-n", middle.name, "link")
        command(*name, "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        for port in ("m0", "m1"):
            command(*name, "set", port, "master", "br0")
        command(*name, "set", "br0", "up")
        self._load_rules(middle)
        yield

    def _load_rules(self, middle: Namespace) -> None:
        chains = "".join(
            f"chain from_{port} {{ type filter hook ingress device {port} priority 0;"
            f"{self._rules(other)} }}\n"
            for port, other in (("m0", "m1"), ("m1", "m0"))
        )
        args = ["ip", "netns", "exec", middle.name, "nft", "-f", "-"]
        text = f"table netdev impair {{\n{chains}}}\n"
        subprocess.run(args, input=text, text=True, check=True, capture_output=True)

    def _rules(self, other: str) -> str:
        rules = ""
        if self.drop:
            rules += f" meta l4proto tcp numgen random mod 1000 < {self.drop} drop;"
        if self.duplicate:
            chance = f"numgen random mod 1000 < {self.duplicate}"
            rules += f" meta l4proto tcp {chance} dup to {other};"
        return rules


@dataclass(frozen=True)
class Wire:
    """A program between m0 and m1; chances from 0 to 1 for each frame, times in seconds."""

    seed: int
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.002
    held_back: tuple[float, float] = (0.001, 0.006)

    @contextlib.contextmanager
    def running(self, middle: Namespace) -> Iterator[None]:
        """Carry frames between the two ports until the end of the block."""
        with middle.entered():
            ports = (_packet_socket("m0"), _packet_socket("m1"))
        stop, stopper = os.pipe()
        thread = threading.Thread(target=_Carrier(self, ports).carry, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(stopper)
            thread.join()
            os.close(stop)
            for port in ports:
                port.close()


def _packet_socket(interface: str) -> socket.socket:
    """A socket of whole frames; the virtio-net header before each carries offload state across."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, ETH_P_ALL))
    return sock


def is_tcp(frame: bytes) -> bool:
    """Whether an Ethernet frame carries TCP directly in IPv4 or IPv6."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        return frame[23] == TCP
    return kind == b"\x86\xdd" and frame[20] == TCP


class _Carrier:
    """The loop of a running `Wire`: frames wait in a heap ordered by the time they are due."""

    def __init__(self, wire: Wire, ports: tuple[socket.socket, socket.socket]) -> None:
        self._wire = wire
        self._random = random.Random(wire.seed)
        near, far = ports
        self._ways = {near.fileno(): (near, far), far.fileno(): (far, near)}
        self._waiting: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0

    def carry(self, stop: int) -> None:
        """Run until `stop` becomes readable."""
        while True:
            timeout = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready, _, _ = select.select([*self._ways, stop], [], [], timeout)
            if stop in ready:
                return
            for number in ready:
                port, out = self._ways[number]
                self._take(port.recv(LONGEST_FRAME), out)
            self._send_due(time.monotonic())

    def _take(self, frame: bytes, out: socket.socket) -> None:
        due = time.monotonic() + self._wire.delay
        if is_tcp(frame[VNET_HDR_LENGTH:]):
            if self._random.random() < self._wire.drop:
                return
            if self._random.random() < self._wire.duplicate:
                self._push(due, out, frame)
            if self._random.random() < self._wire.reorder:
                due += self._random.uniform(*self._wire.held_back)
        self._push(due, out, frame)

    def _push(self, due: float, out: socket.socket, frame: bytes) -> None:
        self._number += 1  # equal times leave in the order they came
        heapq.heappush(self._waiting, (due, self._number, out, frame))

    def _send_due(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, out, frame = heapq.heappop(self._waiting)
            out.send(frame)
