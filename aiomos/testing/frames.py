"""Frames made by hand: Ethernet, VLAN, IPv4, IPv6, TCP, UDP; lengths and checksums right.

Each builder takes the payload of its layer and returns the whole, so that they nest, and every
field that a test may want wrong can be given:

>>> from aiomos.testing import frames
>>> segment = frames.tcp(40000, 80, seq=1, flags=frames.SYN, options=frames.mss(1460))
>>> frame = frames.ethernet(frames.ipv4(segment), vlan=[7])
>>> len(frame)
62
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
TCP, UDP, ICMP = 6, 17, 1  # protocol numbers
IP4, IP6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8  # EtherTypes
#: Two locally administered addresses: the default sender's and receiver's.
MAC = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))

#: IPv4 flags, in the 16-bit field that ends with the offset.
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000


def address(text: str) -> bytes:
    """An IPv4 or IPv6 address as it stands in a header."""
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# ---- link layer --------------------------------------------------------------------------------


def tags(kind: int, vlan: Iterable[int | tuple[int, int]]) -> bytes:
    """EtherType field behind VLAN tags; a tag is a TCI, or (tag protocol, TCI)."""
    out = b""
    for tag in vlan:
        protocol, tci = tag if isinstance(tag, tuple) else (VLAN, tag)
        out += struct.pack(">HH", protocol, tci)
    return out + struct.pack(">H", kind)


def ethernet(
    payload: bytes,
    kind: int = IP4,
    *,
    vlan: Iterable[int | tuple[int, int]] = (),
    src: bytes = MAC[0],
    dst: bytes = MAC[1],
) -> bytes:
    """An Ethernet frame; ``vlan`` are its tags, outermost first."""
    return dst + src + tags(kind, vlan) + payload


# ---- network layer -----------------------------------------------------------------------------


def ipv4(
    payload: bytes,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    protocol: int = TCP,
    *,
    options: bytes = b"",
    ident: int = 1,
    fragment: int = DONT_FRAGMENT,
    total: int | None = None,
    ttl: int = 64,
) -> bytes:
    """``fragment`` is the whole 16-bit field (flags and offset); ``total`` overrides the length."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload) if total is None else total
    head = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x40 | words, 0, length, ident, fragment, ttl, protocol, 0),
        *(address(src), address(dst)),
    )
    head += options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def extension(kind: int, body: bytes = b"\0" * 6) -> tuple[int, bytes]:
    """An IPv6 extension header without its first byte; the body is 6 bytes, or 6 + 8n."""
    return kind, bytes([(len(body) + 2) // 8 - 1]) + body


def fragment6(offset: int = 0, more: bool = False, ident: int = 7) -> tuple[int, bytes]:
    """An IPv6 fragment header; the offset in units of 8 bytes."""
    return 44, struct.pack(">BHI", 0, offset << 3 | more, ident)


def ipv6(
    payload: bytes,
    src: str = "fd00::1",
    dst: str = "fd00::2",
    protocol: int = TCP,
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    length: int | None = None,
    ttl: int = 64,
) -> bytes:
    """``extensions`` stand before the payload; ``length`` overrides the payload length."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(
        bytes([following]) + body
        for (_, body), following in zip(extensions, kinds[1:], strict=True)
    )
    size = len(chain) + len(payload) if length is None else length
    head = struct.pack(">IHBB", 6 << 28, size, kinds[0], ttl)
    return head + address(src) + address(dst) + chain + payload


def _pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    ends = address(src) + address(dst)
    if len(ends) == 8:
        return ends + struct.pack(">BBH", 0, protocol, length)
    return ends + struct.pack(">II", length, protocol)


# ---- transport layer ---------------------------------------------------------------------------


def mss(value: int = 1460) -> bytes:
    """The option of a SYN: the largest segment its sender takes."""
    return struct.pack(">BBH", 2, 4, value)


def window_scale(shift: int = 7) -> bytes:
    """The option of a SYN: by how many bits its sender's windows are shifted (RFC 7323)."""
    return struct.pack(">BBB", 3, 3, shift)


def sack_permitted() -> bytes:
    """The option of a SYN: selective acknowledgements may be sent (RFC 2018)."""
    return b"\x04\x02"


def sack(*blocks: tuple[int, int]) -> bytes:
    """Selective acknowledgement: sequence numbers of each block's first byte and its end."""
    body = b"".join(struct.pack(">II", *block) for block in blocks)
    return bytes([5, 2 + len(body)]) + body


def timestamp(value: int, echo: int = 0) -> bytes:
    """The timestamp option (RFC 7323)."""
    return struct.pack(">BBII", 8, 10, value & 0xFFFFFFFF, echo & 0xFFFFFFFF)


def padded(options: bytes) -> bytes:
    """Options to a multiple of four bytes, by no-operations."""
    return options + b"\x01" * (-len(options) % 4)


def tcp(
    sport: int = 40000,
    dport: int = 80,
    seq: int = 0,
    ack: int = 0,
    flags: int = ACK,
    payload: bytes = b"",
    *,
    window: int = 65535,
    options: bytes = b"",
    ends: tuple[str, str] = ("10.0.0.1", "10.0.0.2"),
    offset: int | None = None,
    urgent: int = 0,
    check: int | None = None,
) -> bytes:
    """A segment. ``ends`` are the addresses, for the checksum, which ``check`` overrides.

    ``offset`` overrides the header length, in 4-byte words.
    """
    options = padded(options)
    words = 5 + len(options) // 4 if offset is None else offset
    head = struct.pack(
        ">HHIIBBHHH",
        *(sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, words << 4, flags, window, 0, urgent),
    )
    body = head + options + payload
    found = checksum(_pseudo(*ends, TCP, len(body)) + body) if check is None else check
    return body[:16] + struct.pack(">H", found) + body[18:]


def udp(
    sport: int = 5000,
    dport: int = 53,
    payload: bytes = b"",
    *,
    ends: tuple[str, str] = ("10.0.0.1", "10.0.0.2"),
    length: int | None = None,
    check: int | None = None,
) -> bytes:
    """A datagram; ``length`` and ``check`` (0: none) override what is right."""
    size = 8 + len(payload) if length is None else length
    body = struct.pack(">HHHH", sport, dport, size, 0) + payload
    found = checksum(_pseudo(*ends, UDP, len(body)) + body) or 0xFFFF if check is None else check
    return body[:6] + struct.pack(">H", found) + payload


# ---- the layers together -----------------------------------------------------------------------


def packets(
    payload: bytes,
    ends: tuple[str, str],
    protocol: int,
    *,
    fragment: int = 0,
    ident: int = 1,
    ttl: int = 64,
) -> list[bytes]:
    """IP packets around a transport payload: one, or fragments of so many bytes of payload each.

    IPv6 if the addresses are. Fragments but the last hold a multiple of 8 bytes.

    Raises:
        ValueError: ``fragment`` is less than 8.
    """
    if not fragment or fragment >= len(payload):
        return [_packet(payload, ends, protocol, ident, ttl)]
    size = fragment & ~7
    if size <= 0:
        raise ValueError(f"fragment={fragment}: a fragment holds at least 8 bytes")
    starts = range(0, len(payload), size)
    return [
        _fragment(payload[at : at + size], at, at != starts[-1], ends, protocol, ident, ttl)
        for at in starts
    ]


def _packet(payload: bytes, ends: tuple[str, str], protocol: int, ident: int, ttl: int) -> bytes:
    if ":" in ends[0]:
        return ipv6(payload, *ends, protocol, ttl=ttl)
    return ipv4(payload, *ends, protocol, ident=ident, ttl=ttl)


def _fragment(
    piece: bytes,
    at: int,
    more: bool,
    ends: tuple[str, str],
    protocol: int,
    ident: int,
    ttl: int,
) -> bytes:
    if ":" in ends[0]:
        head = fragment6(at // 8, more, ident)
        return ipv6(piece, *ends, protocol, extensions=[head], ttl=ttl)
    field = at // 8 | (MORE_FRAGMENTS if more else 0)
    return ipv4(piece, *ends, protocol, fragment=field, ident=ident, ttl=ttl)


def framed(packet: bytes, vlan: Iterable[int | tuple[int, int]] = ()) -> bytes:
    """An Ethernet frame around an IP packet of either version."""
    return ethernet(packet, IP6 if packet[0] >> 4 == 6 else IP4, vlan=vlan)
