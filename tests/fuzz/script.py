"""Writes fuzz scripts (aiomos/_engine/_fuzzframes.pxd): one method an instruction."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag


class Head(IntFlag):
    PICKUP = 1
    VLAN_IN_KEY = 2
    LITTLE_MEMORY = 4
    FEW_FLOWS = 8
    TWICE = 16
    NO_EVENTS = 32
    READ_LATE = 64
    NO_HANDLERS = 128


class Op(IntEnum):
    SEGMENT = 0
    OPEN = 1
    RUN = 2
    WAIT = 3
    RAW = 4
    IP = 5
    HOLD = 6
    FRAGMENT = 7
    DATAGRAM = 8
    READ = 9
    BURST = 10
    CLOSE = 11
    LINK = 12
    OPTIONS = 13
    SALT = 14
    ICMP = 15


class Link(IntEnum):
    ETHERNET = 0
    VLAN = 1
    QINQ = 2
    RAW = 3
    COOKED = 4
    COOKED2 = 5
    LOOPBACK = 6
    RAW_BY_VERSION = 7
    IP_IN_IP = 8
    GRE = 9
    VXLAN = 10
    MPLS = 11
    PPPOE = 12
    GTP = 13
    GENEVE = 14
    IP6_OUTSIDE = 15


#: Names of the sixteen flag combinations that a segment can name.
FLAGS = ["A", "AP", "A", "S", "SA", "FA", "R", "RA", "UA", "F", "-", "SF", "AFP", "RF", "SR", "P"]
#: Initial sequence numbers that OPEN can name.
NUMBERS = (0, 1, 0xFFFFFFFF, 0xFFFFFFF5, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 1000)
UNITS = (1, 8, 536, 1 << 24)
LINK_TYPES = (
    1,
    101,
    113,
    276,
    0,
    108,
    228,
    229,
    12,
    14,
    9,
    105,
    127,
    192,
    50,
    104,
    166,
    51,
    10,
    163,
    119,
    204,
    109,
    129,
    147,
    7,
    6,
    144,
    149,
    189,
    220,
    265,
)
UP, DOWN, SCATTERED, TWICE = range(4)
#: What `later` can be: 1 ms, nothing, back by 1 s, 150 ms.
SOON, SAME, BACK, LATER = range(4)


class Script:
    """A script under construction; `who` is a pair 0..7, `side` who of the two speaks."""

    def __init__(
        self,
        head: Head = Head.PICKUP,
        *,
        burst: int = 64,
        unread: int = 0,
        start: int = 1,
        memory: int = 0,
        more: bytes = b"",
    ) -> None:
        first = bytes([head, (burst - 1) | unread << 6, start | memory << 2])
        self.data = first + more.ljust(5, b"\0")[:5]

    def _add(
        self,
        op: Op,
        who: int = 0,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        d: int = 0,
        tail: bytes = b"",
    ) -> Script:
        self.data += struct.pack("<BBBBHH", op, who & 255, a & 255, b & 255, c, d) + tail
        return self

    def open(
        self,
        pair: int = 0,
        *,
        numbers: tuple[int, int] = (7, 7),
        side: int = 0,
        without: str = "",
        syn_data: int = 0,
        keep: bool = False,
    ) -> Script:
        """A handshake; numbers index NUMBERS; `without` names what is not captured: S, SA, A."""
        skip = sum({"S": 1, "SA": 2, "A": 4}[word] for word in without.split())
        return self._add(
            Op.OPEN, pair | side << 3, skip | keep << 3, numbers[0] | numbers[1] << 5, syn_data
        )

    def segment(
        self,
        side: int,
        length: int = 0,
        *,
        pair: int = 0,
        flags: str = "A",
        at: int = 0,
        ack: int = 0,
        window: int = 0,
        unit: int = 1,
        later: int = SOON,
        bad_sum: bool = False,
    ) -> Script:
        """`at` and `ack` count from where each end stands, in units."""
        who = pair | side << 3 | later << 4 | bad_sum << 6
        units = UNITS.index(unit)
        d = (ack & 255) | window << 8 | (units & 3) << 12
        return self._add(Op.SEGMENT, who, FLAGS.index(flags), at, length, d)

    def run(
        self,
        side: int,
        times: int,
        *,
        pair: int = 0,
        order: int = UP,
        size: int = 1,
        apart: int = 0,
        hole: int = 1,
        later: int = SAME,
        ports: bool = False,
    ) -> Script:
        """Many segments behind a hole: about `times`, a multiple of 1 to 32; or many flows."""
        rounds = min(32, (times + 255) // 256)
        return self._add(
            Op.RUN,
            pair | side << 3 | later << 4,
            times // rounds - 1,
            order | (rounds - 1) << 2 | ports << 7,
            (size - 1) | apart << 8,
            hole,
        )

    def wait(self, milliseconds: int, *, tick: bool = True) -> Script:
        shift, count = 0, milliseconds * 1000
        while count > 0xFFFF:
            count >>= 1
            shift += 1
        return self._add(Op.WAIT, 0, shift | tick << 7, 0, count)

    def raw(self, frame: bytes, link_type: int = 1, later: int = SOON) -> Script:
        kind = LINK_TYPES.index(link_type)
        return self._add(Op.RAW, later << 4, kind, 0, len(frame), 0, frame)

    def ip(self, protocol: int, payload: bytes, *, pair: int = 0, side: int = 0) -> Script:
        return self._add(Op.IP, pair | side << 3, protocol, 0, len(payload), 0, payload)

    def hold(self) -> Script:
        return self._add(Op.HOLD)

    def fragment(
        self,
        at: int,
        length: int = 0,
        *,
        more: bool = False,
        last: bool = False,
        other: bool = False,
        behind: bool = False,
        ident: int = 0,
        later: int = SOON,
    ) -> Script:
        """`at` and `length` in units of 8 bytes; no length: up to the end."""
        how = more | last << 1 | other << 2 | behind << 3
        return self._add(Op.FRAGMENT, later << 4, at, length, how, ident)

    def datagram(self, side: int, length: int, *, pair: int = 0, later: int = SOON) -> Script:
        return self._add(Op.DATAGRAM, pair | side << 3 | later << 4, c=length)

    def read(self) -> Script:
        return self._add(Op.READ)

    def burst(self) -> Script:
        return self._add(Op.BURST)

    def close(self, reason: int = 6) -> Script:
        return self._add(Op.CLOSE, a=reason)

    def link(self, kind: Link, tag: int = 0, *, snap: int = 0, cut: int = 0) -> Script:
        return self._add(Op.LINK, 0, kind, tag, snap, cut)

    def options(self, data: bytes) -> Script:
        data += b"\x01" * (-len(data) % 4)
        return self._add(Op.OPTIONS, c=len(data), tail=data)

    def salt(self, value: int) -> Script:
        return self._add(Op.SALT, a=value)

    def icmp(self, kind: int = 3, code: int = 3, *, side: int = 1) -> Script:
        return self._add(Op.ICMP, side << 3, kind, code)

    # -- a few in one --

    def close_both(self, pair: int = 0, first: int = 0) -> Script:
        """FIN, FIN, and the last acknowledgement."""
        self.segment(first, flags="FA", pair=pair)
        self.segment(1 - first, flags="FA", pair=pair)
        return self.segment(first, pair=pair)

    def frames(self, many: Iterable[tuple[int, bytes]]) -> Script:
        """Captured frames, as (link type, bytes)."""
        for link_type, frame in many:
            if link_type in LINK_TYPES:
                self.raw(frame[:15000], link_type)
        return self
