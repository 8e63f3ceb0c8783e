"""Three network namespaces in a row: client, middle, server, joined by two veth pairs.

The client's and the server's interface are in one subnet, so what the middle runs (a switch of the
kernel's or a program of ours, see impair.py) is invisible above Ethernet.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET = 0x40000000
OFFLOADS = ("tso", "gso", "gro", "tx", "rx")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Host:
    """Names and addresses of one host, from the ranges set aside for documentation."""

    interface: str
    mac: str
    ipv4: str
    ipv6: str
    hostname: str

    def address(self, version: int) -> str:
        """The host's address for IP version 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6


CLIENT = Host("c0", "02:00:00:00:00:0a", "192.0.2.10", "2001:db8::10", "client.example.test")
SERVER = Host("s0", "02:00:00:00:00:14", "192.0.2.20", "2001:db8::20", "server.example.test")


def command(*args: str) -> None:
    """Run a configuration command to its end; its error text goes into the exception."""
    result = subprocess.run(args, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(args)}: {result.stderr.strip()}")


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """One named network namespace, deleted by `delete`."""

    def __init__(self, name: str) -> None:
        self.name = name
        command("ip", "netns", "add", name)

    def delete(self) -> None:
        """Remove the namespace, and with it every interface inside."""
        command("ip", "netns", "delete", self.name)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace.

        A socket belongs for life to the namespace it was created in, so one process can hold
        sockets of all three hosts.
        """
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path("/run/netns", self.name).open("rb") as there,
        ):
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def tcp_socket(self, version: int) -> socket.socket:
        """A TCP socket of this host for IP version 4 or 6."""
        with self.entered():
            return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)

    def listen(self, address: str, port: int = 0) -> socket.socket:
        """A listening TCP socket of this host."""
        listener = self.tcp_socket(6 if ":" in address else 4)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        return listener

    def sysctl(self, name: str, value: str) -> None:
        """Set one of the namespace's own `net.` switches."""
        with self.entered():
            Path("/proc/sys", name.replace(".", "/")).write_text(value)

    def do(self, *args: str) -> None:
        """Run a configuration command inside, to its end."""
        command("ip", "netns", "exec", self.name, *args)

    def inside(self, hostname: str, *args: str) -> list[str]:
        """The command line that runs a program inside, under a host name of the laboratory's."""
        name_and_run = 'hostname "$0" && exec "$@"'
        enter = ["ip", "netns", "exec", self.name]
        return [*enter, "unshare", "--uts", "sh", "-c", name_and_run, hostname, *args]


@dataclass(frozen=True)
class Lab:
    """The three hosts. The middle has the interfaces m0 (towards the client) and m1."""

    client: Namespace
    middle: Namespace
    server: Namespace


def _quiet(namespace: Namespace, *, ipv6: bool) -> None:
    """Switch off the kernel's own chatter: addresses are ours, and usable at once."""
    for scope in ("all", "default"):
        prefix = f"net.ipv6.conf.{scope}"
        namespace.sysctl(f"{prefix}.disable_ipv6", "0" if ipv6 else "1")
        namespace.sysctl(f"{prefix}.accept_dad", "0")
        namespace.sysctl(f"{prefix}.accept_ra", "0")
        namespace.sysctl(f"{prefix}.router_solicitations", "0")


def _join(end: Namespace, host: Host, middle: Namespace, port: str, mac: str) -> None:
    """Lay the cable between a host and the middle, and configure the host."""
    cable = ("ip", "-n", end.name, "link", "add", host.interface, "address", host.mac)
    command(*cable, "type", "veth", "peer", "name", port, "address", mac, "netns", middle.name)
    command("ip", "-n", end.name, "address", "add", f"{host.ipv4}/24", "dev", host.interface)
    ipv6 = ("address", "add", f"{host.ipv6}/64", "dev", host.interface, "nodad")
    command("ip", "-n", end.name, *ipv6)
    command("ip", "-n", end.name, "link", "set", "lo", "up")
    command("ip", "-n", end.name, "link", "set", host.interface, "up")
    command("ip", "-n", middle.name, "link", "set", port, "up")


def _no_offloads(namespace: Namespace, interface: str) -> None:
    switches = [word for name in OFFLOADS for word in (name, "off")]
    namespace.do("ethtool", "-K", interface, *switches)


@contextlib.contextmanager
def laboratory(*, offloads: bool) -> Iterator[Lab]:
    """Build the three hosts and take them down at the end, however it comes.

    With `offloads`, segments are large and checksums unfilled, as a host sees its own traffic;
    without, frames are as they would be on a cable.
    """
    with contextlib.ExitStack() as stack:
        spaces = []
        for role in ("client", "middle", "server"):
            space = Namespace(f"aiomos-{os.getpid()}-{role}")
            stack.callback(space.delete)
            _quiet(space, ipv6=role != "middle")
            spaces.append(space)
        lab = Lab(*spaces)
        _join(lab.client, CLIENT, lab.middle, "m0", "02:00:00:00:01:00")
        _join(lab.server, SERVER, lab.middle, "m1", "02:00:00:00:01:01")
        if not offloads:
            for space, interface in (
                (lab.client, CLIENT.interface),
                (lab.middle, "m0"),
                (lab.middle, "m1"),
                (lab.server, SERVER.interface),
            ):
                _no_offloads(space, interface)
        yield lab
