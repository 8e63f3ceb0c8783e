"""What tests of live runs share: two hosts on a cable, nginx, clients, and `aiomos run` there.

Names of namespaces carry the number of the process; all that is started here is ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

sys.path.append(str(Path(__file__).parents[1] / "captures"))
from lab.netns import OFFLOADS, Namespace, command

from aiomos._metrics import WorkerStats, sum_of

CLIENT, SERVER = "192.0.2.10", "192.0.2.20"
INTERFACE = "s0"  # the server's
AIOMOS = (sys.executable, "-m", "aiomos.cli")
PROGRAMS = ("ip", "ethtool", "nginx")
#: Seconds for what takes a fraction of one; a failure, not a measure.
PATIENCE = 60.0
FULL = os.environ.get("AIOMOS_FULL", "") not in ("", "0")
T = TypeVar("T")


def frames_of(space: Namespace, interface: str) -> int:
    """Frames that an interface of a host has sent and received, by the kernel's count."""
    with space.entered():
        shown = subprocess.run(
            ["ip", "-j", "-s", "link", "show", interface],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
    counted = json.loads(shown.stdout)[0]["stats64"]
    return int(counted["rx"]["packets"] + counted["tx"]["packets"])


def obstacle() -> str | None:
    """Why nothing of this can run here, if so."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


def until(what: Callable[[], T], said: Callable[[], object] = lambda: "") -> T:
    """Asks again and again, until the answer is true; the answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain for {PATIENCE:g} s: {said()}")
        time.sleep(0.02)
    return answer


# ---- two hosts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """A client's host (interface c0) and a server's (s0), joined by one cable."""

    client: Namespace
    server: Namespace

    def offloads(self, *, on: bool) -> None:
        """Large frames and unfilled checksums, as on a host; or frames as on a cable."""
        switches = [word for name in OFFLOADS for word in (name, "on" if on else "off")]
        for space, interface in ((self.client, "c0"), (self.server, INTERFACE)):
            space.do("ethtool", "-K", interface, *switches)

    def connect(self, port: int = 80) -> socket.socket:
        """A connection of the client's."""
        end = self.client.tcp_socket(4)
        end.settimeout(PATIENCE)
        end.connect((SERVER, port))
        return end


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """Both hosts, taken down at the end, however it comes; skips where there can be none."""
    if why := obstacle():
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        spaces = []
        for role in ("caller", "called"):
            spaces.append(Namespace(f"aiomos-{os.getpid()}-{role}"))
            stack.callback(spaces[-1].delete)
            for scope in ("all", "default"):
                spaces[-1].sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
        client, server = spaces
        ends = ("type", "veth", "peer", "name", INTERFACE, "netns", server.name)
        command("ip", "-n", client.name, "link", "add", "c0", *ends)
        for space, interface, address in ((client, "c0", CLIENT), (server, INTERFACE, SERVER)):
            command("ip", "-n", space.name, "address", "add", f"{address}/24", "dev", interface)
            command("ip", "-n", space.name, "link", "set", "lo", "up")
            command("ip", "-n", space.name, "link", "set", interface, "up")
        yield Wire(client, server)


# ---- nginx and its clients -------------------------------------------------------------------

SIZES = (0, 1, 700, 1_500, 4_000, 20_000, 66_000, 200_000)
NGINX = """\
daemon off; worker_processes 1; user root; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
  log_format short '$status $body_bytes_sent $request_method $request_uri';
  access_log {dir}/access.log short;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  sendfile on; keepalive_requests 1000000;
  server {{
    listen {address}:80;
    root {dir}/site;
    location = /old {{ return 301 /700; }}
    location = /shut {{ return 403; }}
  }}
}}
"""
#: What is asked for, over and over: mostly small bodies, as on the web.
ROUND = (
    *("GET /0", "GET /1", "GET /700", "GET /1500", "GET /4000", "GET /20000", "GET /700"),
    *("GET /old", "GET /shut", "GET /none", "HEAD /20000", "GET /66000", "GET /1"),
    *("GET /4000", "GET /1500", "GET /0", "GET /200000", "GET /20000", "GET /4000", "HEAD /0"),
)


@contextlib.contextmanager
def nginx(space: Namespace, folder: Path) -> Iterator[Path]:
    """nginx on port 80 of the server; gives its log."""
    site = folder / "site"
    site.mkdir()
    for size in SIZES:
        (site / str(size)).write_bytes(os.urandom(size))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(dir=folder, address=SERVER))
    args = ["nginx", "-e", str(folder / "error.log"), "-c", str(config), "-p", str(folder)]
    log = (folder / "nginx.out").open("wb")
    with log, space.entered():
        process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: listens(space, 80), (folder / "error.log").read_text)
        yield folder / "access.log"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def listens(space: Namespace, port: int) -> bool:
    """Whether somebody listens on this port of the server, without connecting to it."""
    with space.entered():
        table = Path("/proc/thread-self/net/tcp").read_text()
    return any(
        row.split()[3] == "0A" and row.split()[1].endswith(f":{port:04X}")
        for row in table.splitlines()[1:]
    )


@dataclass
class Asked:
    """One connection of the load: what it asked for, and what it was told."""

    port: int
    answers: list[tuple[int, int, str]] = field(default_factory=list)  # status, size, request


async def _ask(end: socket.socket, requests: Sequence[str]) -> Asked:
    reader, writer = await asyncio.open_connection(sock=end, limit=1 << 20)
    asked = Asked(port=end.getsockname()[1])
    for request in requests:
        writer.write(f"{request} HTTP/1.1\r\nHost: www.example.test\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        size = int(head.partition("content-length: ")[2].partition("\r")[0])
        if request.startswith("HEAD"):
            size = 0
        await reader.readexactly(size)
        asked.answers.append((int(head.split()[1]), size, request))
    writer.close()
    await writer.wait_closed()
    return asked


def load(wire: Wire, requests: int, connections: int = 8) -> list[Asked]:
    """So many requests to nginx, over connections that are all kept alive at once."""

    async def all_of_them() -> list[Asked]:
        work = []
        for number in range(connections):
            many = len(range(number, requests, connections))
            own = [ROUND[(number + i) % len(ROUND)] for i in range(many)]
            end = wire.connect()
            end.setblocking(False)
            work.append(_ask(end, own))
        return await asyncio.gather(*work)

    return asyncio.run(all_of_them())


def logged_by_nginx(log: Path, requests: int) -> Counter[tuple[int, int, str]]:
    """Its access log, as status, size of the body and request, when all of it is there."""
    lines = until(
        lambda: found if len(found := log.read_text().splitlines()) >= requests else None,
        lambda: f"{len(log.read_text().splitlines())} lines of {requests}",
    )
    parts = (line.split(" ", 2) for line in lines)
    return Counter((int(status), int(size), request) for status, size, request in parts)


# ---- aiomos run ------------------------------------------------------------------------------


class Run:
    """An `aiomos run` on an interface of a host."""

    def __init__(
        self,
        space: Namespace,
        folder: Path,
        app: Path | str,
        *args: object,
        program: Sequence[str] = AIOMOS,
    ) -> None:
        self.space, self.folder = space, folder
        self.interface, self._before = "", 0
        self._out, self._err = folder / "run.out", folder / "run.err"
        environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
        words = [*program, "run", str(app), *map(str, args)]
        with self._out.open("wb") as out, self._err.open("wb") as err, space.entered():
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text()

    @property
    def lines(self) -> list[str]:
        """Its whole lines."""
        return self.out.rpartition("\n")[0].splitlines()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    def __repr__(self) -> str:
        return f"status {self.process.poll()}\n{self.out[-2000:]}\n{self.err[-4000:]}"

    def until_ready(self, interface: str = "") -> Run:
        """It has said that it listens; on a kernel interface, whose frames are counted from now."""
        self.until(lambda: "listening on" in self.err)
        if interface:
            self.interface, self._before = interface, frames_of(self.space, interface)
        return self

    def until(self, what: Callable[[], T]) -> T:
        """Waits for something that it is to do; fails when it ends before."""

        def ended() -> bool:
            return self.process.poll() is not None

        def done() -> tuple[T] | None:
            over = ended()
            if answer := what():
                return (answer,)
            if over:
                raise AssertionError(f"it has ended: {self}")
            return None

        return until(done, lambda: self)[0]

    def report(self) -> dict[str, Any]:
        """What it tells of itself."""
        data = b""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(PATIENCE)
            asked.connect(str(self.folder / "aiomos" / f"{self.process.pid}.sock"))
            while piece := asked.recv(1 << 16):
                data += piece
        found: dict[str, Any] = json.loads(data)
        return found

    def shown(self) -> dict[str, Any]:
        """The same, as `aiomos stats --json` shows it."""
        done = subprocess.run(
            [sys.executable, "-m", "aiomos.cli", "stats", "--json", str(self.process.pid)],
            env=os.environ | {"XDG_RUNTIME_DIR": str(self.folder)},
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def workers(self) -> list[WorkerStats]:
        """The statistics of each worker, now."""
        return [WorkerStats(**worker) for worker in self.report()["workers"]]

    def total(self) -> WorkerStats:
        """Those of all together."""
        return sum_of(self.workers())

    def until_settled(self) -> WorkerStats:
        """All that the interface has counted since it was ready was received and processed; of a
        device that nobody else counts for, nothing waits and nothing more comes."""

        def settled() -> WorkerStats | None:
            if not self.interface:
                first, second = self.total(), self.total()
                return second if first == second and not second.waiting else None
            seen = frames_of(self.space, self.interface) - self._before
            total = self.total()
            twice = total.handed_over + total.counters["rejoined"]
            return total if total.received - twice >= seen and not total.waiting else None

        return self.until(settled)

    def send(self, number: int) -> None:
        """To the process that was started."""
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGINT) -> int:
        """Stops it in order; the exit status."""
        self.send(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(
    space: Namespace, folder: Path, app: Path | str, *args: object, interface: str = INTERFACE
) -> Iterator[Run]:
    """A run on the server's interface that is ready; killed at the end if it is still there."""
    with started(space, folder, app, "-i", interface, *args) as run:
        yield run.until_ready(interface)


@contextlib.contextmanager
def started(
    space: Namespace,
    folder: Path,
    app: Path | str,
    *args: object,
    program: Sequence[str] = AIOMOS,
) -> Iterator[Run]:
    """The same, without waiting for anything."""
    folder.mkdir(exist_ok=True)
    run = Run(space, folder, app, *args, program=program)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(5)
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait(PATIENCE)
