"""``aiomos flows``: lists connections. Itself an aiomos app."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any

import attrs

from aiomos._app import App
from aiomos._endpoint import Endpoint
from aiomos._engine.errors import ConfigError, FlowError
from aiomos._flow import Flow
from aiomos._options import Deliver, Overlap
from aiomos._stats import FlowStats

_BLOCK = 1 << 20

#: Engine options for a listing: nobody waits for it, so that bytes may be long in coming.
OPTIONS: dict[str, Any] = {"reorder_grace": 5.0}


class Side:
    """Bytes of one direction: how many, and their digest if asked for."""

    def __init__(self, digest: str | None) -> None:
        self.bytes = 0
        self._hash = hashlib.new(digest) if digest else None

    def add(self, data: bytes) -> None:
        """Counts a piece of the stream."""
        self.bytes += len(data)
        if self._hash is not None:
            self._hash.update(data)

    async def read_from(self, end: Endpoint) -> None:
        """All that an end sent, as far as it was received; how the flow ended is no matter."""
        try:
            while data := await end.read(_BLOCK):
                self.add(data)
        except FlowError:
            return

    @property
    def hexdigest(self) -> str | None:
        """The digest so far."""
        return None if self._hash is None else self._hash.hexdigest()


@attrs.define
class Line:
    """One connection on its way to a line of output."""

    flow: Flow
    readers: int
    sides: list[tuple[Flow, Endpoint, Side]] = attrs.Factory(list)

    def read(self, flow: Flow, end: Endpoint, digest: str | None) -> Side:
        """Where the bytes of an end go, whichever of the two it turns out to be."""
        side = Side(digest)
        self.sides.append((flow, end, side))
        return side

    def side(self, role: str) -> Side:
        """What the end that has this role now has sent."""
        return next(side for flow, end, side in self.sides if getattr(flow, role) is end)

    def fields(self, digest: str | None, stats: bool) -> dict[str, Any]:
        """The columns, in order."""
        flow, client, server = self.flow, self.flow.client, self.flow.server
        found: dict[str, Any] = {
            "proto": flow.protocol,
            "src": client.address,
            "sport": client.port,
            "dst": server.address,
            "dport": server.port,
            "client_bytes": self.side("client").bytes,
            "server_bytes": self.side("server").bytes,
        }
        if digest:
            found[f"client_{digest}"] = self.side("client").hexdigest
            found[f"server_{digest}"] = self.side("server").hexdigest
        found |= {
            "start": round(flow.start, 9),
            "duration": round(flow.duration, 9),
            "end": how_it_ended(flow),
            "reason": str(flow.close_reason),
            "packets": client.packets + server.packets,
            "retransmissions": client.retransmissions + server.retransmissions,
            "gaps": client.gaps + server.gaps,
            "midstream": flow.midstream,
            "vlan": " ".join(map(str, flow.vlan)),
            "tunnel": " ".join(map(str, flow.tunnel)),
            "community_id": flow.community_id,
        }
        return found | stats_fields(flow.stats) if stats else found


def how_it_ended(flow: Flow) -> str:
    """``rst``, ``fin`` (both ends), ``fin_half`` (one), or ``none``."""
    if flow.close_reason == "RESET":
        return "rst"
    fins = flow.client.fin_seen + flow.server.fin_seen
    return ("none", "fin_half", "fin")[fins]


#: Columns of --stats: a pair for each, client_... and server_...
_STATS = (
    "wire_bytes",
    "payload_bytes",
    "unique_bytes",
    "retransmitted_bytes",
    "out_of_order",
    "out_of_order_bytes",
    "gap_bytes",
    "rtt",
    "handshake_rtt",
    "rtt_samples",
    "rtt_min",
    "rtt_mean",
    "rtt_max",
    "window_min",
    "window_max",
    "zero_windows",
    "window_scale",
    "mss",
    "sack_permitted",
    "timestamps",
    "isn",
)


def stats_fields(stats: FlowStats) -> dict[str, Any]:
    """The columns of ``--stats``: times in seconds, None where nothing is known."""
    found: dict[str, Any] = {"rtt": _seconds(stats.rtt)}
    for name in _STATS:
        for side, end in (("client", stats.client), ("server", stats.server)):
            found[f"{side}_{name}"] = _seconds(getattr(end, name))
    return found


def _seconds(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value


class Listing:
    """Lines in order of first packet, given out as soon as all before them are complete."""

    def __init__(
        self, emit: Callable[[dict[str, Any]], object], digest: str | None, stats: bool
    ) -> None:
        self._emit = emit
        self._digest = digest
        self._stats = stats
        self._open: dict[int, Line] = {}

    def line(self, flow: Flow, readers: int) -> Line:
        """The line of a flow that so many handlers read; made for the first of them."""
        line = self._open.get(flow.id)
        if line is None:
            line = Line(flow, readers)
            self._open[flow.id] = line
        return line

    def done(self, line: Line) -> None:
        """One reader of a flow has all there will be."""
        line.readers -= 1
        while self._open:
            first = next(iter(self._open))
            if self._open[first].readers:
                return
            self._emit(self._open.pop(first).fields(self._digest, self._stats))


def make_app(
    emit: Callable[[dict[str, Any]], object],
    *,
    digest: str | None = None,
    udp: bool = False,
    stats: bool = False,
    policy: Overlap | None = None,
) -> App:
    """An app that calls ``emit`` with the columns of every connection.

    ``policy``: which of differing copies of a byte counts, of those that came before the
    receiver's acknowledgement; None: bytes count as soon as they are next, the first copy.

    Raises:
        ConfigError: there is no such digest.
    """
    if digest is not None and digest not in hashlib.algorithms_available:
        raise ConfigError(f"no such digest: {digest!r}; one is sha256")
    app = App(statistics=stats, overlap=policy or "first")
    deliver: Deliver = "acked" if policy else "arrival"
    listing = Listing(emit, digest, stats)

    # Two handlers rather than one of two tasks: cheaper. Each takes one end, and lets the other go:
    # the end itself, not its role, which a flow picked up in its middle may correct.
    @app.tcp(start="syn", on_gap="skip", deliver=deliver)
    async def client_side(flow: Flow) -> None:
        line = listing.line(flow, readers=2)
        flow.server.stop()
        await line.read(flow, flow.client, digest).read_from(flow.client)
        await flow.closed()
        listing.done(line)

    @app.tcp(start="syn", on_gap="skip", deliver=deliver)
    async def server_side(flow: Flow) -> None:
        line = listing.line(flow, readers=2)
        flow.client.stop()
        await line.read(flow, flow.server, digest).read_from(flow.server)
        await flow.closed()
        listing.done(line)

    if udp:

        @app.udp()
        async def datagrams(flow: Flow) -> None:
            line = listing.line(flow, readers=1)
            sides = {
                "client": line.read(flow, flow.client, digest),
                "server": line.read(flow, flow.server, digest),
            }
            async for datagram in flow:
                sides[datagram.sender].add(datagram.data)
            listing.done(line)

    return app


# ---- formats ------------------------------------------------------------


def writer_of(format: str, out: IO[str]) -> Callable[[dict[str, Any]], object]:
    """A function that writes one connection in a format: table, jsonl or csv."""
    if format == "jsonl":
        return lambda fields: out.write(json.dumps(fields) + "\n")
    rows = _csv_rows(out) if format == "csv" else _table_rows(out)
    next(rows)
    return rows.send


def _csv_rows(out: IO[str]) -> Generator[None, dict[str, Any], None]:
    fields: dict[str, Any] = yield
    rows = csv.DictWriter(out, fieldnames=list(fields), lineterminator="\n")
    rows.writeheader()
    while True:
        rows.writerow(fields)
        fields = yield


_TABLE = "{:>5} {:>45} {:>45} {:>11} {:>11} {:>10} {:>8} {:<11} {:>5} {:>4}\n"


def _table_rows(out: IO[str]) -> Generator[None, dict[str, Any], None]:
    fields: dict[str, Any] = yield
    out.write(
        _TABLE.format(
            "proto", "client", "server", "c-bytes", "s-bytes", "seconds", "end", "reason",
            "retr", "gaps",
        )
    )  # fmt: skip
    while True:
        out.write(_TABLE.format(*_table_cells(fields)))
        for line in _table_details(fields):
            out.write(f"      {line}\n")
        fields = yield


def _table_details(fields: dict[str, Any]) -> Iterator[str]:
    """Lines under a connection: digests, and one for each side with --stats."""
    for name, value in fields.items():
        side, _, rest = name.partition("_")
        if side in ("client", "server") and rest not in ("bytes", *_STATS):
            yield f"{name} {value}"
    for side in ("client", "server") if "client_wire_bytes" in fields else ():
        known = [(n, fields[f"{side}_{n}"]) for n in _STATS]
        yield f"{side}: " + ", ".join(f"{n} {v}" for n, v in known if v is not None)


def _table_cells(fields: dict[str, Any]) -> tuple[Any, ...]:
    return (
        fields["proto"],
        _host_port(fields["src"], fields["sport"]),
        _host_port(fields["dst"], fields["dport"]),
        fields["client_bytes"],
        fields["server_bytes"],
        f"{fields['duration']:.3f}",
        fields["end"],
        fields["reason"],
        fields["retransmissions"],
        fields["gaps"],
    )


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
