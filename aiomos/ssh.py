"""SSH on the streams of a flow: banners, key exchange offers, HASSH.

>>> import aiomos
>>> app = aiomos.App()
>>> @app.tcp("port 22")
... async def log(flow: aiomos.Flow) -> None:
...     client = await aiomos.ssh.banner(flow.client)
...     server = await aiomos.ssh.banner(flow.server)
...     print(client.software, server.software)

Both functions look at the beginning of a side and consume nothing. Needs no other package.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import NoReturn

import attrs

from aiomos._endpoint import Endpoint
from aiomos._engine.errors import ProtocolError
from aiomos._streaming import fresh, the_end

__all__ = ["Banner", "KexInit", "banner", "kex_init"]

#: Longest banner, line end included (RFC 4253 section 4.2).
LINE_LIMIT = 255
#: Most bytes of lines that a server sends before its banner; what OpenSSH's client takes.
PREFACE_LIMIT = 8192
#: Longest packet before keys are exchanged; RFC 4253 section 6.1 asks for no more.
PACKET_LIMIT = 35000

_KEXINIT = 20


@attrs.frozen
class Banner:
    """Identification string of one end (RFC 4253 section 4.2).

    Attributes:
        protocol: ``"2.0"``; ``"1.99"`` of a server that speaks version 1 too.
        software: ``"OpenSSH_9.2p1"``, for example.
        comments: what stands behind the first space; "" if nothing does.
        preface: lines that a server sent before it.
        offset: 64-bit stream offset of its first byte.
        length: bytes, line end included.
    """

    protocol: str
    software: str
    comments: str
    preface: tuple[str, ...]
    offset: int
    length: int


@attrs.frozen
class KexInit:
    """Algorithms that one end offers (RFC 4253 section 7.1), in the order of its preference.

    ``to_server`` and ``to_client`` say for which direction.
    """

    kex: tuple[str, ...]
    host_keys: tuple[str, ...]
    ciphers_to_server: tuple[str, ...]
    ciphers_to_client: tuple[str, ...]
    macs_to_server: tuple[str, ...]
    macs_to_client: tuple[str, ...]
    compression_to_server: tuple[str, ...]
    compression_to_client: tuple[str, ...]
    languages_to_server: tuple[str, ...]
    languages_to_client: tuple[str, ...]

    @property
    def hassh(self) -> str:
        """HASSH of a client (Salesforce, 2018), 32 hexadecimal digits."""
        return _md5(
            self.kex, self.ciphers_to_server, self.macs_to_server, self.compression_to_server
        )

    @property
    def hassh_server(self) -> str:
        """HASSH of a server, 32 hexadecimal digits."""
        return _md5(
            self.kex, self.ciphers_to_client, self.macs_to_client, self.compression_to_client
        )


async def banner(end: Endpoint) -> Banner:
    """The banner that a side begins with; nothing is consumed.

    Args:
        end: ``flow.client`` or ``flow.server``, nothing of it read yet.

    Raises:
        ProtocolError: what comes is no SSH, as soon as that is certain; or a line is too long.
        asyncio.IncompleteReadError: the end, or a gap, came first.
    """
    at = end.offset
    preface: list[str] = []
    while True:
        line = await _line(end, at)
        if line.startswith(b"SSH-"):
            return _parse(line, tuple(preface), at)
        preface.append(_text(line.rstrip(b"\r\n")))
        at += len(line)
        if at - end.offset > PREFACE_LIMIT:
            _wrong(end.offset, f"no banner in {PREFACE_LIMIT} bytes")


async def kex_init(end: Endpoint) -> KexInit:
    """The algorithms that a side offers, behind its banner; nothing is consumed.

    Args:
        end: ``flow.client`` or ``flow.server``, nothing of it read yet.

    Raises:
        ProtocolError: what comes is no SSH, or no KEXINIT packet.
        asyncio.IncompleteReadError: the end, or a gap, came first.
    """
    greeting = await banner(end)
    at = greeting.offset + greeting.length
    length = int.from_bytes(await _look(end, at, 4), "big")
    if not 2 + 16 <= length <= PACKET_LIMIT:
        _wrong(at, f"a first packet of {length} bytes")
    packet = await _look(end, at + 4, length)
    if packet[1] != _KEXINIT:
        _wrong(at, f"message {packet[1]} where KEXINIT is expected")
    payload = packet[1 : max(len(packet) - packet[0], 1)]
    try:
        return KexInit(*_name_lists(payload[17:], 10))
    except ValueError:
        _wrong(at, "KEXINIT ends before its last list")


def _parse(line: bytes, preface: tuple[str, ...], offset: int) -> Banner:
    name, _, comments = _text(line.rstrip(b"\r\n")).partition(" ")
    parts = name.split("-", 2)
    if len(parts) < 3:
        _wrong(offset, "a banner without a software version")
    return Banner(parts[1], parts[2], comments, preface, offset, len(line))


async def _line(end: Endpoint, start: int) -> bytes:
    """The line that begins at a stream offset, with its end."""
    line = b""
    while b"\n" not in line:
        data = await fresh(end, start + len(line))
        if not data:
            if not line and start == end.offset and end.at_eof():
                await the_end(end)
            raise asyncio.IncompleteReadError(line, None)
        line += data[: LINE_LIMIT + 1]
        if b"\0" in line.partition(b"\n")[0]:
            _wrong(start, "a zero byte in a line before the first packet")
        if line.find(b"\n", 0, LINE_LIMIT) < 0 and len(line) >= LINE_LIMIT:
            _wrong(start, f"a line of over {LINE_LIMIT} bytes")
    return line[: line.index(b"\n") + 1]


async def _look(end: Endpoint, at: int, n: int) -> bytes:
    data = await end.peek(n, at)
    if len(data) < n:
        raise asyncio.IncompleteReadError(data, n)
    return data


def _name_lists(data: bytes, count: int) -> list[tuple[str, ...]]:
    found = []
    for _ in range(count):
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            raise ValueError
        names, data = data[4:end], data[end:]
        found.append(tuple(_text(names).split(",")) if names else ())
    return found


def _md5(*lists: tuple[str, ...]) -> str:
    text = ";".join(",".join(names) for names in lists)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _wrong(offset: int, reason: str) -> NoReturn:
    raise ProtocolError("ssh", offset, reason)
