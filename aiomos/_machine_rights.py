"""Facts about this process: what it may do, by trying where that can be tried, and its bounds."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import sys
from pathlib import Path

import attrs

from aiomos._machine_files import ROOT, read_int, read_text

#: Capabilities that matter here, by their bit.
CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}

AF_XDP = 44
SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_COPY_THRESH, _PACKET_VERSION = 5, 7, 10
_TPACKET_V2 = 1
RING = 32 << 20  # bytes; a tap's, unless it is asked for another
_SLOT, _SLOTS_A_BLOCK = 1792, 16  # a frame of 1 500 bytes with its headers; blocks of 7 pages


@attrs.frozen
class Rights:
    """What this process may do."""

    user: int  # effective user id
    held: frozenset[str]  # of CAPABILITIES
    obtainable: frozenset[str]  # in the bounding set: a program started from here can be given it


@attrs.frozen
class Sockets:
    """How opening went: "" where it worked, else the error's name (``EPERM``) and words."""

    packet: str
    ring: str  # of RING bytes
    xdp: str


@attrs.frozen
class Bounds:
    """Limits of this process and of the kernel's buffers."""

    files: int  # RLIMIT_NOFILE, soft; -1: none
    files_hard: int
    locked: int  # RLIMIT_MEMLOCK, soft, bytes; -1: none
    receive_buffer: int | None  # net.core.rmem_max, bytes


@attrs.frozen
class Surroundings:
    """What this process runs in."""

    container: str  # docker, podman, kubernetes, lxc, ...; "": none that shows
    mapped_users: bool  # in a user namespace of its own: root here is not root outside
    filtered: bool  # system calls are filtered (seccomp)
    read_only: bool  # /sys cannot be written, as in an unprivileged container
    tun: bool  # /dev/net/tun may be opened
    release: str  # of the kernel


def read_rights(root: Path = ROOT) -> Rights:
    """The capabilities of this process."""
    status = _status(root)
    return Rights(
        user=os.geteuid(),
        held=_names(status.get("CapEff", "0")),
        obtainable=_names(status.get("CapBnd", "0")),
    )


def _status(root: Path) -> dict[str, str]:
    lines = read_text(root / "proc/self/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _names(mask: str) -> frozenset[str]:
    bits = int(mask, 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if bits >> bit & 1)


def try_sockets() -> Sockets:
    """Opens what a tap and what AF_XDP open, bound to nothing, and closes it again."""
    packet, ring = _try_packet()
    return Sockets(packet=packet, ring=ring, xdp=_try_xdp())


def _try_packet() -> tuple[str, str]:
    """Protocol 0: the socket receives nothing."""
    if not sys.platform.startswith("linux"):
        return "ENOSYS: no Linux", "ENOSYS: no Linux"
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        return _said(error), _said(error)
    with opened:
        try:
            opened.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            opened.setsockopt(SOL_PACKET, _PACKET_COPY_THRESH, 1)
            block = _SLOT * _SLOTS_A_BLOCK
            blocks = RING // block
            ring = struct.pack("4I", block, blocks, _SLOT, blocks * _SLOTS_A_BLOCK)
            opened.setsockopt(SOL_PACKET, _PACKET_RX_RING, ring)
        except OSError as error:
            return "", _said(error)
    return "", ""


def _try_xdp() -> str:
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return _said(error)
    return ""


def _said(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"{name}: {(error.strerror or '').lower()}"


def read_bounds(root: Path = ROOT) -> Bounds:
    """The limits of this process."""
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Bounds(
        files=files,
        files_hard=hard,
        locked=locked,
        receive_buffer=read_int(root / "proc/sys/net/core/rmem_max"),
    )


def read_surroundings(root: Path = ROOT, release: str | None = None) -> Surroundings:
    """What of containers and namespaces shows from inside."""
    users = read_text(root / "proc/self/uid_map").split()
    return Surroundings(
        container=_container(root),
        mapped_users=bool(users) and users != ["0", "0", "4294967295"],
        filtered=_status(root).get("Seccomp") == "2",
        read_only=_sysfs_is_read_only(root),
        tun=os.access(root / "dev/net/tun", os.R_OK | os.W_OK),
        release=os.uname().release if release is None else release,
    )


def _container(root: Path) -> str:
    """By the marks that container engines leave."""
    environment = read_text(root / "proc/1/environ").split("\0")
    named = [v.removeprefix("container=") for v in environment if v.startswith("container=")]
    groups = read_text(root / "proc/1/cgroup")
    if "kubepods" in groups or (root / "var/run/secrets/kubernetes.io").exists():
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    return named[0] if named else "lxc" if "/lxc" in groups else ""


def _sysfs_is_read_only(root: Path) -> bool:
    for line in read_text(root / "proc/self/mounts").splitlines():
        _, path, kind, options, *_ = (*line.split(" "), "", "", "", "")
        if (path, kind) == ("/sys", "sysfs"):
            return "ro" in options.split(",")
    return False
