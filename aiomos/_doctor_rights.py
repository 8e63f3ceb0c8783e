"""Judging rights: what several ways of running need alike, and how one comes by it."""

from __future__ import annotations

import os

from aiomos._findings import Finding, listed, missing, ok
from aiomos._machine import Machine

#: What each capability is asked for.
_PURPOSES = {
    "CAP_NET_RAW": "open packet and AF_XDP sockets",
    "CAP_NET_ADMIN": "attach XDP programs",
    "CAP_BPF": "load XDP programs",
}


def check_rights(machine: Machine, *names: str) -> Finding:
    """Whether this process holds all of these capabilities; without them nothing runs."""
    lacking = tuple(n for n in names if not _holds(machine, n))
    topic = "rights"
    if not lacking:
        purposes = (_PURPOSES[n] for n in names)
        return ok(topic, f"{listed(names)} held: this user may {listed(purposes)}.")
    purposes = (_PURPOSES[n] for n in lacking)
    text = f"{listed(lacking)} not held: this user may not {listed(purposes, 'or')}; {{}}."
    if not machine.rights.obtainable.issuperset(lacking):
        how = "no program started from here can be given that, only by who started the container"
        options = " ".join(f"--cap-add={n.removeprefix('CAP_')}" for n in names)
        commands = (f"docker run {options} ...",) if machine.surroundings.container else ()
        return missing(topic, text.format(how), *commands, prevents=True)
    return missing(topic, text.format("root gives it to one run"), _grant(names), prevents=True)


def _holds(machine: Machine, name: str) -> bool:
    held = machine.rights.held
    return name in held or (name == "CAP_BPF" and "CAP_SYS_ADMIN" in held)


def _grant(names: tuple[str, ...]) -> str:
    """Rights for one run of this user's. The shell finds aiomos before root's path is taken."""
    added = ",".join(f"+{n.removeprefix('CAP_').lower()}" for n in names)
    return (
        f"sudo setpriv --reuid={os.geteuid()} --regid={os.getegid()} --init-groups"
        f' --inh-caps={added} --ambient-caps={added} "$(command -v aiomos)" run ...'
    )
