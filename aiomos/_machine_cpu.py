"""Facts about processors: which there are, which this process may use, and how time is told."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from aiomos._machine_files import ROOT, entries, read_cpus, read_int, read_text

_SYSTEM = "sys/devices/system"


@attrs.frozen
class Cpus:
    """Processors, by the kernel's numbers."""

    online: frozenset[int]
    allowed: frozenset[int]  # by affinity (taskset, cpuset) of this process
    isolated: frozenset[int]  # kept free of other work: isolcpus=
    tickless: frozenset[int]  # without the scheduler's tick: nohz_full=
    siblings: tuple[frozenset[int], ...]  # groups that share one core's execution units
    nodes: tuple[tuple[int, frozenset[int]], ...]  # NUMA node -> its processors
    governors: frozenset[str]  # of cpufreq; empty: the frequency is not ours to govern
    quota: float | None  # processors that the control group may use at most; None: no limit


@attrs.frozen
class Clock:
    """The kernel's clock source."""

    current: str
    available: tuple[str, ...]


def read_cpus_of(root: Path = ROOT, allowed: frozenset[int] | None = None) -> Cpus:
    """The processors. ``allowed``: in the place of this process's own affinity."""
    base = root / _SYSTEM / "cpu"
    online = read_cpus(base / "online")
    return Cpus(
        online=online,
        allowed=frozenset(os.sched_getaffinity(0)) if allowed is None else allowed,
        isolated=read_cpus(base / "isolated"),
        tickless=read_cpus(base / "nohz_full"),
        siblings=_siblings(base, online),
        nodes=_nodes(root),
        governors=frozenset(
            filter(None, (read_text(base / f"cpu{n}/cpufreq/scaling_governor") for n in online))
        ),
        quota=_quota(root),
    )


def _siblings(base: Path, online: frozenset[int]) -> tuple[frozenset[int], ...]:
    groups = {read_cpus(base / f"cpu{n}/topology/thread_siblings_list") for n in online}
    return tuple(sorted((g for g in groups if len(g) > 1), key=min))


def _nodes(root: Path) -> tuple[tuple[int, frozenset[int]], ...]:
    folders = (p for p in entries(root / _SYSTEM / "node") if p.name[4:].isdecimal())
    return tuple(sorted((int(p.name[4:]), read_cpus(p / "cpulist")) for p in folders))


def _quota(root: Path) -> float | None:
    """The tightest limit on the way from this process's control group up, both versions."""
    limits: list[float] = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in ("", "unified") if not controllers else (controllers, "cpu"):
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / name
            group = top / path.lstrip("/")
            for folder in (group, *(p for p in group.parents if p.is_relative_to(top))):
                limits += filter(None, [_limit_of(folder)])
    return min(limits, default=None)


def _limit_of(folder: Path) -> float | None:
    """Processors that one control group may use."""
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal():
        return int(quota) / int(period)
    old, base = (read_int(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return old / base if old and base and old > 0 else None


def read_clock(root: Path = ROOT) -> Clock:
    """The clock source in use, and those to choose from."""
    base = root / _SYSTEM / "clocksource/clocksource0"
    available = tuple(read_text(base / "available_clocksource").split())
    return Clock(read_text(base / "current_clocksource"), available)
