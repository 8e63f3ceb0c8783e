"""The pcapng reader against blocks written here with struct, cut and damaged too."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.source import NO_TIME, RawFrame, SourceStats, open_files, read_all

END, CUT, CORRUPT = -1, -2, -8
T0 = 1_700_000_000
LIMIT = 2**62


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class Section:
    """Writes the blocks of one section in its byte order."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        body = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
        self.content = self.wrap(0x0A0D0D0A, body)

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout, *values)

    def wrap(self, kind: int, body: bytes) -> bytes:
        size = self.pack("I", len(body) + 12)
        return self.pack("I", kind) + size + body + size

    def add(self, kind: int, body: bytes) -> Section:
        self.content += self.wrap(kind, body)
        return self

    def options(self, *options: tuple[int, bytes]) -> bytes:
        if not options:
            return b""
        return b"".join(self.pack("HH", c, len(v)) + pad(v) for c, v in options) + bytes(4)

    def interface(self, link: int = 1, snap: int = 0, *options: tuple[int, bytes]) -> Section:
        return self.add(1, self.pack("HHI", link, 0, snap) + self.options(*options))

    def packet(
        self, data: bytes, ticks: int, *options: tuple[int, bytes], iface: int = 0, wire: int = 0
    ) -> Section:
        body = self.pack(
            "IIIII", iface, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), wire or len(data)
        )
        return self.add(6, body + pad(data) + self.options(*options))

    def old_packet(self, data: bytes, ticks: int, *options: tuple[int, bytes]) -> Section:
        body = self.pack("HHIIII", 0, 3, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), len(data) + 9)
        return self.add(2, body + pad(data) + self.options(*options))

    def simple_packet(self, data: bytes, wire: int) -> Section:
        return self.add(3, self.pack("I", wire) + pad(data))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.pcapng"


def read(
    path: Path, content: bytes, **options: int
) -> tuple[list[RawFrame], int, str, SourceStats]:
    path.write_bytes(content)
    with open_files(path, **options) as source:
        frames = read_all(source, check=False)
        assert source.stats().outstanding == 0
        return frames, source.result, source.message, source.stats()


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_of_all_three_kinds(path: Path, order: str) -> None:
    s = Section(order).interface(1, 8)
    s.packet(b"enhanced", T0 * 10**6 + 7, wire=99)
    s.old_packet(b"old", T0 * 10**6 + 8).simple_packet(b"simple p", 1000)
    frames, result, message, _ = read(path, s.content)
    assert (result, message) == (END, "")
    assert frames == [
        RawFrame(b"enhanced", T0 * 10**9 + 7000, 99, 1),
        RawFrame(b"old", T0 * 10**9 + 8000, 12, 1),
        RawFrame(b"simple p", NO_TIME, 1000, 1),
    ]


def resolution(value: int) -> tuple[int, bytes]:
    return 9, bytes([value])


@pytest.mark.parametrize(
    ("tsresol", "ticks", "ns"),
    [
        (0, T0, T0 * 10**9),
        (3, T0 * 10**3 + 5, T0 * 10**9 + 5_000_000),
        (6, T0 * 10**6 + 5, T0 * 10**9 + 5000),
        (9, T0 * 10**9 + 5, T0 * 10**9 + 5),
        (10, T0 * 10**10 + 59, T0 * 10**9 + 5),
        (19, 12_345_678_901_234_567_890, 1_234_567_890),
        (28, 2**64 - 1, (2**64 - 1) // 10**19),
        (100, 2**64 - 1, 0),
        (0x80, T0, T0 * 10**9),
        (0x80 | 10, T0 << 10 | 512, T0 * 10**9 + 500_000_000),
        (0x80 | 32, T0 << 32 | 1 << 31, T0 * 10**9 + 500_000_000),
        (0x80 | 63, 1 << 62, 500_000_000),
        (0x80 | 127, 2**64 - 1, 0),
        (6, 2**63 - 1, LIMIT),
        (9, LIMIT + 1, LIMIT),
        (0x80, 2**62, LIMIT),
        # before 1970, as machines with a wrong clock write it
        (6, 2**64 - 5, -5000),
        (9, 2**64 - 1, -1),
        (0, 2**64 - T0, -T0 * 10**9),
        (0x80, 2**64 - 3, -3 * 10**9),
    ],
)
def test_time_resolution_gives_nanoseconds(path: Path, tsresol: int, ticks: int, ns: int) -> None:
    s = Section().interface(1, 0, resolution(tsresol)).packet(b"x", ticks)
    assert read(path, s.content)[0][0].time_ns == ns


@pytest.mark.parametrize(("offset", "ns"), [(T0, (T0 + 1) * 10**9), (-3, -2 * 10**9)])
def test_time_offset_is_added(path: Path, offset: int, ns: int) -> None:
    s = Section().interface(1, 0, (14, struct.pack("<q", offset))).packet(b"x", 10**6)
    assert read(path, s.content)[0][0].time_ns == ns


@pytest.mark.parametrize(("offset", "ns"), [(2**63 - 1, LIMIT), (-(2**63), -LIMIT)])
def test_time_beyond_the_limit_stops_there(path: Path, offset: int, ns: int) -> None:
    s = Section().interface(1, 0, (14, struct.pack("<q", offset))).packet(b"x", 10**6)
    assert read(path, s.content)[0][0].time_ns == ns


def test_precision_is_that_of_the_finest_interface(path: Path) -> None:
    path.write_bytes(Section().interface().interface(1, 0, resolution(9)).packet(b"x", 1).content)
    with open_files(path) as source:
        assert source.time_precision == 1
    path.write_bytes(Section().interface(1, 0, resolution(3)).packet(b"x", 1).content)
    with open_files(path) as source:
        assert source.time_precision == 1_000_000


def test_interfaces_have_their_own_link_types_and_ports(path: Path) -> None:
    s = Section().interface(1).interface(113).interface(101, 0, resolution(9))
    s.packet(b"a", 1, iface=2).packet(b"b", 1, iface=0).packet(b"c", 1, iface=1)
    frames = read(path, s.content)[0]
    assert [(f.link_type, f.port, f.time_ns) for f in frames] == [
        (101, 2, 1),
        (1, 0, 1000),
        (113, 1, 1000),
    ]


def test_sections_of_both_byte_orders_number_interfaces_on(path: Path) -> None:
    first = Section("<").interface(1).packet(b"one", 1)
    second = Section(">").interface(113).packet(b"two", 2)
    third = Section("<").interface(1).packet(b"three", 3)
    frames, result, _, _ = read(path, first.content + second.content + third.content)
    assert result == END
    assert [(f.data, f.link_type, f.port) for f in frames] == [
        (b"one", 1, 0),
        (b"two", 113, 1),
        (b"three", 1, 2),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_flags_option_gives_direction(path: Path, order: str) -> None:
    s = Section(order).interface()
    comment = (1, b"a comment")
    for flags in range(4):
        s.packet(b"data", 1, comment, (2, s.pack("I", flags | 0x60)))
    s.old_packet(b"data", 1, (2, s.pack("I", 2))).packet(b"data", 1, comment)
    assert [f.direction for f in read(path, s.content)[0]] == [0, 1, 2, 0, 2, 0]


def test_damaged_options_do_not_lose_the_packet(path: Path) -> None:
    s = Section().interface()
    s.add(6, s.pack("IIIII", 0, 0, 1, 4, 4) + b"data" + s.pack("HH", 2, 4000))
    assert [f.data for f in read(path, s.content)[0]] == [b"data"]


@pytest.mark.parametrize("window", [0, 64])
def test_unknown_blocks_are_passed_over(path: Path, window: int) -> None:
    s = Section().add(0x8000_0001, b"x" * 400).interface().add(10, b"secret12")
    s.packet(b"one", 1).add(0x0BAD, bytes(1 << 20)).packet(b"two", 2).add(4, bytes(8))
    frames, result, _, _ = read(path, s.content, window_size=window)
    assert ([f.data for f in frames], result) == ([b"one", b"two"], END)


def test_statistics_give_drops_not_counted_twice(path: Path) -> None:
    s = Section().interface().interface()

    def statistics(iface: int, ifdrop: int, osdrop: int) -> None:
        options = s.options((5, s.pack("Q", ifdrop)), (7, s.pack("Q", osdrop)))
        s.add(5, s.pack("III", iface, 0, 1) + options)

    statistics(0, 5, 10)
    statistics(0, 7, 20)
    statistics(1, 1, 2**64 - 1)
    statistics(9, 100, 100)
    stats = read(path, s.content)[3]
    assert (stats.dropped_nic, stats.dropped_kernel) == (8, 20)


def whole() -> tuple[bytes, list[int]]:
    s = Section().interface(1, 0, resolution(9))
    ends = []
    for i in range(3):
        s.packet(b"p" * (7 * i + 1), i, (2, s.pack("I", 1)))
        ends.append(len(s.content))
        s.add(0x0BAD, bytes(20))
    return s.simple_packet(b"last", 4).content, ends


@pytest.mark.parametrize("window", [0, 64])
def test_cut_at_every_offset_gives_complete_frames(path: Path, window: int) -> None:
    content, ends = whole()
    boundaries = {28, 28 + 32, len(content), *ends, *(end + 32 for end in ends)}
    for size in range(len(content)):
        if size < 28:
            with pytest.raises(SourceError, match=r"empty file|only \d byte|cut off in the file"):
                read(path, content[:size])
            continue
        frames, result, message, _ = read(path, content[:size], window_size=window)
        assert len(frames) == sum(end <= size for end in ends)
        assert result == (END if size in boundaries else CUT)
        assert (message == "") == (result == END)


def damaged(kind: int, body: bytes, length: int | None = None, trailer: int | None = None) -> bytes:
    s = Section().interface().packet(b"good", 1)
    size = len(body) + 12
    first = struct.pack("<II", kind, size if length is None else length)
    return s.content + first + body + struct.pack("<I", size if trailer is None else trailer)


EPB = struct.pack("<IIIII", 0, 0, 1, 4, 4) + b"data"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (damaged(6, EPB, length=7), "a length of 7"),
        (damaged(6, EPB, length=37), "a length of 37"),
        (damaged(6, EPB, length=0xFFFF_FFFC), "a length of 4294967292"),
        (damaged(0xBAD, EPB, length=8), "a length of 8"),
        (damaged(6, EPB, trailer=40), "different lengths"),
        (damaged(6, bytes(8)), "a packet block of length 20"),
        (damaged(3, b""), "a simple packet block of length 12"),
        (damaged(1, bytes(4)), "an interface description of length 16"),
        (damaged(6, struct.pack("<IIIII", 0, 0, 1, 5, 5) + b"data"), "a captured length of 5"),
        (damaged(6, struct.pack("<IIIII", 9, 0, 1, 4, 4) + b"data"), "not described: 9"),
        (damaged(3, struct.pack("<I", 50) + b"data"), "a captured length of 50"),
        (damaged(0x0A0D0D0A, bytes(16)), "byte-order magic"),
        (
            damaged(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1)),
            "pcapng of version 2",
        ),
    ],
)
def test_damage_is_told_with_its_offset_after_what_precedes(
    path: Path, content: bytes, words: str
) -> None:
    frames, result, message, _ = read(path, content)
    assert [f.data for f in frames] == [b"good"]
    assert result == CORRUPT
    assert f"byte {len(damaged(1, b'')) - 12} " in message
    assert words in message


def test_packet_before_any_interface_is_corrupt(path: Path) -> None:
    frames, result, message, _ = read(path, Section().packet(b"x", 1).content)
    assert (frames, result) == ([], CORRUPT)
    assert "not described" in message


@pytest.mark.parametrize("window", [64, 100, 1000])
def test_small_windows_change_nothing(path: Path, window: int) -> None:
    s = Section().interface()
    for i in range(200):
        s.packet(bytes([i]) * (i * 37 % 1500), i)
    wanted = read(path, s.content)
    assert len(wanted[0]) == 200
    assert read(path, s.content, window_size=window) == wanted
