"""Blocks in powers of two under one budget."""

from __future__ import annotations

import pytest

from aiomos._engine._teststorage import PoolHook


@pytest.mark.parametrize(
    ("asked", "got"),
    [(0, 64), (1, 64), (64, 64), (65, 128), (2048, 2048), (2049, 4096), (1 << 26, 1 << 26)],
)
def test_fresh_get_rounds_up_to_a_power_of_two(asked, got):
    assert PoolHook().get(asked)[1] == got


def test_fresh_get_beyond_the_largest_block_is_refused():
    pool = PoolHook()
    assert pool.get((1 << 26) + 1) is None
    assert pool.counts()["refused"] == 1


def test_full_get_is_refused_and_changes_nothing():
    pool = PoolHook(budget=4096)
    pool.get(4096)
    before = pool.counts()
    assert pool.get(1) is None
    assert pool.counts() == {**before, "refused": 1}


def test_full_put_makes_room_again():
    pool = PoolHook(budget=4096)
    number, _ = pool.get(4096)
    pool.put(number)
    assert pool.get(4096) is not None


def test_used_put_brings_counts_to_zero():
    pool = PoolHook()
    numbers = [pool.get(size)[0] for size in (1, 100, 3000, 70000)]
    assert pool.counts()["used"] == 64 + 128 + 4096 + 131072
    assert pool.counts()["blocks"] == 4
    for number in numbers:
        pool.put(number)
    counts = pool.counts()
    assert (counts["used"], counts["blocks"]) == (0, 0)
    assert counts["peak"] == 64 + 128 + 4096 + 131072


def test_steady_get_and_put_ask_the_system_once():
    pool = PoolHook()
    for _ in range(100):
        number, _ = pool.get(2048)
        pool.put(number)
    assert pool.counts()["heap"] == 1


def test_cached_many_blocks_are_given_back_to_the_system():
    pool = PoolHook()
    numbers = [pool.get(1 << 20)[0] for _ in range(20)]
    for number in numbers:
        pool.put(number)
    for _ in range(20):
        pool.get(1 << 20)
    assert pool.counts()["heap"] == 20 + 12  # 8 MiB of a size are kept
