"""Questions to the kernel over netlink: messages out, attributes in. No state, no threads."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_ROUTE, _GENERIC = 0, 16
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 18  # one message of a dump is at most 32 KiB
_PATIENCE = 5.0  # seconds; the kernel answers at once

Attributes = dict[int, bytes]


def dump_route(kind: int, body: bytes, fixed: int) -> list[tuple[bytes, Attributes]]:
    """All that routing netlink lists: (the fixed part, the attributes) of each message.

    Raises:
        OSError: the kernel refused.
    """
    return _ask(_ROUTE, kind, _REQUEST | _DUMP, body, fixed)


def dump_generic(family: str, command: int) -> list[Attributes]:
    """All that a command of a generic family lists.

    Raises:
        OSError: the kernel refused, or does not know the family.
    """
    name = family.encode() + b"\0"
    question = _attribute(2, name)
    found = _ask(_GENERIC, 0x10, _REQUEST, struct.pack("=BBH", 3, 1, 0) + question, 4)
    number = int.from_bytes(found[0][1][1], "little" if _little() else "big")
    body = struct.pack("=BBH", command, 1, 0)
    return [attributes for _, attributes in _ask(_GENERIC, number, _REQUEST | _DUMP, body, 4)]


def parse_attributes(data: bytes) -> Attributes:
    """Type -> value; of a type that comes several times, the last."""
    return dict(all_attributes(data))


def all_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every attribute in order."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def number(attributes: Attributes, kind: int) -> int:
    """An attribute as a number of the host's byte order; 0 when it is not there."""
    return int.from_bytes(attributes.get(kind, b""), "little" if _little() else "big")


def text(attributes: Attributes, kind: int) -> str:
    """An attribute as text; "" when it is not there."""
    return attributes.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _little() -> bool:
    return struct.pack("=H", 1) == b"\1\0"


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _ask(
    protocol: int, kind: int, flags: int, body: bytes, fixed: int
) -> list[tuple[bytes, Attributes]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as asked:
        asked.settimeout(_PATIENCE)
        asked.bind((0, 0))
        asked.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        found: list[tuple[bytes, Attributes]] = []
        while _take(asked.recv(_BUFFER), fixed, found) and flags & _DUMP:
            pass
        return found


def _take(data: bytes, fixed: int, found: list[tuple[bytes, Attributes]]) -> bool:
    """One datagram of answers into the list; False when it was the last."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + length]
        if kind == _DONE or length < _HEADER.size:
            return False
        if kind == _ERROR:
            code = -struct.unpack_from("=i", body)[0]
            raise OSError(code, f"netlink refused with error {code}")
        found.append((body[:fixed], parse_attributes(body[fixed:])))
        at += (length + 3) & ~3
    return True
