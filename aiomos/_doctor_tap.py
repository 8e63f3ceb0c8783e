"""Judging: capture files (``-r``) and taps (``-i``)."""

from __future__ import annotations

import importlib.util

from aiomos._doctor_rights import check_rights
from aiomos._findings import Finding, Way, listed, missing, note, ok, size_of
from aiomos._machine import Machine
from aiomos._machine_net import Interface
from aiomos._machine_rights import RING


def files_way() -> Way:
    """Captures need nothing of the machine; what readers need besides is named."""
    found = [ok("captures", "pcap, pcapng and gzip are read; no rights and no device are needed.")]
    extras = {"httptools": ("HTTP", "http"), "dns": ("DNS", "dns"), "scapy": ("scapy", "scapy")}
    for module, (what, extra) in extras.items():
        if importlib.util.find_spec(module) is None:
            found.append(
                note(f"reader: {what}", "an optional package that this installation is without.",
                     f"pip install 'aiomos[{extra}]'")
            )  # fmt: skip
    return Way("files", "Capture files (-r)", tuple(found))


def tap_way(machine: Machine, interfaces: tuple[Interface, ...]) -> Way:
    """A copy of what an interface sees, in both directions; nothing is taken from the host."""
    found = [check_rights(machine, "CAP_NET_RAW")]
    found += _sockets(machine)
    found.append(_receive_buffer(machine))
    if not interfaces:
        found.append(note("interfaces", "no interface but loopback is up; -i lo and -i any work."))
    found += [check for i in interfaces for check in _interface(i)]
    return Way("tap", "Kernel interfaces, as a tap (-i)", tuple(found))


def _sockets(machine: Machine) -> list[Finding]:
    """By trying: a right that is held is of no use where a filter of system calls forbids it."""
    tried = machine.sockets
    if tried.packet and "CAP_NET_RAW" not in machine.rights.held:
        return []  # said already
    if tried.packet:
        return [
            missing("packet socket", f"opening one fails ({tried.packet}): the kernel has no"
                    " CONFIG_PACKET, or a filter of system calls (seccomp) forbids it.",
                    prevents=True)
        ]  # fmt: skip
    if tried.ring:
        return [
            missing("packet socket", f"it opens, but a ring of {size_of(RING)} cannot be had"
                    f" ({tried.ring}).", prevents=True)
        ]  # fmt: skip
    return [ok("packet socket", f"opens, with a ring of {size_of(RING)}.")]


def _receive_buffer(machine: Machine) -> Finding:
    """Frames larger than a slot of the ring are copied to the socket's queue, which is bounded."""
    topic, most = "large frames", machine.bounds.receive_buffer
    if "CAP_NET_ADMIN" in machine.rights.held:
        return ok(topic, "CAP_NET_ADMIN held: net.core.rmem_max does not bound their queue.")
    if most is None:
        return note(topic, "net.core.rmem_max, which bounds their queue, cannot be read here.")
    text = f"net.core.rmem_max bounds the queue of offloaded frames to {size_of(most)}"
    if most >= RING:
        return ok(topic, f"{text}, as large as the ring.")
    return note(topic, f"{text}, without CAP_NET_ADMIN; as large as the ring it is with:",
                f"sysctl -w net.core.rmem_max={RING}")  # fmt: skip


def _interface(interface: Interface) -> list[Finding]:
    topic = interface.name
    if not interface.up:
        return [
            missing(topic, "it is switched off: a tap on it sees nothing.",
                    f"ip link set {topic} up")
        ]  # fmt: skip
    if interface.state in ("down", "lower layer down"):
        return [note(topic, "no link: a tap opens, and sees nothing until the link is there.")]
    on = interface.offloads.names
    if not on:
        return [ok(topic, "frames are seen as they are on the cable (no offloads).")]
    switches = " ".join(f"{name} off" for name in on)
    text = (
        f"{listed(n.upper() for n in on)} on: segments are seen merged, up to 64 KiB, with"
        " checksums still to be filled; nothing is lost by it, but sizes and times of single"
        " packets are. To see them as on the cable:"
    )
    return [note(topic, text, f"ethtool -K {topic} {switches}")]
