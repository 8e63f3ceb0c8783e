"""Encapsulations for tests, packed with struct: each takes what goes in and gives what carries it.

in_ip() and in_udp() give IP packets; the others what goes behind the header that names them.
"""

from __future__ import annotations

import struct

from craft import IP4, IP6, MAC, UDP, ipv4, ipv6, udp

OUTER = ("192.0.2.1", "192.0.2.2")
OUTER6 = ("2001:db8::1", "2001:db8::2")
GRE, IPIP, SIX, ETHERIP, MPLS_IP, AH = 47, 4, 41, 97, 137, 51
MPLS, PPPOE, PBB, CMD, BRIDGED = 0x8847, 0x8864, 0x88E7, 0x8909, 0x6558


def in_ip(payload: bytes, protocol: int, ends: tuple[str, str] = OUTER) -> bytes:
    """An IP packet of this protocol between the tunnel's ends."""
    if ":" in ends[0]:
        return ipv6(payload, *ends, protocol)
    return ipv4(payload, *ends, protocol)


def in_udp(payload: bytes, dport: int, sport: int = 54321, ends: tuple[str, str] = OUTER) -> bytes:
    return in_ip(udp(sport, dport, payload, ends=ends), UDP, ends)


def kind_of(packet: bytes) -> int:
    """EtherType of an IP packet."""
    return IP6 if packet[0] >> 4 == 6 else IP4


# ---- on Ethernet ------------------------------------------------------------


def mpls(payload: bytes, *labels: int, word: bytes = b"") -> bytes:
    """A label stack, top first, its payload behind a control word if there is one."""
    entries = [label << 12 | 64 for label in labels]
    entries[-1] |= 0x100
    return b"".join(struct.pack(">I", entry) for entry in entries) + word + payload


def ppp(packet: bytes, *, address: bool = False, short: bool = False) -> bytes:
    protocol = 0x57 if packet[0] >> 4 == 6 else 0x21
    head = b"\xff\x03" if address else b""
    return head + struct.pack(">B" if short else ">H", protocol) + packet


def pppoe(payload: bytes, session: int = 7, *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">BBHH", 0x11, 0, session, size) + payload


def pbb(frame: bytes, service: int = 7) -> bytes:
    return struct.pack(">I", service) + frame


def metadata(packet: bytes, *, words: int = 1) -> bytes:
    return struct.pack(">BB", 1, words) + b"\0\1\0\x09" * words + struct.pack(
        ">H", kind_of(packet)
    ) + packet  # fmt: skip


# ---- in IP ------------------------------------------------------------------


def gre(
    payload: bytes,
    kind: int = IP4,
    *,
    checksum: bool = False,
    key: int | None = None,
    sequence: int | None = None,
    routes: bytes = b"",
) -> bytes:
    flags = (
        (0x8000 if checksum else 0)
        | (0x4000 if routes else 0)
        | (0 if key is None else 0x2000)
        | (0 if sequence is None else 0x1000)
    )
    head = struct.pack(">HH", flags, kind)
    if checksum or routes:
        head += bytes(4)
    for field in (key, sequence):
        if field is not None:
            head += struct.pack(">I", field)
    return head + routes + payload


def erspan2(frame: bytes, session: int = 7) -> bytes:
    return gre(struct.pack(">HHI", 0x1000, session, 0) + frame, 0x88BE, sequence=1)


def erspan3(frame: bytes, session: int = 7, *, platform: bool = False) -> bytes:
    head = struct.pack(">HHIHH", 0x2000, session, 0, 0, 1 if platform else 0)
    return gre(head + (bytes(8) if platform else b"") + frame, 0x22EB, sequence=1)


def pptp(payload: bytes, call: int = 7, *, ack: bool = False) -> bytes:
    flags = 0x3081 if ack else 0x3001
    head = struct.pack(">HHHHI", flags, 0x880B, len(payload), call, 1)
    return head + (bytes(4) if ack else b"") + payload


def eoip(frame: bytes, tunnel: int = 7) -> bytes:
    return struct.pack(">HHH", 0x2001, 0x6400, len(frame)) + struct.pack("<H", tunnel) + frame


def etherip(frame: bytes) -> bytes:
    return b"\x30\0" + frame


# ---- in UDP -----------------------------------------------------------------


def vxlan(frame: bytes, network: int = 42, *, flags: int = 0x08, following: int = 0) -> bytes:
    return struct.pack(">BxxBI", flags, following, network << 8) + frame


def geneve(
    payload: bytes, network: int = 42, kind: int = BRIDGED, *, options: bytes = b""
) -> bytes:
    return struct.pack(">BBHI", len(options) // 4, 0, kind, network << 8) + options + payload


def gtpu(
    packet: bytes, tunnel: int = 42, *, sequence: bool = False, extensions: tuple[bytes, ...] = ()
) -> bytes:
    """An extension is its type and a body of 2 + 4n bytes."""
    flags = 0x30 | (2 if sequence else 0) | (4 if extensions else 0)
    more = b""
    if flags & 7:
        more = bytes(3)
        for extension in extensions:
            more += extension[:1] + bytes([len(extension[1:]) // 4 + 1]) + extension[1:]
        more += b"\0"
    return struct.pack(">BBHI", flags, 0xFF, len(more) + len(packet), tunnel) + more + packet


def teredo(packet: bytes, *, authenticated: bytes | None = None, origin: bool = False) -> bytes:
    head = b""
    if authenticated is not None:
        head = struct.pack(">HBB", 1, 0, len(authenticated)) + authenticated + bytes(9)
    return head + (bytes(2) + b"\x12\x34\xff\xff\xff\xff" if origin else b"") + packet


def l2tp(
    payload: bytes,
    tunnel: int = 1,
    session: int = 2,
    *,
    length: bool = False,
    sequence: bool = False,
    pad: int | None = None,
) -> bytes:
    flags = (
        2 | (0x4000 if length else 0) | (0x0800 if sequence else 0) | (0 if pad is None else 0x0200)
    )
    tail = struct.pack(">HH", tunnel, session) + (bytes(4) if sequence else b"")
    if pad is not None:
        tail += struct.pack(">H", pad) + b"\xaa" * pad
    size = 4 + len(tail) + len(payload)
    return struct.pack(">H", flags) + (struct.pack(">H", size) if length else b"") + tail + payload


# ---- 802.11 -----------------------------------------------------------------


def llc(packet: bytes) -> bytes:
    return b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", kind_of(packet)) + packet


def wifi(
    body: bytes,
    *,
    control: int = 0x0801,
    number: int = 0,
    qos: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """`control` is the frame control field as its two bytes read; the rest follows from it."""
    if qos is not None:
        control |= 0x8000
    head = struct.pack(">H", control) + bytes(2) + MAC[0] * 3 + struct.pack("<H", number)
    if control & 3 == 3:
        head += MAC[1]
    if qos is not None:
        head += bytes([qos, 0]) + (bytes(4) if control & 0x80 else b"")
    return head + tail + body


def radiotap(
    frame: bytes, *, flags: int | None = None, clock: bool = False, words: int = 1
) -> bytes:
    present = (1 if clock else 0) | (0 if flags is None else 2)
    bitmap = [present | (1 << 31 if words > 1 else 0), *[1 << 31] * (words - 2)]
    bitmap += [0] * (words > 1)
    head = struct.pack(f"<{words}I", *bitmap)
    if clock:
        head += bytes(-(4 + len(head)) % 8) + bytes(8)
    if flags is not None:
        head += bytes([flags])
    return struct.pack("<BBH", 0, 0, 4 + len(head)) + head + frame
