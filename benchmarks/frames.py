"""Ethernet/IPv4/TCP frames with correct checksums, packed quickly.

Checksums use that 65536 is 1 modulo 65535: the one's complement sum of any run of 16-bit words
equals the run read as one big integer, modulo 65535, so a field of 32 bits is added as it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

FIN, SYN, PSH, ACK = 0x01, 0x02, 0x08, 0x10
MSS_STAMPED = 1448  # bytes a segment carries on Ethernet when time stamps take 12 of 1460

_HEAD = struct.Struct(">14sBBHHHBBHIIIIIHHHH")
_STAMP = struct.Struct(">III")
_IP_BYTES = _TCP_BYTES = 20
_TCP, _TTL, _DONT_FRAGMENT = 6, 64, 0x4000
_IP_CONSTANTS = 0x4500 + _DONT_FRAGMENT + (_TTL << 8 | _TCP)
_NOP_NOP_STAMP = 0x0101080A
_SCALE = 7
_WINDOW, _SYN_WINDOW = 64128 >> _SCALE, 64240
_MSS_SACK = bytes.fromhex("020405b4 0402")
_NOP_SCALE = bytes((1, 3, 3, _SCALE))


def ones_sum(data: bytes) -> int:
    """One's complement sum of ``data``, modulo 65535; a last odd byte counts as a high one."""
    padded = data + b"\0" if len(data) % 2 else data
    return int.from_bytes(padded, "big") % 65535


def checksum(total: int) -> int:
    """The 16 bits that make a header with the sum ``total`` come out right."""
    return 65535 - total % 65535


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes to send, with their checksum worked out once."""

    data: bytes
    sum: int

    @classmethod
    def of(cls, data: bytes) -> Payload:
        return cls(data, ones_sum(data))


_EMPTY = Payload(b"", 0)


class Side:
    """One end of a connection: packs what it sends and acknowledges all its peer has sent."""

    __slots__ = ("_ethernet", "_ident", "_ports", "_source", "_target", "is_client", "peer", "seq")

    def __init__(
        self, source: tuple[int, int], target: tuple[int, int], seq: int, is_client: bool
    ) -> None:
        self.is_client = is_client
        self.peer = self
        self.seq = seq
        self._ident = seq & 0xFFFF
        self._source, self._target = source[0], target[0]
        self._ports = source[1] << 16 | target[1]
        macs = bytes.fromhex("02000000000b"), bytes.fromhex("02000000000a")
        self._ethernet = b"".join(macs if is_client else reversed(macs)) + b"\x08\x00"

    def _advance(self, flags: int, size: int) -> int:
        """Count ``size`` bytes and the flags as sent; return the sequence number they began at."""
        seq = self.seq
        self.seq = (seq + size + (flags & FIN) + (flags >> 1 & 1)) & 0xFFFFFFFF
        self._ident = (self._ident + 1) & 0xFFFF
        return seq

    def send(self, flags: int, payload: Payload = _EMPTY, options: bytes = b"") -> bytes:
        """A frame with the next bytes of this side; ``options`` is a multiple of four bytes."""
        size = len(payload.data)
        seq = self._advance(flags, size)
        ack = self.peer.seq if flags & ACK else 0
        window = _SYN_WINDOW if flags & SYN else _WINDOW
        segment = _TCP_BYTES + len(options) + size
        word = (segment - size) << 10 | flags
        addresses = self._source + self._target
        tcp_sum = addresses + _TCP + segment + self._ports + seq + ack + word + window
        tcp_sum += payload.sum + ones_sum(options)
        length = _IP_BYTES + segment
        head = _HEAD.pack(
            self._ethernet, 0x45, 0, length, self._ident, _DONT_FRAGMENT, _TTL, _TCP,
            checksum(addresses + _IP_CONSTANTS + length + self._ident),
            self._source, self._target, self._ports, seq, ack, word, window, checksum(tcp_sum), 0,
        )  # fmt: skip
        return head + options + payload.data

    def send_stamped(self, flags: int, now: int, payload: Payload = _EMPTY) -> bytes:
        """The same with time stamps, as Linux sends them; ``now`` in milliseconds."""
        return self.send(flags, payload, _STAMP.pack(_NOP_NOP_STAMP, now, now))

    def send_syn(self, flags: int, now: int | None) -> bytes:
        """A SYN or SYN-ACK with MSS, SACK, window scale, and time stamps if ``now`` is given."""
        stamp = b"\1\1"
        if now is not None:
            stamp = struct.pack(">BBII", 8, 10, now, now if flags & ACK else 0)
        return self.send(flags, options=_MSS_SACK + stamp + _NOP_SCALE)


def connect(
    client: tuple[int, int], server: tuple[int, int], seqs: tuple[int, int]
) -> tuple[Side, Side]:
    """The two sides of a connection between (IPv4 address, port) pairs, nothing sent yet."""
    one, other = Side(client, server, seqs[0], True), Side(server, client, seqs[1], False)
    one.peer, other.peer = other, one
    return one, other
