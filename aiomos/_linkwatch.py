"""Says when a kernel interface is down, goes down, and is up again, as the kernel tells it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator

log = logging.getLogger("aiomos")

_SIOCGIFFLAGS = 0x8913
_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP: set up; IFF_RUNNING: with a carrier
_LINK_CHANGES, _NEW_LINK = 1, 16  # RTMGRP_LINK, RTM_NEWLINK
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_BUFFER = 1 << 16


@contextlib.asynccontextmanager
async def link_reported(interface: str) -> AsyncIterator[None]:
    """Logs what becomes of an interface's link, while the body runs on the running loop.

    Nothing is said of "any", nor where the kernel does not answer.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        try:
            index = socket.if_nametoindex(interface)
            told = stack.enter_context(_changes())
            up = _is_up(interface)
        except OSError:
            yield
            return
        if not up:
            log.warning("%s is down: frames come when it is up", interface)

        def changed() -> None:
            nonlocal up
            for now in _states(told, index):
                if now != up:
                    up = now
                    what = "up again" if up else "down: the run goes on when it is up again"
                    log.warning("%s is %s", interface, what)

        loop.add_reader(told, changed)
        stack.callback(loop.remove_reader, told)
        yield


def _changes() -> socket.socket:
    """A socket on which the kernel tells of links."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    told = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        told.bind((0, _LINK_CHANGES))
    except OSError:
        told.close()
        raise
    return told


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack("16sh22x", interface.encode(), 0)
        (flags,) = struct.unpack_from("=H", fcntl.ioctl(asked, _SIOCGIFFLAGS, request), 16)
    return bool(flags & _UP_AND_RUNNING == _UP_AND_RUNNING)


def _states(told: socket.socket, index: int) -> Iterator[bool]:
    """Whether the link was up, each time that the kernel told of it."""
    with contextlib.suppress(OSError):  # no more of them, or too many: the next one tells enough
        while data := told.recv(_BUFFER):
            at = 0
            while at + _HEADER.size + _LINK.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                family, _, which, flags, _ = _LINK.unpack_from(data, at + _HEADER.size)
                if kind == _NEW_LINK and family == socket.AF_UNSPEC and which == index:
                    yield flags & _UP_AND_RUNNING == _UP_AND_RUNNING
                at += max((length + 3) & ~3, _HEADER.size)
