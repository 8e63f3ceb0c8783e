"""The programs that are compared: how each is called, and why it may be missing."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_PEERS = _HERE / "peers"
_BUILD = _PEERS / "build"

Missing = Callable[[], str | None]
Command = Callable[[Path, int], list[str]]


@dataclass(frozen=True)
class Program:
    """One competitor.

    ``command`` takes the capture and the number of connections live at once; ``missing`` gives the
    reason why it cannot run here, or None. ``packets`` limits a slow program to the beginning of
    the capture, ``rounds`` to the first rounds. ``required`` is the highest ratio of aiomos' CPU
    time to this program's that the project allows itself.
    """

    name: str
    command: Command
    missing: Missing
    counts_bytes: bool = True
    packets: int | None = None
    rounds: int | None = None
    required: float | None = None


@functools.cache
def _import_error(module: str) -> str | None:
    """Why ``module`` cannot be imported by a script of this folder, or None."""
    check = [sys.executable, "-P", "-c", f"import {module}"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return f"{module} does not import: {done.stderr.strip().splitlines()[-1]}"


@functools.cache
def build_peers() -> str:
    """Build what can be built; the last line of the compiler's complaint, or nothing."""
    make = ["make", "-s", "-C", str(_PEERS)]
    try:
        done = subprocess.run(make, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "make is not installed"
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _script(script: Path, module: str) -> tuple[Command, Missing]:
    def command(capture: Path, _live: int) -> list[str]:
        return [sys.executable, str(script), str(capture)]

    return command, lambda: _import_error(module)


def _built(binary: str, needs: str) -> Missing:
    def missing() -> str | None:
        complaint = build_peers()
        if (_BUILD / binary).exists():
            return None
        return f"not built: install {needs}" + (f" ({complaint})" if complaint else "")

    return missing


def _nids(*options: str) -> tuple[Command, Missing]:
    """libnids with room for twice the live connections in its table (and 1.5 in its pool)."""

    def command(capture: Path, live: int) -> list[str]:
        streams = str(max(4096, 2 * live))
        return [str(_BUILD / "nids_count"), "--streams", streams, *options, str(capture)]

    return command, _built("nids_count", "libnids-dev")


def _gopacket(capture: Path, _live: int) -> list[str]:
    return [str(_BUILD / "gopacket_count"), str(capture)]


def reading() -> list[Program]:
    """Programs that hand every byte of every connection to their user; aiomos first."""
    gopacket_missing = _built(
        "gopacket_count",
        "golang-go golang-github-google-gopacket-dev golang-golang-x-net-dev",
    )
    return [
        Program("aiomos", *_script(_HERE / "read_all.py", "aiomos")),
        Program("libnids", *_nids(), required=1.5),
        Program("libnids-nochecksum", *_nids("--no-checksum")),
        Program("gopacket", _gopacket, gopacket_missing, required=1 / 2),
        Program(
            "dpkt", *_script(_PEERS / "dpkt_count.py", "dpkt"),
            packets=500_000, rounds=5, required=1 / 20,
        ),
        Program(
            "nfstream", *_script(_PEERS / "nfstream_count.py", "nfstream"),
            packets=500_000, rounds=3,
        ),
        Program(
            "scapy", *_script(_PEERS / "scapy_count.py", "scapy.all"),
            packets=20_000, rounds=3, required=1 / 500,
        ),
    ]  # fmt: skip


def without_handler() -> list[Program]:
    """Programs that follow connections, or only look at packets, for nobody; aiomos first."""

    def nids(name: str, *options: str, required: float | None = None) -> Program:
        return Program(name, *_nids(*options), counts_bytes=False, required=required)

    return [
        Program("aiomos", *_script(_HERE / "no_handler.py", "aiomos"), counts_bytes=False),
        nids("libnids-nocallback", "--callback", "none", required=0.8),
        nids("libnids-nocallback-nochecksum", "--callback", "none", "--no-checksum"),
        nids("libnids-track", "--callback", "track"),
        nids("libnids-track-nochecksum", "--callback", "track", "--no-checksum"),
    ]


def chosen(found: list[Program], only: str | None) -> list[Program]:
    """Those of ``found`` that ``only`` names (separated by commas); all if it is None."""
    names = only.split(",") if only else [one.name for one in found]
    return [one for one in found if one.name in names]
