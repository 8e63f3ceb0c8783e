"""Reading captures back, down to TCP segments: what our captures hold, and no more."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ETHERNET = 1
LINUX_SLL2 = 276
LINK_TYPES = {ETHERNET: "EN10MB", LINUX_SLL2: "LINUX_SLL2"}
MICRO = 0xA1B2C3D4
NANO = 0xA1B23C4D
SECTION, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
FIN, SYN, RST = 1, 2, 4

Key = tuple[str, int, str, int]


def turned(key: Key) -> Key:
    """The key of the other direction."""
    return key[2], key[3], key[0], key[1]


class Frame(NamedTuple):
    """One captured frame."""

    link_type: int
    time_ns: int
    wire_length: int
    data: bytes


@dataclass(frozen=True)
class Segment:
    """One TCP segment, with the key of its direction."""

    key: Key
    sequence: int
    flags: int
    payload: bytes


def contents(path: Path) -> bytes:
    """The bytes of a capture, decompressed."""
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


def frames(path: Path) -> Iterator[Frame]:
    """The frames of a capture in file order."""
    data = contents(path)
    (magic,) = struct.unpack_from("<I", data)
    return _pcapng(data) if magic == SECTION else _pcap(data)


def _pcap(data: bytes) -> Iterator[Frame]:
    magic, link_type = struct.unpack_from("<I16xI", data)
    unit = {MICRO: 1000, NANO: 1}[magic]
    at = 24
    while at < len(data):
        seconds, fraction, length, wire_length = struct.unpack_from("<4I", data, at)
        at += 16
        time_ns = seconds * 10**9 + fraction * unit
        yield Frame(link_type, time_ns, wire_length, data[at : at + length])
        at += length


def _pcapng(data: bytes) -> Iterator[Frame]:
    """Blocks as `write_pcapng` makes them: one interface, nanoseconds."""
    at = link_type = 0
    while at < len(data):
        kind, size = struct.unpack_from("<2I", data, at)
        if kind == INTERFACE:
            (link_type,) = struct.unpack_from("<H", data, at + 8)
        elif kind == ENHANCED_PACKET:
            high, low, length, wire_length = struct.unpack_from("<4I", data, at + 12)
            start = at + 28
            yield Frame(link_type, high << 32 | low, wire_length, data[start : start + length])
        at += size


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def write_pcapng(source: Path, target: Path) -> None:
    """Rewrite a pcap as a pcapng of one interface with nanosecond stamps."""
    captured = list(frames(source))
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    nanoseconds = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    interface = struct.pack("<HHI", captured[0].link_type, 0, 0) + nanoseconds
    blocks = [_block(SECTION, section), _block(INTERFACE, interface)]
    for frame in captured:
        stamp = (frame.time_ns >> 32, frame.time_ns & 0xFFFFFFFF)
        head = struct.pack("<5I", 0, *stamp, len(frame.data), frame.wire_length)
        blocks.append(_block(ENHANCED_PACKET, head + frame.data))
    target.write_bytes(b"".join(blocks))


def segments(path: Path) -> Iterator[Segment]:
    """The TCP segments of a capture in file order."""
    for frame in frames(path):
        if frame.link_type == ETHERNET:
            (kind,) = struct.unpack_from("!H", frame.data, 12)
            packet = frame.data[14:]
        else:
            (kind,) = struct.unpack_from("!H", frame.data)
            packet = frame.data[20:]
        if segment := _segment(kind, packet):
            yield segment


def _segment(kind: int, packet: bytes) -> Segment | None:
    if kind == 0x0800 and packet[9] == socket.IPPROTO_TCP:
        header = (packet[0] & 15) * 4
        (total,) = struct.unpack_from("!H", packet, 2)
        src = socket.inet_ntop(socket.AF_INET, packet[12:16])
        dst = socket.inet_ntop(socket.AF_INET, packet[16:20])
        return _tcp(src, dst, packet[header:total])
    if kind == 0x86DD and packet[6] == socket.IPPROTO_TCP:
        (length,) = struct.unpack_from("!H", packet, 4)
        src = socket.inet_ntop(socket.AF_INET6, packet[8:24])
        dst = socket.inet_ntop(socket.AF_INET6, packet[24:40])
        return _tcp(src, dst, packet[40 : 40 + length])
    return None


def _tcp(src: str, dst: str, data: bytes) -> Segment:
    sport, dport, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", data)
    return Segment((src, sport, dst, dport), sequence, flags, data[(offset >> 4) * 4 :])
