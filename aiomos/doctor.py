"""``aiomos doctor``: what this machine offers for each way of running, and what mends the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from aiomos._doctor_dpdk import dpdk_way
from aiomos._doctor_host import host_findings
from aiomos._doctor_tap import files_way, tap_way
from aiomos._doctor_workers import workers_way
from aiomos._doctor_xdp import xdp_way
from aiomos._engine.errors import SourceError
from aiomos._findings import Finding, Way
from aiomos._machine import Machine, read_machine
from aiomos._machine_net import Interface


@attrs.frozen
class Report:
    """All findings."""

    machine: tuple[Finding, ...]
    ways: tuple[Way, ...]

    def obstacle(self, name: str) -> Finding | None:
        """The first thing that prevents a way of running; None: it is possible."""
        way = next(w for w in self.ways if w.name == name)
        return next((f for f in way.findings if f.prevents), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the schema stands in docs/doctor.md."""
        return {
            "machine": [f.as_dict() for f in self.machine],
            "ways": [w.as_dict() for w in self.ways],
        }


def examine(names: Sequence[str] = (), machine: Machine | None = None) -> Report:
    """Judges a machine (this one), for these interfaces (all that are up, but loopback).

    Raises:
        SourceError: there is no interface of that name; or the kernel does not list them.
    """
    facts = machine or read_machine()
    chosen = _chosen(facts, names)
    return Report(
        machine=host_findings(facts),
        ways=(
            files_way(),
            tap_way(facts, chosen),
            xdp_way(facts, chosen, named=bool(names)),
            dpdk_way(facts),
            workers_way(facts, chosen),
        ),
    )


def _chosen(machine: Machine, names: Sequence[str]) -> tuple[Interface, ...]:
    if not names:
        return tuple(i for i in machine.interfaces if i.up and not i.loopback)
    found = []
    for name in names:
        interface = machine.interface(name)
        if interface is None:
            known = ", ".join(i.name for i in machine.interfaces)
            raise SourceError(f"there is no interface {name!r}: {known}")
        found.append(interface)
    return tuple(found)
