"""Findings and devices for people: 80 columns are enough, and no colour is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aiomos._findings import Finding, State, Way, listed
from aiomos.devices import Devices, Port
from aiomos.doctor import Report

_STYLES = {State.OK: "green", State.NOTE: "yellow", State.MISSING: "bold red"}
_STATE, _TOPIC = 7, 18  # columns
_INDENT = 2 + _STATE + 1  # of commands: below the topic, so that the states stand alone


def print_to(stream: IO[str], draw: Callable[[Console], None]) -> None:
    """As wide as the terminal, 80 columns where there is none; no blanks at the ends of lines."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        draw(console)
    stream.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


# ---- doctor ------------------------------------------------------------------------------------


def show_report(report: Report, console: Console) -> None:
    """All sections, and what they come to."""
    console.print(Text("This machine", "bold"))
    _show_findings(report.machine, console)
    for way in report.ways:
        console.print()
        console.print(_heading(way))
        _show_findings(way.findings, console)
    console.print()
    console.print(_conclusion(report))


def _heading(way: Way) -> Text:
    verdict = ("possible", "green") if way.possible else ("not possible", "bold red")
    return Text.assemble((way.title, "bold"), ": ", verdict)


def _show_findings(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        line = Table.grid(padding=(0, 1))
        line.add_column(width=_STATE)
        line.add_column(width=_TOPIC)
        line.add_column()
        state = Text(finding.state.value, _STYLES[finding.state])
        line.add_row(state, Text(finding.topic), Text(finding.text))
        console.print(Padding(line, (0, 0, 0, 2)))
        _show_commands(finding.commands, console)


def _show_commands(commands: Iterable[str], console: Console) -> None:
    """Never broken: a command is to be copied."""
    for command in commands:
        console.print(Text(f"{' ' * _INDENT}$ {command}", "cyan"), soft_wrap=True)


def _conclusion(report: Report) -> Text:
    able = [w.name for w in report.ways if w.possible]
    unable = [w.name for w in report.ways if not w.possible]
    text = f"Possible: {listed(able)}."
    if unable:
        text += f" Not possible: {listed(unable)}."
    if any(f.commands for w in report.ways for f in w.findings):
        text += " Commands are for root; what they set in /proc and /sys lasts until a reboot."
    return Text(text)


# ---- devices -----------------------------------------------------------------------------------


def show_devices(devices: Devices, console: Console) -> None:
    """Three lists: interfaces, PCI devices, DPDK's virtual devices."""
    _title("Kernel interfaces", "-i NAME; --exclusive takes the frames of a mirror port", console)
    rows = [_port_row(port) for port in devices.interfaces]
    _table(("name", "state", "mtu", "driver", "queues", "speed", "addresses"), rows, console)
    console.print()
    _title("PCI network devices", "--dpdk ADDRESS", console)
    _show_pci(devices, console)
    console.print()
    _title("DPDK virtual devices", "--dpdk NAME0,PARAMETER=VALUE,...", console)
    _show_virtual(devices, console)


def _title(name: str, how: str, console: Console) -> None:
    console.print(Text.assemble((name, "bold"), f": {how}"))


def _port_row(port: Port) -> Sequence[str]:
    if port.name == "any":
        return ("any", "", "", "", "", "", "all of them at once (-i only)")
    queues = "" if port.queues is None else str(port.queues)
    if port.queues_max is not None and port.queues_max != port.queues:
        queues += f" of {port.queues_max}"
    notes = [*port.addresses, *(["default route"] if port.default_route else [])]
    if "--exclusive" in port.options:
        notes.append("may be taken (--exclusive)")
    return (port.name, port.state, str(port.mtu), port.driver, queues, _speed(port.speed),
            ", ".join(notes))  # fmt: skip


def _speed(mbits: int | None) -> str:
    """``10 Gbit/s`` would be too wide for a column."""
    if mbits is None:
        return ""
    return f"{mbits / 1000:g}G" if mbits >= 1000 else f"{mbits}M"


def _show_pci(devices: Devices, console: Console) -> None:
    if not devices.pci:
        console.print("  none")
        return
    rows = [
        (card.address, card.id, card.driver or "none", ", ".join(card.interfaces),
         card.dpdk_driver or "none", "yes" if card.options else "no")
        for card in devices.pci
    ]  # fmt: skip
    _table(("address", "id", "bound to", "interface", "DPDK driver", "opens"), rows, console)
    if not all(card.options for card in devices.pci):
        console.print("  aiomos doctor says what those that do not open need.")


def _show_virtual(devices: Devices, console: Console) -> None:
    if not devices.dpdk:
        if devices.dpdk_version:
            console.print(f"  DPDK {devices.dpdk_version} is installed; this build cannot use it.")
        console.print("  To get a build of aiomos that opens DPDK devices:")
        _show_commands(devices.get_dpdk, console)
    if devices.virtual:
        _table(("name", "what it is"), [(v.name, v.purpose) for v in devices.virtual], console)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Columns that are empty throughout are left out."""
    kept = [n for n, column in enumerate(zip(*rows, strict=True)) if any(column)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for n in kept:
        table.add_column(names[n], overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[n]) for n in kept))
    console.print(Padding(table, (0, 0, 0, 2)))
