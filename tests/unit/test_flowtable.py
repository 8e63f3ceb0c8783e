"""The flow table: entries that stay where they are, an index that forgets without tombstones."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest

from aiomos._engine._teststorage import TableHook

sys.path.append(str(Path(__file__).parents[1]))
from craft import TCP, datagram, frame, tcp

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"


CLIENT_PORTS = [((CLIENT, 30_000 + i), (SERVER, 80)) for i in range(2000)]
SERVER_PORTS = [((CLIENT, 80), (SERVER, 30_000 + i)) for i in range(2000)]
CLIENTS = [((f"10.0.{1 + (i >> 8)}.{i & 255}", 40_000), (SERVER, 80)) for i in range(2000)]
#: The two words of a seed that a key is multiplied with. Where a product alone was the place, each
#: of these put one of the sequences into few runs: 54 to 121 steps an entry.
UNLUCKY = [
    (0x454B8C65E9B3E3EA, 0xCD9CFDAEEB0BAB90),
    (0x5BCEB383E8CE8E03, 0x6B7CC0ED897FC734),
    (0x9D0F3A7ACBD0959A, 0x1FE3E6F71BC1A2FB),
    (0xB69899E9B2D60E17, 0xCC10D8840C520208),
    (0xF7DE26911290C728, 0x667FE7D53F308256),
]


def segment(src, dst):
    return frame(tcp(src[1], dst[1], ends=(src[0], dst[0])), (src[0], dst[0]), TCP)


def seed_of(a, b):
    return struct.pack("<QQ", a, b)


A4, B4 = ("10.0.0.1", 40000), ("10.0.0.2", 80)
A6, B6 = ("fd00::1", 40000), ("fd00::2", 80)


def test_empty_find_gives_nothing():
    assert TableHook(10).find(segment(A4, B4)) == 0


@pytest.mark.parametrize(("a", "b"), [(A4, B4), (B4, A4), (A6, B6), (B6, A6)])
def test_one_flow_is_found_from_both_ends(a, b):
    table = TableHook(10)
    number = table.add(segment(a, b))
    assert number == 1
    assert table.find(segment(a, b)) == number
    assert table.find(segment(b, a)) == number


@pytest.mark.parametrize(("a", "b"), [(A4, B4), (A6, B6)])
def test_one_flow_others_are_not_found(a, b):
    table = TableHook(10)
    table.add(segment(a, b))
    assert table.find(segment(a, (b[0], 81))) == 0
    assert table.find(segment((a[0], b[1]), (b[0], a[1]))) == 0
    assert table.find(datagram(b"", a, b)) == 0


def test_one_flow_unlinked_is_not_found_and_its_entry_waits_for_release():
    table = TableHook(10)
    number = table.add(segment(A4, B4))
    table.unlink(number)
    table.unlink(number)
    assert table.find(segment(A4, B4)) == 0
    assert table.counts()["linked"] == 0
    assert table.counts()["live"] == 1
    assert table.add(segment(A4, B4)) == 2
    table.release(number)
    assert table.counts()["live"] == 1
    assert table.add(segment(A6, B6)) == number


def test_full_add_is_refused_until_one_is_released():
    table = TableHook(3)
    assert [table.add((key, key)) for key in range(1, 5)] == [1, 2, 3, 0]
    assert table.counts()["refused"] == 1
    table.unlink(2)
    assert table.add((9, 9)) == 0
    table.release(2)
    assert table.add((9, 9)) == 2


def test_growing_index_keeps_all_flows():
    table = TableHook(50_000)
    random.seed(1)
    keys = [(i, random.getrandbits(32)) for i in range(1, 20_001)]
    numbers = [table.add(key) for key in keys]
    assert table.counts()["slots"] == 65536
    assert [table.find(key) for key in keys] == numbers


@pytest.mark.parametrize("hash_", [0, 4095, 0xFFFFFFFF, 0x12345678])
def test_equal_hashes_are_told_apart_by_their_keys(hash_):
    table = TableHook(1000)
    numbers = {key: table.add((key, hash_)) for key in range(1, 301)}
    for key in range(1, 301, 3):
        table.unlink(numbers.pop(key))
    for key in range(1, 301):
        assert table.find((key, hash_)) == numbers.get(key, 0)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_adding_and_unlinking_is_as_a_dictionary(seed):
    """Hashes from a few neighbouring homes at the end of the index: long runs that wrap."""
    rng = random.Random(seed)
    table = TableHook(4000)
    homes = [4090, 4093, 4094, 4095, 0, 1, 2, 5]
    there: dict[tuple[int, int], int] = {}
    for step in range(3000):
        key = (rng.randrange(400), rng.choice(homes) + 4096 * rng.randrange(3))
        if key in there and rng.random() < 0.7:
            number = there.pop(key)
            table.unlink(number)
            table.release(number)
        elif key not in there:
            there[key] = table.add(key)
        if step % 100 == 0:
            assert {k: table.find(k) for k in there} == there
    assert table.counts()["linked"] == len(there)
    for number in there.values():
        table.unlink(number)
        table.release(number)
    assert all(table.find((k, h)) == 0 for k in range(400) for h in homes)


@pytest.mark.parametrize("seed", UNLUCKY, ids=lambda seed: f"{seed[0]:x}")
@pytest.mark.parametrize(
    "ends", [CLIENT_PORTS, SERVER_PORTS, CLIENTS], ids=["client-ports", "server-ports", "clients"]
)
def test_ports_and_addresses_that_follow_each_other_are_scattered_whatever_the_seed(ends, seed):
    """What scans and new connections look like. Half a full index of random places needs half a
    step an entry."""
    table = TableHook(4000, seed_of(*seed))
    for source, destination in ends:
        table.add(segment(source, destination))
    assert table.counts()["slots"] == 4096
    assert table.steps() < 1.0 * len(ends)


def test_steps_are_counted():
    """The measure itself: a run of n entries of one home takes 0 + 1 + ... + (n - 1)."""
    table = TableHook(1000)
    for key in range(1, 101):
        table.add((key, 7))
    assert table.steps() == 100 * 99 // 2
