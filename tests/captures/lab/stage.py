"""One capture from beginning to end: the laboratory built, tapped, played on, and written down."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.frames import Key, segments, turned
from lab.impair import Switch, Wire
from lab.netns import CLIENT, Lab, laboratory
from lab.record import Ledger
from lab.relay import Relay, client_relay, server_relay
from lab.servers import WEB_NAME
from lab.streams import Direction, directions
from lab.tap import Tap, Vantage, publish

Row = dict[str, Any]


@dataclass
class Stage:
    """What a script has to play with."""

    lab: Lab
    directory: Path
    closing: contextlib.ExitStack
    ledger: Ledger = field(default_factory=Ledger)
    relays: list[Relay] = field(default_factory=list)
    connections: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)

    def serve(self, port: int, backend: int, versions: tuple[int, ...] = (4, 6)) -> dict[int, int]:
        """Relay `port` of the server's host to `backend`; by IP version, where clients connect."""
        ways = {}
        for version in versions:
            inner = server_relay(self.lab, self.ledger, version, port, backend)
            outer = client_relay(self.lab, self.ledger, version, port)
            for relay in (outer, inner):
                self.relays.append(relay)
                self.closing.callback(relay.close)
            ways[version] = outer.port
        return ways

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program on the client's host."""
        process = subprocess.Popen(self.lab.client.inside(CLIENT.hostname, *args), **options)
        self.closing.callback(_end, process)
        return process

    def run(self, *args: str, data: bytes = b"", check: bool = True) -> bytes:
        """Run a program on the client's host to its end; gives what it printed."""
        result = subprocess.run(
            self.lab.client.inside(CLIENT.hostname, *args),
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=check,
            timeout=120,
        )
        return result.stdout

    def curl(self, way: int, *args: str, data: bytes = b"", check: bool = True) -> bytes:
        """Run curl against `WEB_NAME` by a relay; paths are given as whole URLs."""
        redirect = f"::127.0.0.1:{way}"
        return self.run("curl", "-q", "-s", "--connect-to", redirect, *args, data=data, check=check)

    def ssh_command(self, way: int, key: Path, *remote: str) -> list[str]:
        """The command line of an ssh client by a relay, with nothing of this machine's settings."""
        options = ["-F", "none", "-i", str(key), "-p", str(way)]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"):
            options += ["-o", option]
        return ["ssh", *options, "root@127.0.0.1", *remote]

    def ssh(self, way: int, key: Path, remote: str, data: bytes = b"", check: bool = True) -> bytes:
        """Run a remote command by ssh; gives what it printed."""
        return self.run(*self.ssh_command(way, key, remote), data=data, check=check)

    def drain(self) -> None:
        """Wait until every relayed connection has ended."""
        for relay in self.relays:
            relay.drain()

    def rows(self) -> list[Row]:
        """The truth about all connections so far."""
        return self.ledger.truth() + self.connections


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def url(path: str, scheme: str = "http") -> str:
    """A URL of the site."""
    return f"{scheme}://{WEB_NAME}/{path}"


@dataclass(frozen=True)
class Capture:
    """One capture file, and the script that fills it.

    The script is a generator: what it does before its `yield` is not captured, what it does
    after is; what it left open is closed after the truth was written down.
    """

    name: str
    about: str
    script: Callable[[Stage], Iterator[None]]
    vantage: Vantage
    middle: Switch | Wire = field(default_factory=Switch)
    offloads: bool = False

    @property
    def truth_name(self) -> str:
        """The name of the truth beside the capture."""
        return f"{self.name.split('.')[0]}.truth.json"

    def make(self, target: Path) -> None:
        """Play the script, and write capture and truth into the folder `target`."""
        with contextlib.ExitStack() as closing:
            directory = Path(closing.enter_context(tempfile.TemporaryDirectory()))
            raw = directory / "raw.pcap"
            lab = closing.enter_context(laboratory(offloads=self.offloads))
            closing.enter_context(self.middle.running(lab.middle))
            stage = Stage(lab, directory, closing)
            rows = self._play(stage, raw)
            truth = self._truth(stage, _as_seen(rows, directions(segments(raw))))
            publish(raw, target / self.name)
            text = json.dumps(truth, indent=1) + "\n"
            (target / self.truth_name).write_text(text)

    def _play(self, stage: Stage, raw: Path) -> list[Row]:
        script = self.script(stage)
        next(script)
        tap = Tap(stage.lab, self.vantage, raw)
        stage.closing.callback(tap.kill)
        next(script, None)
        tap.stop()
        return stage.rows()

    def _truth(self, stage: Stage, rows: list[Row]) -> Row:
        truth: Row = {
            "capture": self.name,
            "about": self.about,
            "link_type": self.vantage.link_type,
            "tap": f"{self.vantage.host} {self.vantage.interface}",
            "offloads": self.offloads,
            "connections": rows,
        }
        if stage.requests:
            places = {_key(row): place for place, row in enumerate(rows)}
            truth["requests"] = sorted(stage.requests, key=lambda row: places[_key(row)])
        return truth


def _key(row: Row) -> Key:
    return row["src"], row["sport"], row["dst"], row["dport"]


def _as_seen(rows: list[Row], found: dict[Key, Direction]) -> list[Row]:
    """The connections in the order of their first frames, each with the ends a reader may tell.

    Where an RST follows both FINs, the ends know of none, but the capture shows it.
    """
    order = list(found)
    for row in rows:
        stray = any(found[key].stray_rst for key in _seen_keys(row, found))
        row["end_accept"] = [row["end"], "rst"] if stray else [row["end"]]
    return sorted(rows, key=lambda row: min(map(order.index, _seen_keys(row, found))))


def _seen_keys(row: Row, found: dict[Key, Direction]) -> list[Key]:
    return [key for key in (_key(row), turned(_key(row))) if key in found]
