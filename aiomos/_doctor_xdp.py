"""Judging: AF_XDP, which takes frames from the kernel (``--exclusive``)."""

from __future__ import annotations

import attrs

from aiomos._doctor_rights import check_rights
from aiomos._findings import Finding, State, Way, missing, note, ok, size_of
from aiomos._machine import Machine
from aiomos._machine_net import Interface

_FRAMES = 4096 * 4096  # bytes that one queue's frames take at most: 4 096 of 4 KiB


def xdp_way(machine: Machine, interfaces: tuple[Interface, ...], named: bool) -> Way:
    """For mirror ports: the host no longer sees what is taken.

    ``named``: the user means these interfaces, so one that is refused makes this impossible.
    """
    found = [_socket(machine)]
    found.append(check_rights(machine, "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"))
    found.append(_locked_memory(machine))
    found += [check for i in interfaces for check in (_mode(i, named), _use(i, named))]
    return Way("xdp", "Kernel interfaces, taken (--exclusive, AF_XDP)", tuple(found))


def _socket(machine: Machine) -> Finding:
    error = machine.sockets.xdp
    if not error:
        return ok("AF_XDP socket", "opens: this kernel has CONFIG_XDP_SOCKETS.")
    if error.startswith(("EPERM", "EACCES")):
        return missing("AF_XDP socket", f"opening one is not allowed here ({error}).",
                       prevents=True)  # fmt: skip
    return missing("AF_XDP socket", f"this kernel has none ({error}): one with"
                   " CONFIG_XDP_SOCKETS=y is needed.", prevents=True)  # fmt: skip


def _locked_memory(machine: Machine) -> Finding:
    limit, topic = machine.bounds.locked, "locked memory"
    if limit < 0 or "CAP_IPC_LOCK" in machine.rights.held:
        return ok(topic, "no limit for this user.")
    if limit >= _FRAMES:
        return ok(topic, f"{size_of(limit)} may be locked; a queue takes {size_of(_FRAMES)}.")
    return missing(
        topic,
        f"{size_of(limit)} may be locked and a queue takes {size_of(_FRAMES)}; for the shell"
        " that starts the run:",
        "prlimit --pid $$ --memlock=unlimited",
        prevents=True,
    )


def _mode(interface: Interface, named: bool) -> Finding:
    topic = f"{interface.name}: mode"
    driver, xdp = interface.driver or "its driver", interface.xdp
    if xdp.attached:
        return missing(
            topic,
            f"an XDP program is attached already ({xdp.attached}), and there is room for one.",
            f"ip link set dev {interface.name} xdp{_MODES.get(xdp.attached, '')} off",
            prevents=named,
        )
    if xdp.native is None:
        return note(topic, f"whether {driver} runs XDP itself is not known; the kernel's generic"
                    " mode always works, at the cost of a copy.")  # fmt: skip
    if not xdp.native:
        return note(topic, f"{driver} has no XDP of its own that reaches sockets: generic mode,"
                    " which works, at the cost of a copy.")  # fmt: skip
    how = "without copying" if xdp.zero_copy else "with one copy"
    return ok(topic, f"native: {driver} runs XDP itself and hands frames over {how}.")


_MODES = {"native": "drv", "generic": "generic", "offloaded": "offload"}


def _use(interface: Interface, named: bool) -> Finding:
    """What the host itself needs is refused (semantics of --exclusive)."""
    topic, name = f"{interface.name}: use", interface.name
    if interface.loopback:
        return _refused(topic, "this host talks to itself over it: refused.", named)
    if interface.default_route:
        return _refused(topic, "the default route leads over it: --exclusive would cut this host"
                        " off, and is refused without --force.", named)  # fmt: skip
    if interface.addresses:
        return _refused(topic, f"it has an address ({interface.addresses[0]}): --exclusive is"
                        " refused without --force. As a mirror port it needs none:", named,
                        f"ip address flush dev {name} scope global")  # fmt: skip
    if interface.master:
        return note(topic, f"it belongs to {interface.master}, which no longer gets what is taken.")
    return ok(topic, "no address and no default route: it may be taken.")


def _refused(topic: str, text: str, named: bool, *commands: str) -> Finding:
    found = note(topic, text, *commands)
    return attrs.evolve(found, state=State.MISSING, prevents=True) if named else found
