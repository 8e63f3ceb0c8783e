"""A TCP end that no kernel owns, opposite a real Linux TCP socket.

Its address lives on an interface without addresses of its own, behind a fixed neighbour entry, so
that no kernel answers for it. Whatever it sends and hears is kept as the tap's frames.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "captures"))
from craft import ACK, FIN, ICMP, RST, SYN, address, checksum, ethernet, frame, ipv4, tcp
from lab.impair import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET
from lab.netns import OFFLOADS, Namespace, command

SERVER = "192.0.2.20"
STRANGER = "192.0.2.99"
SERVER_MAC, STRANGER_MAC = bytes.fromhex("020000000014"), bytes.fromhex("020000000063")
PORT = 7000
PATIENCE = 5.0  # seconds for an answer that always comes: a failure, not a measure
FREE_MARK = 0x5EED


@dataclass(frozen=True)
class Heard:
    """A segment of the server's."""

    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes


def heard(raw: bytes) -> tuple[int, Heard] | None:
    """The stranger's port and the segment, if the frame is TCP in IPv4 to the stranger."""
    if raw[12:14] != b"\x08\x00" or raw[23] != 6 or raw[30:34] != address(STRANGER):
        return None
    (total,) = struct.unpack_from(">H", raw, 16)
    segment = raw[14 + (raw[14] & 15) * 4 : 14 + total]
    _, port, seq, ack, words, flags, window = struct.unpack_from(">HHIIBBH", segment)
    head = (words >> 4) * 4
    return port, Heard(seq, ack, flags & 0x3F, window, segment[20:head], segment[head:])


class Street:
    """The cable between the stranger and the server's host: one socket of whole frames."""

    def __init__(self, server: Namespace, cable: socket.socket) -> None:
        self.server = server
        self.frames: list[tuple[bytes, int]] = []  # all of both ways, with time
        self.after_visit: Callable[[], None] | None = None
        self.answers: dict[int, list[Heard]] = {}
        self._cable = cable
        self._echo = itertools.count(1)
        self._ports = itertools.count(20_000)

    def port(self) -> int:
        """A port that the stranger has not used."""
        return next(self._ports)

    def send(self, raw: bytes) -> None:
        """The stranger sends a frame; what came before it is heard first."""
        self._hear()
        self._keep(raw)
        self._cable.send(raw)
        self._hear()

    def settle(self) -> None:
        """Waits until the server's host has processed all that was sent: frames of one cable are
        processed in order, so it has when it answers a ping sent behind them."""
        number = next(self._echo) & 0xFFFF
        body = struct.pack(">BBHHH", 8, 0, 0, FREE_MARK, number)
        body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
        packet = ipv4(body, STRANGER, SERVER, ICMP)
        self._cable.send(ethernet(packet, src=STRANGER_MAC, dst=SERVER_MAC))
        until = time.monotonic() + PATIENCE
        while not self._hear(number):
            if not select.select([self._cable], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError("the server's host does not answer")

    def _keep(self, raw: bytes) -> None:
        self.frames.append((raw, time.time_ns()))

    def _hear(self, echo: int = 0) -> bool:
        """Takes what has come; whether the answer to a ping was in it."""
        found = False
        while True:
            try:
                raw = self._cable.recv(70_000, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            if told := heard(raw):
                self._keep(raw)
                self.answers.setdefault(told[0], []).append(told[1])
            elif raw[23] == ICMP and raw[34] == 0:
                found |= struct.unpack_from(">HH", raw, 38) == (FREE_MARK, echo)


@contextlib.contextmanager
def street() -> Iterator[Street]:
    """Builds the server's host and the cable; both are gone at the end, however it comes."""
    with contextlib.ExitStack() as stack:
        spaces = []
        for role in ("stranger", "house"):
            spaces.append(Namespace(f"aiomos-{os.getpid()}-{role}"))
            stack.callback(spaces[-1].delete)
        outside, server = spaces
        for space in spaces:
            space.sysctl("net.ipv6.conf.all.disable_ipv6", "1")
        lay_cable(outside, server)
        with outside.entered():
            cable = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        cable.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        cable.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        cable.bind(("x0", ETH_P_ALL))
        yield Street(server, cable)


def lay_cable(outside: Namespace, server: Namespace) -> None:
    mac, their_mac = SERVER_MAC.hex(":"), STRANGER_MAC.hex(":")
    link = ("ip", "-n", server.name, "link", "add", "s0", "address", mac, "type", "veth")
    command(*link, "peer", "name", "x0", "address", their_mac, "netns", outside.name)
    command("ip", "-n", server.name, "address", "add", f"{SERVER}/24", "dev", "s0")
    for space, name in ((server, "lo"), (server, "s0"), (outside, "x0")):
        command("ip", "-n", space.name, "link", "set", name, "mtu", "9000", "up")
    neighbour = ("neighbour", "replace", STRANGER, "lladdr", their_mac, "dev", "s0")
    command("ip", "-n", server.name, *neighbour, "nud", "permanent")
    for space, name in ((server, "s0"), (outside, "x0")):
        space.do("ethtool", "-K", name, *(word for o in OFFLOADS for word in (o, "off")))


class Visit:
    """One connection of the stranger's to a listening socket; offsets count its bytes from 0."""

    def __init__(self, street: Street, listener: socket.socket, isn: int = 1000) -> None:
        self.street = street
        self.port = street.port()
        self.isn = isn
        self.socket: socket.socket | None = None
        self.received = b""
        self.to = listener.getsockname()[1]
        self.nxt = 0  # the server's next sequence number, once it is known
        self._listener = listener

    def send(
        self,
        flags: int = ACK,
        data: bytes = b"",
        *,
        at: int = 0,
        ack: int | None = None,
        window: int = 65535,
        options: bytes = b"",
        urgent: int = 0,
    ) -> None:
        """A segment whose first byte is at offset `at` (the SYN stands at -1)."""
        ends = STRANGER, SERVER
        number = self.isn + 1 + at & 0xFFFFFFFF
        acked = (self.nxt if ack is None else ack) if flags & ACK else 0
        fields = {"window": window, "options": options, "ends": ends, "urgent": urgent}
        body = tcp(self.port, self.to, number, acked, flags, data, **fields)
        self.street.send(frame(body, ends, 6, src=STRANGER_MAC, dst=SERVER_MAC))

    def answers(self) -> list[Heard]:
        """What the server has sent so far."""
        return self.street.answers.get(self.port, [])

    def open(self, options: bytes = b"") -> None:
        """SYN, SYN-ACK, ACK; the server's socket is accepted."""
        self.send(SYN, at=-1, options=options)
        self.street.settle()
        self.nxt = self.answers()[-1].seq + 1 & 0xFFFFFFFF
        self.send()
        self.accept()

    def accept(self) -> None:
        """A SYN that came behind a reset may have opened another one, of an earlier visit."""
        self.street.settle()
        while True:
            self.socket, (_, port) = self._listener.accept()
            if port == self.port:
                break
            self.socket.close()
        self.socket.setblocking(False)

    def read(self) -> bytes:
        """What the server's application has received by now, since the connection began."""
        assert self.socket
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.socket.recv(1 << 20):
                self.received += data
        return self.received

    def leave(self) -> None:
        """Ends the connection on both ends, and nothing of it is on the tap."""
        seen = len(self.street.frames)
        self.close()
        self.street.settle()
        del self.street.frames[seen:]

    def close(self) -> None:
        """Ends the connection on both ends without a trace."""
        if self.socket:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()


__all__ = ["ACK", "FIN", "RST", "SYN", "Heard", "Street", "Visit", "street"]
