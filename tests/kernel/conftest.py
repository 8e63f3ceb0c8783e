"""What the tests against the kernel share: may they run here, and where."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from stranger import ETH_P_ALL, Street, street

SO_RCVBUFFORCE = 33
PROGRAMS = ("ip", "ethtool")


def obstacle() -> str | None:
    """Why there can be no namespaces here, if so."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs {', '.join(missing)}" if missing else None


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> None:
    """Skips, with the reason, where namespaces cannot be made."""
    if why := obstacle():
        pytest.skip(why)


@pytest.fixture(scope="session")
def long_street(namespaces: None) -> Iterator[Street]:
    """Namespaces are made once; what lies between them carries nothing over from test to test."""
    with street() as built:
        yield built


@pytest.fixture
def road(long_street: Street) -> Street:
    """A cable to a real Linux host, on which nothing was said yet."""
    long_street.frames.clear()
    long_street.answers.clear()
    return long_street


@pytest.fixture
def sniffed(road: Street) -> Iterator[Street]:
    """The road to a host whose kernel cannot merge buffers: somebody holds a copy of each."""
    with road.server.entered():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sniffer:
        sniffer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        sniffer.bind(("s0", ETH_P_ALL))
        road.after_visit = lambda: drain(sniffer)
        yield road
        road.after_visit = None


def drain(sniffer: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sniffer.recv(1, socket.MSG_DONTWAIT):
            pass
