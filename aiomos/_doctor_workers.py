"""Judging: several workers (``--workers``), each pinned to a core of its own."""

from __future__ import annotations

from aiomos._findings import Finding, Way, listed, missing, note, ok
from aiomos._machine import Machine
from aiomos._machine_files import format_cpus
from aiomos._machine_net import Interface

#: Clock sources that are read without a system call.
_FAST_CLOCKS = {
    *("tsc", "kvm-clock", "hyperv_clocksource_tsc_page"),
    *("arch_sys_counter", "riscv_clocksource"),
}
_DESCRIPTORS = 4096


def workers_way(machine: Machine, interfaces: tuple[Interface, ...]) -> Way:
    """One process a core."""
    found = [_cores(machine), *_quota(machine), *_siblings(machine), _isolation(machine)]
    found += [*_governor(machine), _clock(machine), *_interrupts(machine), _descriptors(machine)]
    found.append(
        ok("taps and captures", "the kernel's fanout and files are shared by a symmetric hash:"
           " workers read them directly.")
    )  # fmt: skip
    found += [check for i in interfaces for check in _interface(i, machine)]
    return Way("workers", "Several workers (--workers)", tuple(found))


def usable(machine: Machine) -> frozenset[int]:
    """Processors that a worker can be pinned to."""
    return machine.cpus.online & machine.cpus.allowed or machine.cpus.allowed


def _cores(machine: Machine) -> Finding:
    cpus, topic = usable(machine), "cores"
    barred = machine.cpus.online - cpus
    text = f"{len(cpus)} may be used ({format_cpus(cpus)})"
    if len(cpus) < 2:
        why = f"; affinity keeps this process off {format_cpus(barred)}" if barred else ""
        commands = (f"taskset -c {format_cpus(machine.cpus.online)} aiomos run ...",)
        return missing(topic, f"{text}{why}: more workers than one would share it and gain"
                       " nothing.", *(commands if barred else ()), prevents=True)  # fmt: skip
    if barred:
        return note(topic, f"{text}; affinity (taskset, cpuset) keeps this process off"
                    f" {format_cpus(barred)}.")  # fmt: skip
    return ok(topic, f"{text}.")


def _quota(machine: Machine) -> list[Finding]:
    quota = machine.cpus.quota
    if quota is None:
        return []
    if quota >= len(usable(machine)):
        return [ok("CPU quota", f"the control group allows {quota:g} processors' time.")]
    return [
        note("CPU quota", f"the control group allows {quota:g} processors' time: more workers than"
             " that are stopped for part of each period, and lose packets then.")
    ]  # fmt: skip


def _siblings(machine: Machine) -> list[Finding]:
    groups = [g for g in machine.cpus.siblings if len(g & usable(machine)) > 1]
    if not groups:
        return []
    firsts = frozenset(usable(machine) - {n for g in groups for n in sorted(g)[1:]})
    return [
        note("hyper-threads", f"{listed(format_cpus(g) for g in groups[:4])}"
             f"{' and more' if len(groups) > 4 else ''} share a core each; one worker a core:"
             f" --cores {format_cpus(firsts)}.")
    ]  # fmt: skip


def _isolation(machine: Machine) -> Finding:
    cpus, topic = machine.cpus, "isolated cores"
    if cpus.isolated:
        tick = "" if cpus.isolated <= cpus.tickless else ", but the scheduler's tick stays"
        return ok(topic, f"{format_cpus(cpus.isolated)} are kept free of other work{tick}.")
    rest = format_cpus(usable(machine) - {0})
    if not rest:
        return note(topic, "none, and with one core there is none to set aside.")
    return note(topic, "none: other work and the scheduler's tick interrupt workers. With"
                f" isolcpus={rest} nohz_full={rest} rcu_nocbs={rest} on the kernel's command line"
                " they are left alone.")  # fmt: skip


def _governor(machine: Machine) -> list[Finding]:
    names, topic = machine.cpus.governors, "frequency"
    if not names:
        return []  # virtual machines: the host governs it
    if names == {"performance"}:
        return [ok(topic, "the governor is performance.")]
    return [
        missing(topic, f"the governor is {listed(sorted(names))}: a core that slept starts slowly.",
                "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    ]  # fmt: skip


def _clock(machine: Machine) -> Finding:
    clock, topic = machine.clock, "clock source"
    if not clock.current:
        return note(topic, "cannot be read here.")
    if clock.current in _FAST_CLOCKS:
        return ok(topic, f"{clock.current}: read without a system call.")
    better = [name for name in clock.available if name in _FAST_CLOCKS]
    text = f"{clock.current} costs a system call each time it is read"
    if not better:
        return note(topic, f"{text}, and this machine offers no better one.")
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    return missing(topic, f"{text}; {better[0]} does not.", f"echo {better[0]} > {path}")


def _interrupts(machine: Machine) -> list[Finding]:
    if not machine.irqbalance:
        return []
    return [
        note("irqbalance", "runs, and moves interrupts onto the cores of workers.",
             "systemctl stop irqbalance")
    ]  # fmt: skip


def _descriptors(machine: Machine) -> Finding:
    topic, bounds = "open files", machine.bounds
    if bounds.files < 0 or bounds.files >= _DESCRIPTORS:
        return ok(topic, f"{'no limit' if bounds.files < 0 else bounds.files} for each worker.")
    hard = bounds.files_hard
    command = "ulimit -n " + (str(_DESCRIPTORS) if hard < 0 or hard >= _DESCRIPTORS else str(hard))
    return note(topic, f"{bounds.files} for each worker: handlers that connect themselves may"
                " need more.", *((command,) if hard != bounds.files else ()))  # fmt: skip


def _interface(interface: Interface, machine: Machine) -> list[Finding]:
    """Queues matter to what is taken (AF_XDP); a tap's frames are shared out by the kernel."""
    topic = f"{interface.name}: queues"
    most = interface.hardware.queues_max or interface.queues
    if most < 2:
        return [note(topic, "one: what is taken from it (--exclusive) comes to one core.")]
    return [_count(interface, most, len(usable(machine))), _hash(interface)]


def _count(interface: Interface, most: int, cores: int) -> Finding:
    topic, wanted = f"{interface.name}: queues", min(most, cores)
    text = f"{interface.queues} of {most} in use"
    if interface.queues >= wanted:
        return ok(topic, f"{text}.")
    kind = "combined" if interface.hardware.combined else "rx"
    return note(topic, f"{text}; one for each of {wanted} cores:",
                f"ethtool -L {interface.name} {kind} {wanted}")  # fmt: skip


def _hash(interface: Interface) -> Finding:
    """Whether both directions of a connection come by one queue."""
    topic, rss = f"{interface.name}: RSS", interface.rss
    apart = "the two directions of a connection may come by different queues"
    if rss is None:
        return note(topic, f"{interface.driver or 'its driver'} does not tell how it spreads"
                    f" packets: {apart}.")  # fmt: skip
    if rss.symmetric:
        ports = "" if rss.tcp_ports else ", by addresses alone"
        return ok(topic, f"symmetric{ports}: both directions of a connection come by one queue.")
    if not rss.key:
        return note(topic, f"its hash cannot be set: {apart}.")
    key = ":".join(["6d:5a"] * (rss.key // 2))
    return note(
        topic, f"not symmetric: {apart}. By one, with a key that repeats 6d:5a:",
        f"ethtool -X {interface.name} hkey {key} equal {interface.queues}",
    )  # fmt: skip
