"""Answers to ethtool's requests as drivers give them whose devices are not here.

The kernel's side is played: a request's bytes go in, the bytes of struct ethtool_* come out, at
the address that the request names.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

import pytest

from aiomos import _ethtool
from aiomos._ethtool import Hardware, Offloads, Rss, asking, read_hardware
from aiomos._machine_net import Xdp, _xdp

Answer = Callable[[bytes], bytes]
GSET, GDRVINFO, GFLAGS, GRXFH, GGRO, GCHANNELS, GRSSH = 0x01, 0x03, 0x25, 0x29, 0x2B, 0x3C, 0x46
SYMMETRIC = b"\x6d\x5a" * 20
ORDINARY = bytes(range(40))


def play(monkeypatch: pytest.MonkeyPatch, answers: dict[int, Answer]) -> None:
    """Answers to these commands; all others are refused, as by a driver that lacks them."""

    def ioctl(_socket: object, request: int, ifreq: bytes) -> bytes:
        assert request == 0x8946
        name, address = struct.unpack("16sP16x", ifreq)
        assert name.rstrip(b"\0") == b"mirror0"
        (command,) = struct.unpack("=I", ctypes.string_at(address, 4))
        if command not in answers:
            raise OSError(95, "Operation not supported")
        asked = ctypes.string_at(address, 24)
        answer = answers[command](asked)
        ctypes.memmove(address, answer, len(answer))
        return ifreq

    monkeypatch.setattr(_ethtool.fcntl, "ioctl", ioctl)


def look() -> Hardware:
    with asking() as asked:
        return read_hardware(asked, "mirror0")


def rss(key: bytes, *, function: int = 1, transformation: int = 0, table: int = 128) -> Answer:
    """struct ethtool_rxfh: the sizes when none are given, else table and key."""

    def answer(asked: bytes) -> bytes:
        _, _, wanted, wanted_key = struct.unpack_from("=4I", asked)
        head = struct.pack("=4IBB6x", GRSSH, 0, table, len(key), function, transformation)
        if not wanted and not wanted_key:
            return head
        assert (wanted, wanted_key) == (table, len(key))
        return head + struct.pack(f"={table}I", *(n % 4 for n in range(table))) + key

    return answer


def hashing(bits: int) -> Answer:
    """struct ethtool_rxnfc: what goes into the hash of a kind of flow."""
    return lambda asked: asked[:8] + struct.pack("=Q", bits)


def test_driver_that_answers_nothing_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {})
    assert look() == Hardware()


def test_nic_of_25_gbit_with_separate_words_for_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = struct.pack("=I32s32s32s32s", GDRVINFO, b"ice", b"6.1", b"4.2", b"0000:03:00.0")
    speed = struct.pack("=3IHBB12xHxx", GSET, 0, 0, 100_000 & 0xFFFF, 1, 0, 100_000 >> 16)
    play(
        monkeypatch,
        {
            GDRVINFO: lambda _: driver,
            GSET: lambda _: speed,
            GGRO: lambda _: struct.pack("=II", GGRO, 1),
            GFLAGS: lambda _: struct.pack("=II", GFLAGS, 1 << 15 | 1 << 28),
            GCHANNELS: lambda _: struct.pack("=9I", GCHANNELS, 0, 0, 1, 16, 0, 0, 1, 4),
        },
    )
    found = look()
    assert (found.driver, found.bus, found.speed) == ("ice", "0000:03:00.0", 100_000)
    assert found.offloads == Offloads(gro=True, lro=True)
    assert (found.queues, found.queues_max, found.combined) == (4, 16, True)


def test_queues_for_receiving_apart_from_those_for_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = struct.pack("=9I", GCHANNELS, 8, 8, 0, 0, 2, 4, 0, 0)
    play(monkeypatch, {GCHANNELS: lambda _: channels})
    found = look()
    assert (found.queues, found.queues_max, found.combined) == (2, 8, False)


@pytest.mark.parametrize("speed", [0, 0xFFFF, 0xFFFFFFFF])
def test_unknown_speed_is_none(monkeypatch: pytest.MonkeyPatch, speed: int) -> None:
    answer = struct.pack("=3IHBB12xHxx", GSET, 0, 0, speed & 0xFFFF, 1, 0, speed >> 16)
    play(monkeypatch, {GSET: lambda _: answer})
    assert look().speed is None


@pytest.mark.parametrize(
    ("answer", "symmetric"),
    [
        (rss(SYMMETRIC), True),
        (rss(ORDINARY), False),
        (rss(SYMMETRIC[:-1] + b"\0"), False),
        (rss(SYMMETRIC, function=2), False),
        (rss(ORDINARY, transformation=1), True),
        (rss(b""), False),
    ],
    ids=["6d5a", "ordinary", "almost", "not Toeplitz", "symmetric XOR", "no key"],
)
def test_hash_is_symmetric_by_its_key_or_its_transformation(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, symmetric: bool
) -> None:
    play(monkeypatch, {GRSSH: answer, GRXFH: hashing(0xF0)})
    found = look().rss
    assert found is not None
    assert found.symmetric is symmetric
    assert (found.table, found.tcp_ports, found.udp_ports) == (128, True, True)


def test_hash_of_addresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {GRSSH: rss(SYMMETRIC, table=64), GRXFH: hashing(0x30)})
    assert look().rss == Rss(64, 40, True, False, False)


def test_driver_with_neither_table_nor_key_has_no_rss(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {GRSSH: rss(b"", table=0), GRXFH: hashing(0)})
    assert look().rss is None


@pytest.mark.parametrize(
    ("driver", "features", "known"),
    [
        ("i40e", None, Xdp(True, True)),
        ("veth", None, Xdp(True, False)),
        ("unheard_of", None, Xdp(None, None)),
        ("unheard_of", 0x0F, Xdp(True, True)),
        ("i40e", 0x01, Xdp(False, False)),
    ],
)
def test_mode_of_xdp_is_the_kernels_word_before_the_drivers_name(
    driver: str, features: int | None, known: Xdp
) -> None:
    assert _xdp({}, driver, features) == known
