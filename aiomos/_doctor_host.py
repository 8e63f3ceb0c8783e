"""Judging: what this process runs in, whichever way it is going to run."""

from __future__ import annotations

from aiomos._findings import Finding, note, ok
from aiomos._machine import Machine


def host_findings(machine: Machine) -> tuple[Finding, ...]:
    """Kernel and user; containers and namespaces only where there are any."""
    here = machine.surroundings
    who = "root" if machine.rights.user == 0 else f"user {machine.rights.user}"
    found = [ok("kernel", f"Linux {here.release}, as {who}.")]
    if here.container:
        found.append(
            note("container", f"this looks like one ({here.container}): interfaces, rights and huge"
                 " pages are those that it was started with; commands that write to /sys, load"
                 " modules or mount are for its host.")
        )  # fmt: skip
    if here.mapped_users:
        found.append(
            note("user namespace", "root here is not root outside: devices and huge pages are"
                 " out of reach, and rights hold for namespaces made in here only.")
        )  # fmt: skip
    if here.filtered:
        found.append(
            note("seccomp", "system calls are filtered: what a right allows may be refused"
                 " all the same.")
        )  # fmt: skip
    if here.read_only:
        found.append(note("/sys", "is mounted read-only: huge pages and drivers are set outside."))
    return tuple(found)
