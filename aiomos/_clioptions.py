"""Options that several commands share, and how their words are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import click

from aiomos._engine.errors import ConfigError
from aiomos._engine.names import DECODERS

Command = Callable[..., None]


def _names(choices: Sequence[str], value: str | None) -> tuple[str, ...]:
    """The names of a list with commas between them.

    Raises:
        BadParameter: one is no choice.
    """
    found = tuple(name for name in (value or "").split(",") if name)
    for name in found:
        if name not in choices:
            raise click.BadParameter(f"{name!r} is none of {', '.join(choices)}")
    return found


def _decoders(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    """What is left to decode."""
    off = _names(DECODERS, value)
    return tuple(name for name in DECODERS if name not in off)


def _key_parts(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    return _names(("vlan", "tunnel"), value)


def _cores(context: click.Context, option: click.Parameter, value: str | None) -> Any:
    from aiomos._launch import cores_of

    try:
        return cores_of(value) if value else ()
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def stall(context: click.Context, option: click.Parameter, value: str) -> float | None:
    """Seconds; None for 0 and ``off``."""
    try:
        seconds = 0.0 if value == "off" else float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise click.BadParameter(f"{value!r} is neither a number of seconds from 0 up nor 'off'")
    return seconds or None


#: Of every command that runs an app.
_SHARED = (
    click.option("-f", "filter", metavar="EXPR", help="BPF filter for the whole run."),
    click.option("-c", "count", metavar="N", type=click.IntRange(1),
                 help="Stop after N packets."),
    click.option("--strict", is_flag=True, help="Exit with 1 when a capture is cut off."),
    click.option("--no-decode", "decode", metavar="NAME,...", callback=_decoders,
                 help="Leave encapsulations closed: vxlan, gre, vlan, ..."),
    click.option("--key", metavar="vlan,tunnel", callback=_key_parts,
                 help="Tell equal addresses in different networks apart."),
    click.option("--linger", metavar="SECONDS", type=click.FloatRange(0), default=1.0,
                 show_default=True, help="Capture time that handlers get at the end."),
    click.option("--io-patience", metavar="SECONDS", type=click.FloatRange(0), default=5.0,
                 show_default=True, help="How long one I/O operation may hold capture time."),
    click.option("--tasks", type=click.Choice(["engine", "asyncio"]), default="engine",
                 show_default=True, help="Who steps the handlers."),
    click.option("--set", "settings", metavar="NAME=VALUE", multiple=True,
                 help="Engine option: a timeout, a bound or its policy (docs: limits)."),
    click.option("--checksums", type=click.Choice(["auto", "on", "off"]), default="auto",
                 show_default=True, help="Refuse wrong checksums; auto: live only."),
    click.option("--dedup", is_flag=True, help="Count packets that a mirror shows twice once."),
    click.option("--burst", type=click.IntRange(1, 64), default=64, hidden=True),
    click.option("-q", "--quiet", is_flag=True, help="No summary and no progress bar."),
)  # fmt: skip

#: Of live traffic, and of several processes.
_LIVE = (
    click.option("-i", "interface", metavar="IFACE", help="Watch a network interface; any: all."),
    click.option("-p", "--no-promiscuous-mode", "promiscuous", flag_value=False, default=True,
                 help="-i: do not ask for frames that are for others."),
    click.option("-Q", "--direction", type=click.Choice(["in", "out", "inout"]), default="inout",
                 show_default=True, help="-i: of which frames."),
    click.option("-B", "--buffer-size", "buffer", metavar="KiB", type=click.IntRange(1),
                 help="-i: the kernel's ring, of each worker."),
    click.option("--exclusive", is_flag=True,
                 help="-i: take the frames from the kernel (AF_XDP, on a mirror port)."),
    click.option("--force", is_flag=True, help="--exclusive also where it cuts this host off."),
    click.option("--dpdk", multiple=True, metavar="DEVICE",
                 help="A DPDK port: PCI address, or vdev (net_pcap0,rx_pcap=FILE)."),
    click.option("--huge", type=click.Choice(["auto", "yes", "no"]), default="auto",
                 show_default=True, help="--dpdk: take huge pages."),
    click.option("--receive-pump", "pump", metavar="MiB", type=click.IntRange(1), is_flag=False,
                 flag_value=256, help="Receive in a thread of its own, into a ring of that size."),
    click.option("--busy-poll", is_flag=True, help="Never sleep: look for frames all the time."),
    click.option("--workers", metavar="N", type=click.IntRange(1, 128),
                 help="Share the flows out among N processes."),
    click.option("--cores", metavar="LIST", callback=_cores,
                 help="The cores of the workers, one each: 2-5,7."),
    click.option("--drain", metavar="SECONDS", type=click.FloatRange(0), default=30.0,
                 show_default=True, help="Time that workers get to end in."),
)  # fmt: skip


def shared(command: Command) -> Command:
    """Options of every command that runs an app."""
    return _with(_SHARED, command)


def live(command: Command) -> Command:
    """Options of live traffic, and of several processes."""
    return _with(_LIVE, command)


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):  # the last one applied is shown first
        command = option(command)
    return command
