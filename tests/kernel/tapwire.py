"""A wire between two kernels with a tap in its middle.

Each half of the wire loses, doubles and delays frames by itself: what is lost in front of the tap
(as the frame travels), nobody has seen; what is lost behind it, the tap has seen and its receiver
never gets. The tap is the wire's own loop: it misses nothing that goes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "captures"))
from lab.impair import LONGEST_FRAME, VNET_HDR_LENGTH, _packet_socket, is_tcp
from lab.netns import Namespace

RST = 0x04
BUFFER = 1 << 24


@dataclass(frozen=True)
class Half:
    """Chances from 0 to 1 for each frame; a frame held back is overtaken by those behind it."""

    lose: float = 0.0
    double: float = 0.0
    hold: float = 0.0
    delay: float = 0.0005
    held: tuple[float, float] = (0.001, 0.004)


def is_reset(frame: bytes) -> bool:
    if not is_tcp(frame):
        return False
    head = 14 + ((frame[14] & 15) * 4 if frame[12] == 8 else 40)
    return bool(frame[head + 13] & RST)


class TapWire:
    """The middle's two ports and what lies between; `frames` is what the tap saw."""

    def __init__(self, ports: tuple[socket.socket, socket.socket], halves: tuple[Half, Half], seed):
        self.frames: list[tuple[bytes, int]] = []
        self.lost = [0, 0]  # in front of the tap, behind it
        self._ports = ports
        self._halves = halves
        self._random = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._cut = False

    def start(self) -> None:
        for end, port in enumerate(self._ports):
            self._loop.add_reader(port, self._take, end)

    def stop(self) -> None:
        """What is still on its way falls off the end."""
        self._cut = True
        for port in self._ports:
            self._loop.remove_reader(port)

    def _take(self, end: int) -> None:
        for _ in range(64):
            try:
                raw = self._ports[end].recv(LONGEST_FRAME, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._cross(self._halves[end], raw, 0, lambda raw=raw: self._pass_tap(end, raw))

    def _pass_tap(self, end: int, raw: bytes) -> None:
        self.frames.append((raw[VNET_HDR_LENGTH:], time.time_ns()))
        port = self._ports[1 - end]
        self._cross(self._halves[1 - end], raw, 1, lambda: self._out(port, raw))

    def _out(self, port: socket.socket, raw: bytes) -> None:
        if self._cut:
            return
        with contextlib.suppress(BlockingIOError):  # lost like any other
            port.send(raw)

    def _cross(self, half: Half, raw: bytes, place: int, arrive: Callable[[], None]) -> None:
        """A reset is never lost: nobody would send it again, and its peer wait for ever."""
        due, copies, chance = half.delay, 1, self._random.random
        if is_tcp(raw[VNET_HDR_LENGTH:]):
            if chance() < half.lose and not is_reset(raw[VNET_HDR_LENGTH:]):
                self.lost[place] += 1
                return
            copies += chance() < half.double
            if chance() < half.hold:
                due += self._random.uniform(*half.held)
        for _ in range(copies):
            self._loop.call_later(due, arrive)


@contextlib.asynccontextmanager
async def tapped(middle: Namespace, halves: tuple[Half, Half], seed: int) -> AsyncIterator[TapWire]:
    """Carries frames between the middle's ports m0 and m1 until the end of the block."""
    with contextlib.ExitStack() as stack:
        with middle.entered():
            ports = tuple(stack.enter_context(_packet_socket(name)) for name in ("m0", "m1"))
        for port in ports:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            port.setblocking(False)
        wire = TapWire(ports, halves, seed)
        wire.start()
        try:
            yield wire
        finally:
            wire.stop()
