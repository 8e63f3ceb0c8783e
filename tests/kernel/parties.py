"""Two applications on one connection between two kernels, and what each of them received."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1] / "captures"))
from lab.netns import CLIENT, SERVER, Lab, Namespace

FIRST_PORT = 7000
NO_LINGER = struct.pack("ii", 1, 0)
ENDED = {"06", "07", "0A"}  # TIME_WAIT, CLOSE, LISTEN, as /proc/net/tcp has them
QUIET = 30.0  # seconds after which waiting for connections to end is given up


@dataclass
class Party:
    """One end: what it plans to say and how it leaves; then what it got."""

    data: bytes
    rng: Random
    leaves: str = "closes"  # closes (after both FINs), aborts (RST half way), walks out (unread)
    listens_first: bool = False  # speaks after the other's FIN
    slow: bool = False
    got: bytearray = field(default_factory=bytearray)
    ended: str = ""  # how its reading ended: fin, reset, self

    async def play(self, sock: socket.socket) -> None:
        """Speaks and listens until it leaves."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if self.slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if self.rng.random() < 0.5:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heard = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(loop, sock, heard))
            speaking = group.create_task(self._speak(loop, sock, heard))
            await speaking
            if self.leaves != "closes":
                listening.cancel()
        self.ended = self.ended or "self"
        if self.leaves == "aborts":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        sock.close()

    async def _listen(self, loop, sock: socket.socket, heard: asyncio.Event) -> None:
        try:
            while data := await loop.sock_recv(sock, 1 << 16):
                self.got += data
                if self.slow:
                    await asyncio.sleep(0.01)
            self.ended = "fin"
        except ConnectionError:
            self.ended = "reset"
        finally:
            heard.set()

    async def _speak(self, loop, sock: socket.socket, heard: asyncio.Event) -> None:
        if self.listens_first:
            await heard.wait()
        at, end = 0, len(self.data) if self.leaves == "closes" else len(self.data) // 2
        with contextlib.suppress(ConnectionError, OSError):
            while at < end:
                size = int(2 ** self.rng.uniform(0, 16))
                await loop.sock_sendall(sock, self.data[at : min(at + size, end)])
                at += size
                if self.rng.random() < 0.1:
                    await asyncio.sleep(self.rng.uniform(0, 0.01))
            if self.leaves == "closes":
                sock.shutdown(socket.SHUT_WR)


@dataclass
class Meeting:
    """One connection; its ports name it."""

    number: int
    client: Party
    server: Party
    version: int
    ports: tuple[int, int] = 0, 0

    @property
    def orderly(self) -> bool:
        """Both ends close by FIN when all is said."""
        return self.client.leaves == self.server.leaves == "closes"


def invent(number: int, seed: int) -> Meeting:
    """A connection of random sizes, habits and endings."""
    rng = Random(f"{seed}/{number}")
    parties = []
    for _ in range(2):
        size = rng.choice([0, 1, int(2 ** rng.uniform(1, 17)), int(2 ** rng.uniform(8, 17))])
        party = Party(rng.randbytes(size), Random(rng.random()))
        party.slow = rng.random() < 0.1
        parties.append(party)
    rng.choice(parties).listens_first = rng.random() < 0.3
    if rng.random() < 0.25:
        leaver = rng.choice(parties)
        leaver.leaves = rng.choice(["aborts", "aborts", "walks out"])
        leaver.listens_first = False
    return Meeting(number, *parties, version=rng.choice([4, 4, 6]))


async def meet(lab: Lab, meetings: list[Meeting]) -> None:
    """Plays all of them at once, each on a connection of its own."""
    async with asyncio.TaskGroup() as group:
        for meeting in meetings:
            group.create_task(hold(lab, meeting))


async def hold(lab: Lab, meeting: Meeting) -> None:
    loop = asyncio.get_running_loop()
    with lab.server.listen(
        SERVER.address(meeting.version), FIRST_PORT + meeting.number
    ) as listener:
        listener.setblocking(False)
        caller = lab.client.tcp_socket(meeting.version)
        caller.setblocking(False)
        caller.bind((CLIENT.address(meeting.version), 0))
        meeting.ports = caller.getsockname()[1], FIRST_PORT + meeting.number
        calling = loop.create_task(loop.sock_connect(caller, listener.getsockname()))
        answering, _ = await loop.sock_accept(listener)
        await calling
    async with asyncio.TaskGroup() as group:
        group.create_task(meeting.client.play(caller))
        group.create_task(meeting.server.play(answering))


async def settled(*spaces: Namespace) -> None:
    """Waits until no kernel has anything left to send."""
    for _ in range(int(QUIET / 0.05)):
        if not any(open_connections(space) for space in spaces):
            return
        await asyncio.sleep(0.05)
    raise RuntimeError("connections do not end")


def open_connections(space: Namespace) -> int:
    rows = []
    with space.entered():
        for name in ("tcp", "tcp6"):
            rows += Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
    return sum(row.split()[3] not in ENDED for row in rows)
