"""Frames for tests, packed with struct: Ethernet, VLAN, IPv4, IPv6, TCP, UDP; checksums right.

Below the builders stands `Talk`, a TCP conversation: it counts sequence numbers for both
ends, and positions in it are stream offsets (0 is the first byte after the SYN), so that a
test reads like what the two ends say.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
TCP, UDP, ICMP = 6, 17, 1
IP4, IP6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
CLIENT, SERVER = 0, 1
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START = 1_700_000_000 * SECOND
MAC = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# ---- link layers ------------------------------------------------------------


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
    return dst + src + tags(kind, vlan) + payload


def snap(payload: bytes, kind: int = IP4, oui: bytes = b"\0\0\0") -> bytes:
    """IEEE 802.3 with an 802.2 SNAP header (RFC 1042)."""
    body = b"\xaa\xaa\x03" + oui + struct.pack(">H", kind) + payload
    return MAC[1] + MAC[0] + struct.pack(">H", len(body)) + body


def cooked(payload: bytes, kind: int = IP4) -> bytes:
    """LINUX_SLL (113)."""
    return struct.pack(">HHH8sH", 0, 1, 6, MAC[0] + b"\0\0", kind) + payload


def cooked2(payload: bytes, kind: int = IP4) -> bytes:
    """LINUX_SLL2 (276)."""
    return struct.pack(">HHIHBB8s", kind, 0, 3, 1, 0, 6, MAC[0] + b"\0\0") + payload


# ---- network ----------------------------------------------------------------


def ipv4(
    payload: bytes,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    protocol: int = TCP,
    *,
    options: bytes = b"",
    ident: int = 1,
    fragment: int = 0x4000,
    total: int | None = None,
) -> bytes:
    """`fragment` is the whole 16-bit field (flags and offset); `total` overrides the length."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload) if total is None else total
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | words,
        0,
        length,
        ident,
        fragment,
        64,
        protocol,
        0,
        address(src),
        address(dst),
    )
    head += options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def extension(kind: int, body: bytes = b"\0" * 6) -> tuple[int, bytes]:
    """An IPv6 extension header without its first byte; the body is 6 bytes, or 6 + 8n."""
    return kind, bytes([(len(body) + 2) // 8 - 1]) + body


def fragment6(offset: int = 0, more: bool = False, ident: int = 7) -> tuple[int, bytes]:
    return 44, struct.pack(">BHI", 0, offset << 3 | more, ident)


def authentication(words: int = 4) -> tuple[int, bytes]:
    """AH (RFC 4302): its length counts 4-byte words, less two."""
    return 51, bytes([words - 2]) + b"\0" * (4 * words - 2)


def ipv6(
    payload: bytes,
    src: str = "fd00::1",
    dst: str = "fd00::2",
    protocol: int = TCP,
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    length: int | None = None,
) -> bytes:
    kinds = [kind for kind, _ in extensions] + [protocol]
    chain = b"".join(
        bytes([following]) + body
        for (_, body), following in zip(extensions, kinds[1:], strict=True)
    )
    size = len(chain) + len(payload) if length is None else length
    head = struct.pack(">IHBB", 6 << 28, size, kinds[0], 64)
    return head + address(src) + address(dst) + chain + payload


def _pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    ends = address(src) + address(dst)
    if len(ends) == 8:
        return ends + struct.pack(">BBH", 0, protocol, length)
    return ends + struct.pack(">II", length, protocol)


# ---- transport --------------------------------------------------------------


def mss(value: int = 1460) -> bytes:
    return struct.pack(">BBH", 2, 4, value)


def window_scale(shift: int = 7) -> bytes:
    return struct.pack(">BBB", 3, 3, shift)


def sack_permitted() -> bytes:
    return b"\x04\x02"


def timestamp(value: int, echo: int = 0) -> bytes:
    return struct.pack(">BBII", 8, 10, value & 0xFFFFFFFF, echo & 0xFFFFFFFF)


def padded(options: bytes) -> bytes:
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
) -> bytes:
    """`offset` overrides the header length, in 4-byte words."""
    options = padded(options)
    words = 5 + len(options) // 4 if offset is None else offset
    head = struct.pack(
        ">HHIIBBHHH",
        sport,
        dport,
        seq & 0xFFFFFFFF,
        ack & 0xFFFFFFFF,
        words << 4,
        flags,
        window,
        0,
        urgent,
    )
    body = head + options + payload
    found = checksum(_pseudo(*ends, TCP, len(body)) + body)
    return body[:16] + struct.pack(">H", found) + body[18:]


def udp(
    sport: int = 5000,
    dport: int = 53,
    payload: bytes = b"",
    *,
    ends: tuple[str, str] = ("10.0.0.1", "10.0.0.2"),
    length: int | None = None,
) -> bytes:
    size = 8 + len(payload) if length is None else length
    body = struct.pack(">HHHH", sport, dport, size, 0) + payload
    found = checksum(_pseudo(*ends, UDP, len(body)) + body) or 0xFFFF
    return body[:6] + struct.pack(">H", found) + payload


def frame(segment: bytes, ends: tuple[str, str], protocol: int, **link: Any) -> bytes:
    """An Ethernet frame around a transport segment; IPv6 if the addresses are."""
    if ":" in ends[0]:
        return ethernet(ipv6(segment, *ends, protocol), IP6, **link)
    return ethernet(ipv4(segment, *ends, protocol), IP4, **link)


def datagram(
    payload: bytes,
    src: tuple[str, int] = ("10.0.0.1", 5000),
    dst: tuple[str, int] = ("10.0.0.2", 53),
    **link: Any,
) -> bytes:
    ends = src[0], dst[0]
    return frame(udp(src[1], dst[1], payload, ends=ends), ends, UDP, **link)


# ---- a conversation ---------------------------------------------------------


class End:
    """What one end of a conversation has said so far."""

    def __init__(self, host: str, port: int, isn: int) -> None:
        self.host = host
        self.port = port
        self.isn = isn
        self.window = 65535
        self.sent = 0  # stream offset behind the last byte sent, FIN counted

    def number(self, offset: int) -> int:
        """Sequence number of a stream offset; the SYN stands at -1."""
        return (self.isn + 1 + offset) & 0xFFFFFFFF


class Talk:
    """Two ends of a TCP connection, whose frames go to ``sink(frame, time_ns)``.

    Every frame is one millisecond later than the one before it.
    """

    def __init__(
        self,
        sink: Callable[[bytes, int], object],
        *,
        client: tuple[str, int] = ("10.0.0.1", 40000),
        server: tuple[str, int] = ("10.0.0.2", 80),
        isn: tuple[int, int] = (1000, 500_000),
        at: int = START,
    ) -> None:
        self.sink = sink
        self.ends = End(*client, isn[0]), End(*server, isn[1])
        self.now = at
        self.step = MILLISECOND

    # -- frames --

    def segment(
        self,
        side: int,
        flags: int,
        data: bytes = b"",
        *,
        at: int | None = None,
        ack: int | None = None,
        window: int | None = None,
        options: bytes = b"",
    ) -> bytes:
        """A frame of `side`; `at` and `ack` are stream offsets of the sender and its peer."""
        snd, rcv = self.ends[side], self.ends[1 - side]
        offset = snd.sent if at is None else at
        if flags & SYN and at is None:
            offset = -1
        length = len(data) + bool(flags & FIN)
        if not flags & RST:
            snd.sent = max(snd.sent, offset + bool(flags & SYN) + length)
        hosts = snd.host, rcv.host
        body = tcp(
            snd.port,
            rcv.port,
            snd.number(offset),
            rcv.number(rcv.sent if ack is None else ack) if flags & ACK else 0,
            flags,
            data,
            window=snd.window if window is None else window,
            options=options,
            ends=hosts,
        )
        return frame(body, hosts, TCP)

    def say(self, side: int, flags: int, data: bytes = b"", **fields: Any) -> None:
        self.give(self.segment(side, flags, data, **fields))

    def give(self, raw: bytes) -> None:
        """Hands over a frame that was made before."""
        self.sink(raw, self.now)
        self.now += self.step

    # -- the usual words --

    def c(self, data: bytes = b"", flags: int = ACK, **fields: Any) -> None:
        """The client sends: data, or an acknowledgement."""
        self.say(CLIENT, flags, data, **fields)

    def s(self, data: bytes = b"", flags: int = ACK, **fields: Any) -> None:
        """The server sends."""
        self.say(SERVER, flags, data, **fields)

    def skip(self, side: int, n: int) -> None:
        """The side sends n bytes that nobody captures."""
        self.ends[side].sent += n

    def handshake(self, options: tuple[bytes, bytes] = (b"", b"")) -> None:
        self.c(flags=SYN, options=options[0])
        self.s(flags=SYN | ACK, options=options[1])
        self.c()

    def close(self, first: int = CLIENT) -> None:
        """Both ends say FIN and acknowledge the other's."""
        self.say(first, FIN | ACK)
        self.say(1 - first, FIN | ACK)
        self.say(first, ACK)

    def rest(self, seconds: float) -> None:
        """Lets time go by before the next frame."""
        self.now += round(seconds * SECOND)


def whole(items: Sequence[Any], start: int = 0) -> bool:
    """Whether bytes and gaps of a side follow each other without a seam."""
    for item in items:
        if isinstance(item, tuple) and item[0] != start:
            return False
        start += item[1] if isinstance(item, tuple) else len(item)
    return True


def merged(items: Sequence[Any]) -> list[Any]:
    """Neighbouring gaps of one cause as one: a reader that was there meets each by itself."""
    out: list[Any] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, tuple) and isinstance(last, tuple) and item[2] == last[2]:
            out[-1] = (last[0], last[1] + item[1], last[2])
        else:
            out.append(item)
    return out


def assert_idle(driver: Any) -> None:
    """Ends everything and lets it linger out: then nothing may be held any more."""
    driver.close_all()
    driver.forget()
    driver.tick(round(driver.core.now * SECOND) + 2 * 3600 * SECOND)
    held = driver.usage()
    names = ("flows", "flow_entries", "timers", "blocks", "buffer_bytes")
    assert {name: held[name] for name in names} == dict.fromkeys(names, 0)
    for log in driver.flows:
        for side in (CLIENT, SERVER):
            items = log.items[side]
            if items and log.start:
                first = items[0][0] if isinstance(items[0], tuple) else log.start[side]
                assert whole(items, min(first, log.start[side]))
