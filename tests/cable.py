"""A veth cable between two network namespaces, and a tap on its near end.

Both ends have addresses and know each other's MAC address, and the kernel keeps quiet: what passes
is what a test sends, so it can count.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

sys.path.append(str(Path(__file__).parent / "captures"))
from lab.netns import OFFLOADS, Namespace, command

from aiomos._engine.interface import InterfaceSource, open_interface
from aiomos._engine.source import RawFrame, Source

NEAR_MAC, FAR_MAC = "02:00:00:00:0b:01", "02:00:00:00:0b:02"
NEAR_IP, FAR_IP = "192.0.2.1", "192.0.2.2"
DEADLINE_S = 60
T = TypeVar("T")


def obstacle() -> str | None:
    """Why there can be no cables here, if so."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in ("ip", "ethtool") if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@dataclass(frozen=True)
class Cable:
    """near has the interface t0, far p0."""

    near: Namespace
    far: Namespace

    def tap(self, name: str = "t0", **options: object) -> InterfaceSource:
        """A source on an interface of the near end."""
        with self.near.entered():
            return open_interface(name, **options)  # type: ignore[arg-type]  # of a test: any

    def raw(self, side: str = "far") -> socket.socket:
        """A packet socket that sends frames from one end, as they are, and receives none."""
        space, name = (self.far, "p0") if side == "far" else (self.near, "t0")
        with space.entered():
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind((name, 0))
        return sender

    def offloads(self, *, on: bool) -> None:
        words = [word for name in OFFLOADS for word in (name, "on" if on else "off")]
        self.near.do("ethtool", "-K", "t0", *words)
        self.far.do("ethtool", "-K", "p0", *words)

    def address(self) -> None:
        """The near end's address again, after it was taken away."""
        self.near.do("ip", "address", "add", f"{NEAR_IP}/24", "dev", "t0")
        _introduce(self.near, "t0", (FAR_IP, FAR_MAC))

    def blink(self) -> None:
        """The near link down and up again; what it forgot of its neighbour is told again."""
        self.link("set", "t0", "down")
        self.link("set", "t0", "up")
        _introduce(self.near, "t0", (FAR_IP, FAR_MAC))

    def link(self, *words: str) -> None:
        """``ip link WORDS`` at the near end."""
        command("ip", "-n", self.near.name, "link", *words)


def _configure(space: Namespace, name: str, address: str, other: tuple[str, str]) -> None:
    run = ("ip", "-n", space.name)
    command(*run, "link", "set", "lo", "up")
    command(*run, "address", "add", f"{address}/24", "dev", name)
    command(*run, "link", "set", name, "arp", "off", "up")
    _introduce(space, name, other)


def _introduce(space: Namespace, name: str, other: tuple[str, str]) -> None:
    words = ("neigh", "replace", other[0], "lladdr", other[1], "dev", name)
    command("ip", "-n", space.name, *words)


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Lay a cable; it is gone at the end, however it comes."""
    with contextlib.ExitStack() as stack:
        spaces = []
        for role in ("near", "far"):
            space = Namespace(f"aiomos-pkt-{os.getpid()}-{role}")
            stack.callback(space.delete)
            for scope in ("all", "default"):
                space.sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
            spaces.append(space)
        near, far = spaces
        words = ("link", "add", "t0", "address", NEAR_MAC, "type", "veth")
        peer = ("peer", "name", "p0", "address", FAR_MAC, "netns", far.name)
        command("ip", "-n", near.name, *words, *peer)
        _configure(near, "t0", NEAR_IP, (FAR_IP, FAR_MAC))
        _configure(far, "p0", FAR_IP, (NEAR_IP, NEAR_MAC))
        yield Cable(near, far)


# ---- reading -------------------------------------------------------------------------------------


def wait_until(what: Callable[[], T]) -> T:
    """Until it is true, or the deadline is over."""
    end = time.monotonic() + DEADLINE_S
    while not (value := what()):
        assert time.monotonic() < end, "nothing came until the deadline"
        time.sleep(0.01)
    return value


def ready(source: Source, seconds: float = 0) -> bool:
    return bool(select.select([source.fileno()], [], [], seconds)[0])


def burst(source: Source) -> list[RawFrame]:
    """What one burst brings, copied."""
    held = source.take()
    frames = [frame.raw for frame in held]
    for frame in held:
        frame.release()
    return frames


def everything(source: Source) -> list[RawFrame]:
    """All that was sent: until nothing comes for a while (the kernel may be late when it is busy)."""
    frames: list[RawFrame] = []
    end = time.monotonic() + DEADLINE_S
    while (more := burst(source)) or ready(source, 0.2):
        frames += more
        assert time.monotonic() < end, f"{len(frames)} frames and no end until the deadline"
    return frames


def next_frame(source: Source) -> RawFrame:
    """The one frame that comes next."""
    (frame,) = frames_until(source, bool)
    return frame


def frames_until(source: Source, enough: Callable[[list[RawFrame]], bool]) -> list[RawFrame]:
    """What comes until it is enough; waits on the descriptor."""
    frames: list[RawFrame] = []
    end = time.monotonic() + DEADLINE_S
    while not enough(frames):
        assert time.monotonic() < end, f"{len(frames)} frames until the deadline"
        if not (more := burst(source)):
            ready(source, 0.2)
        frames += more
    return frames


# ---- traffic -------------------------------------------------------------------------------------


def ethernet(payload: bytes, ethertype: int = 0x88B5) -> bytes:
    """A frame from the far end to the near one; the EtherType is one for experiments."""
    return packed(NEAR_MAC) + packed(FAR_MAC) + ethertype.to_bytes(2, "big") + payload


def numbered(n: int) -> list[bytes]:
    """Frames that all differ, of all lengths."""
    dice = random.Random(7)
    return [ethernet(i.to_bytes(4, "big") + dice.randbytes(42 + i * 7 % 1455)) for i in range(n)]


def send_stream(lab: Cable, data: bytes, port: int) -> threading.Thread:
    """Starts a TCP transfer from the near end to the far one; the thread ends when it is over."""
    listener = lab.far.listen(FAR_IP, port)
    client = lab.near.tcp_socket(4)

    def receive() -> None:
        with listener, listener.accept()[0] as there:
            while there.recv(1 << 20):
                pass

    def run() -> None:
        receiver = threading.Thread(target=receive)
        receiver.start()
        with client:
            client.settimeout(DEADLINE_S)
            client.connect((FAR_IP, port))
            client.sendall(data)
        receiver.join()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def stream_of(frames: list[RawFrame], port: int) -> bytearray:
    """What was sent to a TCP port, put together by sequence number; zeros where bytes are missing."""
    first, content = None, bytearray()
    for frame in frames:
        ip = frame.data[14:]
        if frame.data[12:14] != b"\x08\x00" or ip[9] != 6:
            continue
        tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big") or None]
        if int.from_bytes(tcp[2:4], "big") != port:
            continue
        number = int.from_bytes(tcp[4:8], "big")
        if tcp[13] & 2:
            first = number + 1
            continue
        payload = tcp[(tcp[12] >> 4) * 4 :]
        if not payload:
            continue
        assert first is not None
        at = (number - first) % (1 << 32)
        if len(content) < at + len(payload):
            content.extend(bytes(at + len(payload) - len(content)))
        content[at : at + len(payload)] = payload
    return content


def sum16(frame: bytes) -> int:
    """The sum that a right TCP checksum makes 0xffff."""
    ip = frame[14:]
    segment = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")]
    data = ip[12:20] + bytes([0, ip[9]]) + len(segment).to_bytes(2, "big") + segment
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
